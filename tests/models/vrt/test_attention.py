import pytest
import torch

from deblurkit.models.vrt.attention import (
    WindowAttention,
    stock_biased_attention,
    stock_mutual_attention,
)
from deblurkit.models.vrt.kernels import biased_attention, mutual_attention
from deblurkit.models.vrt.windows import used_window, window_layout

CPU = torch.device("cpu")
STARTS = [[0, 5], [0, 2, 3, 7]]


def drawn(windows, *, heads=2, tokens=8, channels=4, dtype=torch.float64):
    torch.manual_seed(0)
    qkv = torch.randn(windows, tokens, 3 * heads * channels, dtype=dtype)
    bias = torch.randn(heads, tokens, tokens, dtype=dtype)
    grad = torch.randn(windows, tokens, heads * channels, dtype=dtype)
    return qkv, bias, grad


@pytest.mark.parametrize("starts", STARTS)
def test_the_gpu_path_of_self_attention_equals_the_cpu_one(references, starts):
    """The custom operator, which `test_kernels.py` compares with matrices written out."""
    qkv, bias, grad = drawn(starts[-1])
    masks, results = references.stripes(8, len(starts) - 1), []
    for attend in (
        lambda q, b: stock_biased_attention(q, b, masks, tuple(starts), 2),
        lambda q, b: biased_attention(q, b, masks, starts, 2)[0],
    ):
        inputs = qkv.clone().requires_grad_(), bias.clone().requires_grad_()
        out = attend(*inputs)
        results.append([out, *torch.autograd.grad(out, inputs, grad)])
    for mine, other in zip(*results, strict=True):
        references.assert_near(mine, other, within=1e-12)


@pytest.mark.parametrize("starts", STARTS)
def test_the_gpu_path_of_mutual_attention_equals_the_cpu_one(references, starts):
    """The custom operator, which `test_kernels.py` compares with matrices written out."""
    qkv, _, grad = drawn(starts[-1])
    masks, results = references.stripes(4, len(starts) - 1), []
    for attend in (
        lambda q: stock_mutual_attention(q, masks, tuple(starts), 2),
        lambda q: mutual_attention(q, masks, starts, 2)[0],
    ):
        inputs = qkv.clone().requires_grad_()
        out = attend(inputs)
        results.append([out, *torch.autograd.grad(out, inputs, grad)])
    for mine, other in zip(*results, strict=True):
        references.assert_near(mine, other, within=1e-12)


