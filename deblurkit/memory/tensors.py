"""What tensors hold while a step runs: every storage followed from its first sight to its end, by owner.

The same code follows real tensors on a CPU and fake ones, which have shapes and no memory. A custom operator
of ours is run by its Python body, so that what it uses inside is seen; what PyTorch's own kernels use inside
is not.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from deblurkit.memory.short_ways import run_on_shapes
from deblurkit.models.vrt import kernels
from deblurkit.timing.module_times import is_in_backward, tensors_in

GRANULE = 512  # bytes: what PyTorch's CUDA allocator rounds each request up to
PARAMETERS, GRADIENTS, INPUTS = "parameters", "gradients", "inputs"
TEMPORARIES, CONSTANTS, ACTIVATIONS = "temporaries", "constants", "activations"

_OPERATORS = (
    kernels.biased_attention,
    kernels.biased_attention_backward,
    kernels.mutual_attention,
    kernels.mutual_attention_backward,
)

_DEVICE = torch.ops.prim.device.default  # asked of fake tensors at every turn


@dataclass(frozen=True)
class Peak:
    """The most that tensors have held since one looked before.

    Attributes:
        peak_bytes: all together.
        by_owner: bytes of each owner at that moment.
    """

    peak_bytes: int
    by_owner: Mapping[str, int]


def rounded(count: int) -> int:
    """Return the bytes that a request for ``count`` takes; none for none."""
    return -(-count // GRANULE) * GRANULE


class StorageTracker(TorchDispatchMode):
    """Adds up the storages that are alive; use it as a context, inside a FakeTensorMode for fake tensors.

    What an operator makes belongs to the innermost `owner` block; in a backward pass to the temporaries.

    Attributes:
        held: bytes alive now.
        outside: owner of what is made outside of all `owner` blocks.
        peaks: of every `phase` that has ended, the largest where one has come several times.
    """

    def __init__(self, kept: Iterable[Tensor] = (), *, fake: FakeTensorMode | None = None) -> None:
        """Begin with the tensors that are there already.

        Args:
            kept: those tensors; they have no owner yet.
            fake: mode that the tensors are of; real ones among them, such as masks that are kept for all
                steps, are then taken as fake ones too.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._fake = fake
        self._entered = 0  # times: the body of an operator is run in here too
        self._taken_as: dict[int, tuple[Tensor, Tensor]] = {}  # by id: a real tensor, and its fake one
        self._owner_of: dict[int, tuple[str, int]] = {}
        self._held: Counter[str] = Counter()
        self._owners: list[str] = []
        self._at_peak: dict[str, int] | None = {}
        self._peak = 0
        self.held = 0
        self.outside = TEMPORARIES
        self.peaks: dict[str, Peak] = {}
        self._bodies: dict[Any, Callable[..., Any]] = {op._opoverload: op._init_fn for op in _OPERATORS}
        self.assign(CONSTANTS, kept)

    def __enter__(self) -> StorageTracker:
        self._entered += 1
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._entered -= 1
        if not self._entered:
            self._taken_as.clear()

    @property
    def by_owner(self) -> dict[str, int]:
        """Bytes alive now of each owner."""
        return {owner: count for owner, count in self._held.items() if count}

    def assign(self, owner: str, tensors: Iterable[Tensor]) -> None:
        """Give the storages of ``tensors`` to an owner, whoever had them; those not met yet are counted."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            known = self._owner_of.get(storage._cdata)
            if known is None:
                self._meet(storage, owner)
            elif known[0] != owner:
                self._note_peak()
                self._held[known[0]] -= known[1]
                self._held[owner] += known[1]
                self._owner_of[storage._cdata] = owner, known[1]

    def take_peak(self) -> Peak:
        """Return the most that was held since this was asked before."""
        self._note_peak()
        assert self._at_peak is not None
        peak = Peak(self._peak, self._at_peak)
        self._peak, self._at_peak = self.held, None
        return peak

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Note the most that is held inside the block in `peaks`."""
        self.take_peak()
        yield
        peak, before = self.take_peak(), self.peaks.get(name)
        if before is None or before.peak_bytes < peak.peak_bytes:
            self.peaks[name] = peak

    @contextlib.contextmanager
    def owner(self, name: str) -> Iterator[None]:
        """Have what is made inside the block belong to ``name``."""
        self._owners.append(name)
        try:
            yield
        finally:
            self._owners.pop()

    @contextlib.contextmanager
    def following(self, model: nn.Module, rows: Mapping[nn.Module, str]) -> Iterator[None]:
        """Inside the block, tell apart what ``model`` is given, what modules make, and its gradients.

        Args:
            model: its weights, buffers and gradients get owners of their own.
            rows: owner of what a module makes in a forward pass; the innermost module counts.
        """
        self.assign(PARAMETERS, [*model.parameters(), *model.buffers()])
        handles = [*self._module_hooks({model: ACTIVATIONS, **rows}), *self._gradient_hooks(model)]
        handles.append(model.register_forward_pre_hook(self._given, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _module_hooks(self, rows: Mapping[nn.Module, str]) -> Iterator[Any]:
        for module, row in rows.items():
            yield module.register_forward_pre_hook(lambda *_, row=row: self._owners.append(row))
            yield module.register_forward_hook(self._leave, always_call=True)

    def _gradient_hooks(self, model: nn.Module) -> Iterator[Any]:
        for weights in model.parameters():
            yield weights.register_post_accumulate_grad_hook(self._accumulated)

    def _leave(self, *_: Any) -> None:
        self._owners.pop()

    def _given(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.assign(INPUTS, tensors_in((args, kwargs)))

    def _accumulated(self, weights: Tensor) -> None:
        if weights.grad is not None:
            self.assign(GRADIENTS, [weights.grad])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        given = list(tensors_in((args, kwargs)))
        if self._fake is not None and any(type(tensor) is not FakeTensor for tensor in given):
            args, kwargs = tree_map_only(Tensor, self._as_fake, (args, kwargs))
            given = list(tensors_in((args, kwargs)))
        self._meet_new(given, CONSTANTS)
        out = self._run(func, args, kwargs or {})
        self._meet_new(tensors_in(out), self._maker())
        return out

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        body = self._bodies.get(func)
        if body is not None:
            with self:
                return body(*args, **kwargs)
        return func(*args, **kwargs) if self._fake is None else run_on_shapes(func, args, kwargs)

    def _as_fake(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        assert self._fake is not None
        if id(tensor) not in self._taken_as:
            with unset_fake_temporarily():
                self._taken_as[id(tensor)] = tensor, self._fake.from_tensor(tensor)
        return self._taken_as[id(tensor)][1]

    def _maker(self) -> str:
        if is_in_backward():
            return TEMPORARIES
        return self._owners[-1] if self._owners else self.outside

    def _meet_new(self, tensors: Iterable[Tensor], owner: str) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._owner_of:
                self._meet(storage, owner)

    def _meet(self, storage: torch.UntypedStorage, owner: str) -> None:
        key, size = storage._cdata, rounded(storage.nbytes())
        self._owner_of[key] = owner, size
        self._held[owner] += size
        self.held += size
        if self.held > self._peak:
            self._peak, self._at_peak = self.held, None
        weakref.finalize(storage, self._part, key)

    def _part(self, key: int) -> None:
        self._note_peak()
        owner, size = self._owner_of.pop(key)
        self._held[owner] -= size
        self.held -= size

    def _note_peak(self) -> None:
        """Write down who holds what while that is still what it was at the peak."""
        if self._at_peak is None:
            self._at_peak = self.by_owner


class MemoryClock:
    """A clock whose marks say how much memory tensors held since the mark before; use it as a context.

    On a GPU the allocator knows. On a CPU every storage is followed to its end.

    Args:
        device: where the step runs.
        kept: tensors that are there already, such as weights and the optimiser's state.
        tracker: that follows the storages; a new one by default.
    """

    name = "memory"

    def __init__(
        self, device: torch.device, kept: Iterable[Tensor] = (), *, tracker: StorageTracker | None = None
    ) -> None:
        self._device = device
        self._live = None if device.type == "cuda" else tracker or StorageTracker()
        self._open = contextlib.ExitStack()
        if self._live is not None:
            self._live.assign(CONSTANTS, kept)

    def __enter__(self) -> MemoryClock:
        if self._live is not None:
            self._open.enter_context(self._live)
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.close()

    def mark(self) -> Peak:
        """Return the most memory held since the last mark, and begin anew."""
        if self._live is not None:
            return self._live.take_peak()
        peak = torch.cuda.max_memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        return Peak(peak, {})

    def elapsed(self, start: Peak, end: Peak) -> float | None:
        """Return None: memory has no duration."""
        return None

    def release(self, marks: Iterable[Peak]) -> None:
        """Do nothing: numbers need no taking back."""

    def wait(self) -> None:
        """Return at once."""
