"""Steps whose gradients are NaN or infinite: skipped, named, counted, and too many of them end the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from deblurkit.errors import DeblurkitError
from deblurkit.training.sharding import whole
from deblurkit.units import plural

if TYPE_CHECKING:
    from deblurkit.config.sections.train import TrainSection

_HALVINGS = 16  # from float16's first loss scale, 65536, down to 1: overflows on that way are its search


class Arrival(Protocol):
    """When what was copied to the host is there; CUDA's events are of this kind."""

    def synchronize(self) -> None:
        """Wait until it is."""


@dataclass(frozen=True)
class GradientNorms:
    """L2 norms of the gradients of a step, on their device.

    Attributes:
        names: of the parameters that have a gradient.
        each: norm of each of them, (N,); NaN or infinite where a value is, or where the sum of squares is.
        total: the norm of all together, a scalar: what ``clip_grad_norm_`` calls the total norm.
    """

    names: Sequence[str]
    each: Tensor
    total: Tensor

    @classmethod
    def of(cls, named: Sequence[tuple[str, nn.Parameter]]) -> GradientNorms:
        """Return the norms of the parameters that have a gradient; nothing waits for the device.

        Of a sharded network they are those of the whole gradients, the same on every rank.
        """
        with_gradient = [(name, p.grad) for name, p in named if p.grad is not None]
        if not with_gradient:
            return cls((), torch.zeros(0), torch.zeros(()))
        names, gradients = zip(*with_gradient, strict=True)
        each = whole(torch.stack(torch._foreach_norm(gradients)))
        return cls(names, each, torch.linalg.vector_norm(each))


@dataclass(frozen=True)
class _Seen:
    """The norms of a step on their way to the host: (N + 1,), the total last."""

    step: int
    names: Sequence[str]
    norms: Tensor
    arrival: Arrival | None


