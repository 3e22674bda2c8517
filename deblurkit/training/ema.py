"""A running mean of the weights over the steps, to validate and to publish instead of the last ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from deblurkit.errors import CheckpointError

_RAMP = 10  # steps: the mean of a run's beginning forgets as fast as the weights still move


class Ema:
    """Exponential moving average of a network's weights; the decay rises as TensorFlow's does.

    Held as plain tensors under the names of ``model.state_dict()``, so that ``model.load_state_dict`` takes
    what `state_dict` returns. Whole numbers, and tensors of a network that are not weights, are copied.

    Attributes:
        decay: share of the mean that a step leaves, once the ramp of the first steps is over.
    """

    def __init__(self, model: nn.Module, *, decay: float, device: torch.device | None = None) -> None:
        """Start from the weights as they are.

        Args:
            model: the network, not wrapped.
            decay: in 0..1; 0.999 is a mean over about 1000 steps.
            device: where the mean is kept; None is beside each weight. Another one costs a copy a step.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"expected a decay from 0 up to below 1, got {decay}")
        self.decay = decay
        self._device = device
        self._mean: dict[str, Tensor] = {}
        self.restart(model)

    @torch.no_grad()
    def restart(self, model: nn.Module) -> None:
        """Forget the mean and start from the weights as they are."""
        self._mean = {
            name: value.detach().to(self._device or value.device, copy=True)
            for name, value in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step ``step``, counted from 1.

        The decay is min(decay, (1 + step) / (10 + step)); it rests on the step alone, so that a resumed run
        goes on exactly.
        """
        weights = dict(model.named_parameters(remove_duplicate=False))
        names = [name for name in weights if weights[name].is_floating_point()]
        means = [self._mean[name] for name in names]
        now = [weights[name].detach().to(self._mean[name].device) for name in names]
        torch._foreach_lerp_(means, now, 1 - self.decay_at(step))
        for name, value in model.state_dict().items():
            if name not in weights or not value.is_floating_point():
                self._mean[name].copy_(value)

    def decay_at(self, step: int) -> float:
        """Return the decay of a step."""
        return min(self.decay, (1 + step) / (_RAMP + step))

    @contextlib.contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Have the mean in ``model`` inside the block; afterwards, and on any error, what was there before.

        Values move, tensors stay: what holds a weight (an optimiser, a graph) goes on holding it.
        """
        own = model.state_dict()
        before = {name: value.clone() for name, value in own.items()}
        try:
            _copy(self._mean, own)
            yield
        finally:
            _copy(before, own)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the mean under the names of the network's weights; not copied."""
        return dict(self._mean)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up a mean that `state_dict` has returned.

        Raises:
            CheckpointError: if it is another network's; nothing is changed then.
        """
        wrong = sorted(state.keys() ^ self._mean.keys())
        wrong += [name for name in state if name not in wrong and state[name].shape != self._mean[name].shape]
        if wrong:
            raise CheckpointError(
                f"the checkpoint's running mean (TRAIN.EMA_DECAY) does not fit the MODEL section: {wrong[0]}"
                f" and {len(wrong) - 1} more differ; resume with the network that it was made of"
            )
        _copy(state, self._mean)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, value in target.items():
        value.copy_(source[name])
