"""Operators on fake tensors by a shorter way than FakeTensorMode's, to the same tensors and storages.

The mode finds the result of an operator by a key made from all that its arguments have, and that takes more
than half of the time that a step takes on shapes alone. Most operators of a step are views and writes in
place, whose results need no finding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, in_kernel_invocation_manager

_aten = torch.ops.aten

IN_PLACE = {  # they write into their first argument, which they return
    _aten.add_.Tensor,
    _aten.addmm_.default,
    _aten.copy_.default,
    _aten.exp_.default,
    _aten.mul_.Tensor,
    _aten.zero_.default,
}
VIEWS = {  # of their first argument
    _aten.detach.default,
    _aten.expand.default,
    _aten.permute.default,
    _aten.select.int,
    _aten.slice.Tensor,
    _aten.t.default,
    _aten.transpose.int,
    _aten.unsqueeze.default,
    _aten.view.default,
}
MADE_OF_OTHERS = {  # by PyTorch, in C++
    _aten.flatten.using_ints,
    _aten.to.dtype,
    _aten.unflatten.int,
}
_SAMPLER = _aten.grid_sampler_2d.default  # whose fake tensors take PyTorch 50 operators to find


def run_on_shapes(func: Any, args: Any, kwargs: Any) -> Any:
    """Return what an operator makes of fake tensors; to be called inside their mode."""
    first = args[0] if args else None
    if not isinstance(first, FakeTensor) or first.constant is not None:  # the mode keeps known numbers
        return func(*args, **kwargs)
    if func in IN_PLACE:
        return first
    if func in VIEWS:
        return _view(func, first, args, kwargs)
    if func in MADE_OF_OTHERS:
        return func.decompose(*args, **kwargs)
    if func is _SAMPLER:
        return first.new_empty(*first.shape[:2], *args[1].shape[1:3])
    return func(*args, **kwargs)


def _view(func: Any, whole: FakeTensor, args: Any, kwargs: Any) -> Tensor:
    mode = whole.fake_mode
    with in_kernel_invocation_manager(mode):
        view = func(*args, **kwargs)
    return FakeTensor(mode, view, whole.fake_device)