def cuda_arrival(device: torch.device) -> Arrival | None:
    """Return an event behind all that was asked of a GPU so far; None where nothing runs behind."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event


class NonFiniteGuard:
    """Judges each step by the norms of its gradients.

    What decides is the gradients: after DistributedDataParallel's all-reduce they are the same on every rank,
    so that all ranks skip the same steps. (A rank's own loss would not do; one that is NaN makes gradients
    NaN.)

    On a GPU the step is skipped there, by the optimiser's kernel, and nothing waits for it: the norms come to
    the host behind it and are read a step later, when the next step's backward pass has already been handed
    to the GPU. So a skipped step is told, and a run ended, one step late; the weights are those from before.

    Attributes:
        skipped: steps of the run that were skipped.
        in_a_row: those since the last good one.
        last_skipped_step: number of the last of them, None before the first.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        max_in_a_row: int,
        warn: Callable[[str], None],
        arrival: Callable[[torch.device], Arrival | None] = cuda_arrival,
    ) -> None:
        """Watch the parameters of ``model``, which is not wrapped, so that the names are its own.

        Args:
            model: its parameters stay the same objects.
            max_in_a_row: bad steps one after the other that do not end the run.
            warn: told of every step that was skipped.
            arrival: marks when a copy from a device has arrived.
        """
        self.named_parameters = tuple(model.named_parameters())
        self.skipped = 0
        self.in_a_row = 0
        self.last_skipped_step: int | None = None
        self._max_in_a_row = max_in_a_row
        self._warn = warn
        self._arrival = arrival
        self._coming: _Seen | None = None

    @classmethod
    def from_section(
        cls, section: TrainSection, model: nn.Module, *, warn: Callable[[str], None]
    ) -> NonFiniteGuard | None:
        """Return the guard that TRAIN.NONFINITE_GUARD and MAX_SKIPPED_STEPS ask for, None for none.

        float16 finds its loss scale by overflowing: the halvings down to a scale of 1 do not count.
        """
        if not section.nonfinite_guard:
            return None
        is_scaled = section.amp_enabled and section.amp_opt_level != "O0" and section.amp_dtype == "fp16"
        allowed = section.max_skipped_steps + (_HALVINGS if is_scaled else 0)
        return cls(model, max_in_a_row=allowed, warn=warn)

    def watch(self, step: int, norms: GradientNorms) -> None:
        """Take the norms of ``step``; judge it now where they are on the host, else the step before it.

        Raises:
            DeblurkitError: after too many bad steps in a row, or when weights are not finite themselves.
        """
        if not norms.names:
            return
        values = torch.cat([norms.each.detach(), norms.total.detach()[None]])
        seen = _Seen(
            step, norms.names, values.to("cpu", non_blocking=True), self._arrival(norms.total.device)
        )
        self.settle()
        self._coming = seen
        if seen.arrival is None:
            self.settle()

    def settle(self) -> None:
        """Judge the step that is still on its way from the GPU, if there is one; this waits for it.

        Raises:
            DeblurkitError: as `watch` does.
        """
        seen, self._coming = self._coming, None
        if seen is None:
            return
        if seen.arrival is not None:
            seen.arrival.synchronize()
        self._judge(seen)

    def state_dict(self) -> dict[str, Any]:
        """Return the counts as plain values, with the last step's."""
        self.settle()
        return {
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
            "last_skipped_step": self.last_skipped_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the counts of `state_dict`; an empty one, of a run that had no guard, leaves them at 0."""
        self._coming = None
        self.skipped = state.get("skipped", 0)
        self.in_a_row = state.get("in_a_row", 0)
        self.last_skipped_step = state.get("last_skipped_step")

    def _judge(self, seen: _Seen) -> None:
        if bool(seen.norms.isfinite().all()):
            self.in_a_row = 0
            return
        self.skipped += 1
        self.in_a_row += 1
        self.last_skipped_step = seen.step
        finite = seen.norms[:-1].isfinite().tolist()
        bad = [name for name, is_finite in zip(seen.names, finite, strict=True) if not is_finite]
        what = f"step {seen.step}: {_gradients(bad)}"
        self._require_finite_weights(seen.step)
        if self.in_a_row > self._max_in_a_row:
            raise DeblurkitError(
                f"{what}; {plural(self.in_a_row, 'step')} in a row were skipped (TRAIN.MAX_SKIPPED_STEPS) and"
                " the weights are those from before. Lower TRAIN.OPTIM.LR or TRAIN.MAX_GRAD_NORM, or set"
                " TRAIN.AMP_DTYPE=bf16 or TRAIN.AMP_ENABLED=false, and go on with --resume auto"
            )
        self._warn(f"{what}; step skipped ({self.skipped} so far)")

    def _require_finite_weights(self, step: int) -> None:
        """Raise if no skipping helps any more; asked only of a bad step, as it reads all weights."""
        finite = whole(torch.stack([p.detach().isfinite().all() for _, p in self.named_parameters])).tolist()
        bad = [
            name for (name, _), is_finite in zip(self.named_parameters, finite, strict=True) if not is_finite
        ]
        if bad:
            raise DeblurkitError(
                f"step {step}: the weights of {_module(bad[0])} are not finite (first of"
                f" {plural(len(bad), 'parameter')}), so every further step would fail. Lower TRAIN.OPTIM.LR"
                " or turn TRAIN.AMP_ENABLED off, and go on from a checkpoint before with --resume auto"
            )


def _gradients(bad: Sequence[str]) -> str:
    """Return in words whose gradients are not finite; none where only their total is too large."""
    if not bad:
        return "the total norm of the gradients overflows"
    count = plural(len(bad), "parameter")
    return f"gradient of {_module(bad[0])} is not finite (first of {count}: {bad[0]})"


def _module(parameter: str) -> str:
    """Return the module that holds a parameter, by the parameter's name."""
    return parameter.rpartition(".")[0] or parameter
