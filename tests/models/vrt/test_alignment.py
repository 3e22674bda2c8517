import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from deblurkit.models.vrt.alignment import FlowGuidedAlignment, deformable_conv
from deblurkit.models.vrt.flow import ClipFlows

HEIGHT, WIDTH = 6, 7


def positions(offset, groups):
    """Return where the taps sample, (P, 2, G, 9, H, W) from -1 to 1, from torchvision's offsets."""
    height, width = offset.shape[-2:]
    moved = offset.unflatten(1, (groups, 9, 2))
    rows = torch.arange(height).view(height, 1) + torch.arange(9).view(9, 1, 1) // 3 - 1
    columns = torch.arange(width) + torch.arange(9).view(9, 1, 1) % 3 - 1
    y, x = moved[:, :, :, 0] + rows, moved[:, :, :, 1] + columns
    return torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=1)


def drawn(count, channels, out, groups, conv_groups, *, height=HEIGHT, width=WIDTH):
    """Return x, offsets in pixels, mask, weight and bias, with gradients."""
    torch.manual_seed(0)
    shapes = [
        (count, channels, height, width),
        (count, 18 * groups, height, width),
        (count, 9 * groups, height, width),
        (out, channels // conv_groups, 3, 3),
        (out,),
    ]
    values = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    values[1] *= 3  # many taps leave the frame
    return [value.requires_grad_() for value in values]


@pytest.mark.parametrize("conv_groups, groups", [(1, 1), (1, 4), (2, 2), (2, 4), (3, 6), (3, 2), (3, 4)])
def test_the_deformable_convolution_is_torchvisions(references, conv_groups, groups):
    """`torchvision.ops.deform_conv2d`, with all gradients; offsets there are in pixels, (y, x)."""
    x, offset, mask, weight, bias = drawn(3, 12, 6, groups, conv_groups)
    expected = deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
    masks = mask.unflatten(1, (groups, 9))
    out = deformable_conv(x, positions(offset, groups), masks, weight, bias, conv_groups=conv_groups)
    assert out.shape == (3, HEIGHT * WIDTH, 6)
    references.assert_near(out.transpose(1, 2).view_as(expected), expected, within=1e-12)
    grad = torch.randn_like(expected)
    inputs = (x, offset, mask, weight, bias)
    wanted = torch.autograd.grad(expected, inputs, grad)
    actual = torch.autograd.grad(out, inputs, grad.flatten(2).transpose(1, 2))
    for name, mine, other in zip(("x", "offset", "mask", "weight", "bias"), actual, wanted, strict=True):
        references.assert_near(mine, other, within=1e-11, name=name)


def test_more_frames_than_fit_into_a_cache_are_convolved_in_parts(references):
    """`torchvision.ops.deform_conv2d`, on 9 * 12 frames * 16 channels * 48 * 64 samples: 5 million."""
    x, offset, mask, weight, bias = drawn(12, 16, 4, 2, 1, height=48, width=64)
    expected = deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
    out = deformable_conv(x, positions(offset, 2), mask.unflatten(1, (2, 9)), weight, bias, conv_groups=1)
    references.assert_near(out.transpose(1, 2).view_as(expected), expected, within=1e-11)
    grad = torch.randn_like(expected)
    inputs = (x, offset, mask, weight, bias)
    wanted = torch.autograd.grad(expected, inputs, grad)
    actual = torch.autograd.grad(out, inputs, grad.flatten(2).transpose(1, 2))
    for mine, other in zip(actual, wanted, strict=True):
        references.assert_near(mine, other, within=1e-10)


@pytest.mark.parametrize("rows", [1, 4, 5])
def test_a_frame_that_does_not_fit_is_convolved_by_rows(references, monkeypatch, rows):
    """`torchvision.ops.deform_conv2d`, with room for some rows of one frame at a time."""
    monkeypatch.setattr("deblurkit.models.vrt.alignment._LIVE_SAMPLES_CPU", 9 * 12 * WIDTH * rows)
    test_the_deformable_convolution_is_torchvisions(references, 2, 4)


@pytest.mark.parametrize("pairs", [1, 3])
def test_without_gradients_a_few_pairs_are_aligned_at_a_time(monkeypatch, pairs):
    """The same with gradients, where all pairs are one batch."""
    model = aligner(neighbours=2)
    torch.nn.init.normal_(model.conv_offset[-1].weight, std=0.1)
    clip = torch.randn(1, 4, HEIGHT, WIDTH, 6, dtype=torch.float64)
    flows = ClipFlows(*([torch.randn(1, 4 - n, 2, HEIGHT, WIDTH).double() for n in (1, 2)] for _ in "ab"))
    batches = []
    model.conv_offset[0].register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    expected = model(clip, flows)
    monkeypatch.setattr("deblurkit.models.vrt.alignment._LIVE_OFFSETS", 3 * 2 * 9 * HEIGHT * WIDTH * pairs)
    with torch.no_grad():
        out = model(clip, flows)
    assert batches == [6] + [pairs] * (6 // pairs)
    for mine, other in zip(out, expected, strict=True):
        assert torch.allclose(mine, other, rtol=1e-12, atol=1e-12)


def aligner(dim=6, neighbours=1, groups=2, radius=10.0):
    torch.manual_seed(0)
    return FlowGuidedAlignment(dim, neighbours=neighbours, groups=groups, radius=radius).double()


def moved(vector, *, count):
    """Return flows (1, count, 2, H, W) of one vector, x first."""
    flow = torch.tensor(vector, dtype=torch.float64).view(1, 1, 2, 1, 1)
    return flow.expand(1, max(0, count), 2, HEIGHT, WIDTH).contiguous()


def shifted(x, vector):
    """Return (C, H, W) read at each pixel plus a whole vector, x first, zero outside."""
    out = torch.zeros_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            row, column = i + vector[1], j + vector[0]
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                out[:, i, j] = x[:, row, column]
    return out


def shifted_convolution(frames, weight, bias, groups):
    """Return half the 3x3 convolution of neighbours that are shifted first.

    ``frames`` are (frame (C, H, W), vector); taps that leave the shifted frame still see the frame itself, so
    the frame is padded before the shift.
    """
    padded = [shifted(F.pad(x, (9, 9, 9, 9)), vector) for x, vector in frames]
    out = F.conv2d(torch.cat(padded)[None], 0.5 * weight, bias, padding=1, groups=groups)[0]
    return out[:, 9:-9, 9:-9].permute(1, 2, 0)


@pytest.mark.parametrize("neighbours", [1, 2, 3])
def test_untrained_it_convolves_each_neighbour_where_its_flow_points(references, neighbours):
    """Closed form: offsets 0, masks 1/2, whole-pixel flows; beyond the clip neighbour and flow are zero."""
    model, depth = aligner(neighbours=neighbours, groups=neighbours), 5
    clip = torch.randn(1, depth, HEIGHT, WIDTH, 6, dtype=torch.float64)
    ahead, back = [(1, 2), (-2, 1), (3, -1)], [(-1, 1), (2, 2), (0, -3)]
    flows = ClipFlows(
        backward=[moved(vector, count=depth - n) for n, vector in enumerate(ahead[:neighbours], 1)],
        forward=[moved(vector, count=depth - n) for n, vector in enumerate(back[:neighbours], 1)],
    )
    after, before = model(clip, flows)
    frames, nothing = clip[0].permute(0, 3, 1, 2), torch.zeros(6, HEIGHT, WIDTH, dtype=torch.float64)
    for t in range(depth):
        for out, sign, vectors in ((after[0, t], 1, ahead), (before[0, t], -1, back)):
            near = [
                (frames[t + sign * n], vectors[n - 1]) if 0 <= t + sign * n < depth else (nothing, (0, 0))
                for n in range(1, neighbours + 1)
            ]
            expected = shifted_convolution(near, model.weight, model.bias, neighbours)
            if not 0 <= t + sign < depth:
                expected = torch.zeros_like(out)
            assert torch.allclose(out, expected, atol=1e-12)


@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize("neighbours", [1, 2, 3])
def test_the_frame_without_a_neighbour_gets_zeros_and_passes_no_gradient_that_way(neighbours, depth):
    model = aligner(neighbours=neighbours)
    torch.nn.init.normal_(model.conv_offset[-1].weight, std=0.1)
    torch.nn.init.normal_(model.bias)
    clip = torch.randn(2, depth, HEIGHT, WIDTH, 6, dtype=torch.float64, requires_grad=True)
    sizes = [max(0, depth - n) for n in range(1, neighbours + 1)]
    flows = ClipFlows(*[[torch.randn(2, n, 2, HEIGHT, WIDTH).double() for n in sizes] for _ in range(2)])
    after, before = model(clip, flows)
    assert after.shape == before.shape == clip.shape
    assert after[:, -1].abs().max() == 0 and before[:, 0].abs().max() == 0
    assert (
        after[:, :-1].abs().amin((0, 2, 3, 4)).min() > 0 and before[:, 1:].abs().amin((0, 2, 3, 4)).min() > 0
    )
    (grad,) = torch.autograd.grad(after[:, :-1].square().sum(), clip)
    assert grad.abs().amax((0, 2, 3, 4)).min() > 0


@pytest.mark.parametrize("neighbours, groups", [(1, 3), (2, 2), (2, 6), (3, 2), (3, 4)])
def test_it_equals_the_plain_alignment_of_one_frame(references, plain_vrt, neighbours, groups):
    """`benchmarks/plain_vrt.py`, for the first frame's backward neighbours, with all gradients."""
    model = aligner(dim=12, neighbours=neighbours, groups=groups, radius=2.5)
    plain = plain_vrt.Deform(12, neighbours, groups, 2.5).double()
    for either in (model, plain):
        references.seed_weights(either)
    depth = neighbours + 1
    clip = torch.randn(1, depth, HEIGHT, WIDTH, 12, dtype=torch.float64, requires_grad=True)
    both = [
        [2 * torch.randn(1, depth - n, 2, HEIGHT, WIDTH).double() for n in range(1, neighbours + 1)]
        for _ in range(2)
    ]
    out = model(clip, ClipFlows(*both))[0][:, 0]
    frames = clip.permute(0, 1, 4, 2, 3)
    near = [frames[:, n] for n in range(1, neighbours + 1)]
    expected = plain(near, frames[:, 0], [flow[:, 0] for flow in both[0]]).permute(0, 2, 3, 1)
    references.assert_near(out, expected, within=1e-11)
    grad = torch.randn_like(out)
    wanted = torch.autograd.grad(expected, [clip, *plain.parameters()], grad)
    actual = torch.autograd.grad(out, [clip, *model.parameters()], grad)
    for mine, other in zip(actual, wanted, strict=True):
        references.assert_near(mine, other, within=1e-9)


def test_the_offsets_end_at_the_radius():
    """Closed form: an offset far in the tanh's end is the radius; a mask far in the sigmoid's end is 1."""
    model = aligner(dim=4, groups=1, radius=2.0)
    with torch.no_grad():
        model.conv_offset[-1].bias[:9] = 1e3  # the first half of the offsets: taps 0 to 3, and the y of tap 4
        model.conv_offset[-1].bias[9:18] = -1e3
        model.conv_offset[-1].bias[18:] = 1e3
        model.weight.zero_()
        model.weight[range(4), range(4), 0, 1] = 1.0  # tap 1: one row above, moved by (2, 2)
    clip = torch.randn(1, 2, HEIGHT, WIDTH, 4, dtype=torch.float64)
    still = moved((0, 0), count=1)
    after, _ = model(clip, ClipFlows([still], [still]))
    expected = shifted(clip[0, 1].permute(2, 0, 1), (2, 1)).permute(1, 2, 0)
    assert torch.allclose(after[0, 0], expected, atol=1e-12)


def test_second_derivatives_are_right_or_refused(references):
    """Finite differences: a backward pass by hand must not give silently wrong ones."""
    torch.manual_seed(0)
    shapes = [(1, 2, 4, 4), (1, 2, 1, 9, 4, 4), (1, 1, 9, 4, 4), (2, 2, 3, 3), (2,)]
    references.assert_twice_differentiable_or_refused(
        lambda *inputs: deformable_conv(*inputs, conv_groups=1), shapes
    )