@pytest.mark.parametrize("channels", [8, 20])
def test_the_gpu_path_takes_heads_of_any_width_in_16_bits(references, channels):
    """The operator in float64; fused kernels want whole 16 bytes, and stage 8 has heads of 20."""
    qkv, bias, grad = drawn(5, channels=channels, dtype=torch.bfloat16)
    masks, results = references.stripes(8, 1), []
    for dtype in (torch.bfloat16, torch.float64):
        both, alone = (qkv.to(dtype, copy=True).requires_grad_() for _ in range(2))
        out = stock_biased_attention(both, bias.to(dtype), masks, (0, 5), 2)
        seen = stock_mutual_attention(alone, references.stripes(4, 1), (0, 5), 2)
        grads = torch.autograd.grad((out, seen), (both, alone), (grad.to(dtype), grad.to(dtype)))
        assert out.shape == seen.shape == grad.shape
        results.append([out, seen, *grads])
    for mine, other in zip(*results, strict=True):
        references.assert_near(mine.double(), other, within=3e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype, within", [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_on_a_gpu_attention_is_that_of_a_cpu(references, dtype, within):
    """`stock_*` on a CPU in float64, with the gradient of the bias, windows of 6x8x8 and heads of 20."""
    qkv, bias, grad = drawn(6, heads=6, tokens=384, channels=20)
    results = []
    for device, kind in (("cuda", dtype), ("cpu", torch.float64)):
        inputs = [value.to(device, kind).detach().requires_grad_() for value in (qkv, bias)]
        masks = references.stripes(384, 2).to(device)
        out = stock_biased_attention(*inputs, masks, (0, 4, 6), 6)
        grads = torch.autograd.grad(out, inputs, grad.to(device, kind))
        results.append([value.double().cpu() for value in (out, *grads)])
    for mine, other in zip(*results, strict=True):
        references.assert_near(mine, other, within=within)


def attention(window, *, mutual):
    torch.manual_seed(0)
    layer = WindowAttention(8, window=window, num_heads=2, mutual=mutual).double()
    torch.nn.init.normal_(layer.relative_position_bias_table)
    return layer


@pytest.mark.parametrize("mutual", [False, True])
def test_windows_that_share_no_mask_see_nothing_of_each_other(mutual):
    """The gradient of a token reaches the tokens of its window on its side of the wrap, and no others."""
    size, window = (2, 8, 8), (2, 4, 4)
    layer = attention(window, mutual=mutual)
    layout = window_layout(1, size, window, shifted=True, device=CPU)
    tokens = torch.randn(2 * 8 * 8, 8, dtype=torch.float64, requires_grad=True)
    out = layer(tokens, layout)
    for row, column in ((0, 0), (3, 5), (7, 1)):
        (grad,) = torch.autograd.grad(out.view(*size, 8)[0, row, column].sum(), tokens, retain_graph=True)
        reached = grad.view(*size, 8).abs().sum(-1) > 0
        expected = torch.zeros(size, dtype=torch.bool)
        for i in range(8):
            for j in range(8):
                # rolled by 2, windows of 4 hold rows 2 to 5, and 6, 7 with 0, 1 from the other side
                expected[:, i, j] = part(i) == part(row) and part(j) == part(column)
        assert torch.equal(reached, expected)


def part(row):
    return (row + 2) // 4


@pytest.mark.parametrize(
    "size, window", [((2, 8, 8), (2, 4, 4)), ((3, 6, 5), (2, 4, 4)), ((5, 7, 9), (6, 4, 3))]
)
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_it_equals_attention_in_windows_that_are_padded_rolled_and_cut(
    references, plain_vrt, size, window, shifted, batch
):
    """`benchmarks/plain_vrt.py`'s layer and masks around windows cut here."""
    mutual = window[0] == 2
    layer, plain = attention(window, mutual=mutual), plain_vrt.Attention(8, window, 2, mutual=mutual).double()
    plain.load_state_dict(layer.state_dict())
    clip = torch.randn(batch, *size, 8, dtype=torch.float64, requires_grad=True)
    layout = window_layout(batch, size, window, shifted=shifted, device=CPU)
    out = layer(clip.flatten(0, 3), layout).view_as(clip)

    used, shift = used_window(size, window, shifted=shifted)
    whole = [-(-s // w) * w for s, w in zip(size, used, strict=True)]
    padded = clip.new_zeros(batch, *whole, 8)
    padded[:, : size[0], : size[1], : size[2]] = clip
    rolled = padded.roll([-s for s in shift], (1, 2, 3))
    mask = plain_vrt.shift_mask(tuple(whole), used, shift).double() if any(shift) else None
    windows = plain(plain_vrt.windows_of(rolled, used), mask)
    expected = plain_vrt.join_windows(windows, used, padded.shape).roll(shift, (1, 2, 3))
    expected = expected[:, : size[0], : size[1], : size[2]]

    references.assert_near(out, expected, within=1e-12)
    grad = torch.randn_like(out)
    wanted = torch.autograd.grad(expected, [clip, *plain.parameters()], grad)
    actual = torch.autograd.grad(out, [clip, *layer.parameters()], grad)
    names = [name for name, _ in layer.named_parameters()]
    assert names == [name for name, _ in plain.named_parameters()]
    for name, mine, other in zip(["clip", *names], actual, wanted, strict=True):
        if name.endswith("qkv_self.bias") or name.endswith("qkv_mut.bias"):
            # a constant key changes no softmax: that third of the gradient is rounding on both sides
            mine, other = (torch.cat([x[:8], x[16:]]) for x in (mine, other))
        references.assert_near(mine, other, within=1e-11, name=name)


def test_mutual_attention_refuses_windows_of_other_sizes():
    layer = attention((2, 4, 4), mutual=True)
    layout = window_layout(1, (2, 3, 4), (2, 4, 4), shifted=False, device=CPU)
    with pytest.raises(ValueError, match="windows of two frames of 4x4 tokens"):
        layer(torch.zeros(24, 8, dtype=torch.float64), layout)
