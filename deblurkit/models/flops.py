"""Floating-point operations of a network: its products and what it samples, counted from shapes alone.

A multiply-add is two operations, as PyTorch's counter has it; norms, activations and sums count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import deblurkit.models.vrt.kernels  # noqa: F401  its operators are looked up by name

Shape = Sequence[int]
Formula = Callable[..., int]

CORNERS = {0: 4, 1: 1, 2: 16}  # pixels that a sample is made of: bilinear, nearest, bicubic
_FORWARD_PRODUCTS = 2  # of attention: q k' and what multiplies v
_BACKWARD_PRODUCTS = 5  # q k' again, and the gradients of q, k, v and of the scores


def flop_counter() -> FlopCounterMode:
    """Return PyTorch's counter with the operators that it lacks, and what it counts wrongly, added."""
    return FlopCounterMode(display=False, custom_mapping=_formulas())


def count_flops(function: Callable[[], Any]) -> int:
    """Return the floating-point operations of all that ``function`` runs, its backward pass included.

    With fake tensors inside, nothing is computed.
    """
    with flop_counter() as counter:
        function()
    return counter.get_total_flops()


def model_flops(
    model_factory: Callable[[], nn.Module], clip_shape: Shape, *, spikes_shape: Shape | None = None
) -> int:
    """Return the operations of one forward pass without computing or storing it.

    The weights and inputs are fake, and everything that depends on shapes alone is real: a network may cache
    its indices and masks, and looks at their values when it lays out its windows.

    Args:
        model_factory: returns a new network.
        clip_shape: (B, T, 3, H, W).
        spikes_shape: (B, T, K, h, w), for a network that takes spikes.
    """
    return module_flops(model_factory, clip_shape, spikes_shape=spikes_shape)[""]


def module_flops(
    model_factory: Callable[[], nn.Module], clip_shape: Shape, *, spikes_shape: Shape | None = None
) -> dict[str, int]:
    """Return the operations of one forward pass in each module, by its path; all of them under ``""``.

    Args:
        model_factory: as in `model_flops`, and so are the others.
        clip_shape: (B, T, 3, H, W).
        spikes_shape: (B, T, K, h, w).
    """
    with torch.device("meta"):
        model = model_factory()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.eval().to_empty(device="cpu")
        shapes = [clip_shape] if spikes_shape is None else [clip_shape, spikes_shape]
        inputs = [torch.empty(tuple(shape)) for shape in shapes]
    with torch.no_grad(), flop_counter() as counter:
        model(*inputs)
    return _by_path(counter)


def _by_path(counter: FlopCounterMode) -> dict[str, int]:
    """Return what was counted by path of a module; the counter puts the name of the network before it."""
    found = {"": counter.get_total_flops()}
    for name, operators in counter.get_flop_counts().items():
        _, dot, path = name.partition(".")
        if dot:
            found[path] = sum(operators.values())
    return found


def tmac(flops: int) -> float:
    """Return operations as 10^12 multiply-adds."""
    return flops / 2e12


def _formulas() -> dict[Any, Formula]:
    """Return what PyTorch's counter lacks or gets wrong; each takes its arguments, tensors as shapes."""
    ours, aten = torch.ops.deblurkit, torch.ops.aten
    formulas: dict[Any, Formula] = {
        ours.biased_attention: _biased,
        ours.biased_attention_backward: _biased_backward,
        ours.mutual_attention: _mutual,
        ours.mutual_attention_backward: _mutual_backward,
        aten.convolution_backward: _convolution_backward,
        aten.grid_sampler_2d: _samples,
        aten.cudnn_grid_sampler: _samples,
        aten.grid_sampler_2d_backward: _samples_backward,
        aten.cudnn_grid_sampler_backward: _samples_backward,
    }
    if hasattr(torch.ops.torchvision, "deform_conv2d"):  # once torchvision is imported
        formulas[torch.ops.torchvision.deform_conv2d] = _deformable
        formulas[torch.ops.torchvision._deform_conv2d_backward] = _deformable_backward
    return formulas


def _convolution_backward(
    grad: Shape,
    x: Shape,
    weight: Shape,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *_: Any,
    out_shape: Sequence[Shape | None],
    **__: Any,
) -> int:
    """Return a product as large as the forward one for each gradient that is asked for.

    PyTorch's own formula leaves the groups out, and counts a depthwise layer's weights many times over.
    """
    places = x if transposed else grad
    product = 2 * places[0] * math.prod(places[2:]) * math.prod(weight)
    return product * sum(shape is not None for shape in out_shape[:2])


def _attention(windows: int, tokens: int, channels: int) -> int:
    """Return the operations of attention of every token to every one of its window."""
    return 2 * _FORWARD_PRODUCTS * windows * tokens * tokens * channels


def _biased(qkv: Shape, *_: Any, **__: Any) -> int:
    windows, tokens, width = qkv
    return _attention(windows, tokens, width // 3)


def _mutual(qkv: Shape, *_: Any, **__: Any) -> int:
    windows, tokens, width = qkv
    return _attention(2 * windows, tokens // 2, width // 3)


def _biased_backward(_grad: Shape, qkv: Shape, *_: Any, **__: Any) -> int:
    return _BACKWARD_PRODUCTS * _biased(qkv) // _FORWARD_PRODUCTS


def _mutual_backward(_grad: Shape, qkv: Shape, *_: Any, **__: Any) -> int:
    return _BACKWARD_PRODUCTS * _mutual(qkv) // _FORWARD_PRODUCTS


def _samples(_x: Shape, _grid: Shape, mode: int = 0, *_: Any, out_shape: Shape, **__: Any) -> int:
    """Return a multiply-add for each pixel that a sampled value is made of."""
    return 2 * CORNERS[mode] * math.prod(out_shape)


def _samples_backward(
    grad: Shape, _x: Shape, _grid: Shape, mode: int = 0, *_: Any, out_shape: Sequence[Shape | None], **__: Any
) -> int:
    """Return as many for the gradient of the input, where it is asked for, and of each coordinate.

    PyTorch makes those of the coordinates in any case; the nearest pixel has none.
    """
    gradients = (out_shape[0] is not None) + 2 * (mode != 1)
    return 2 * CORNERS[mode] * math.prod(grad) * gradients


def _deformable(x: Shape, weight: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    """Return the samples of all taps and their product with the kernel, (E, C / groups, kh, kw)."""
    places = math.prod(out_shape) // out_shape[1]
    samples = places * x[1] * math.prod(weight[2:])
    return 2 * (CORNERS[0] * samples + places * math.prod(weight))


def _deformable_backward(grad: Shape, x: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """Return two products, and the samples again with the gradients of the input and both coordinates."""
    places = math.prod(grad) // grad[1]
    samples = places * x[1] * math.prod(weight[2:])
    return 2 * (4 * CORNERS[0] * samples + 2 * places * math.prod(weight))
