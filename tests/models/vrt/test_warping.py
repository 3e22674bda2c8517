import math

import pytest
import torch

from deblurkit.models.vrt.warping import warp, warp_nearest4


def drawn(count=2, channels=3, height=5, width=6, reach=2.0):
    """Return features and flows of up to a few pixels, many of which leave the frame."""
    torch.manual_seed(0)
    x = torch.randn(count, channels, height, width, dtype=torch.float64, requires_grad=True)
    flow = (reach * torch.randn(count, 2, height, width, dtype=torch.float64)).requires_grad_()
    return x, flow


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("size", [(5, 6), (2, 4), (4, 2)])
def test_a_warp_mixes_the_four_pixels_where_the_flow_points(references, padding, size):
    """A loop over the pixels, with its gradients."""
    x, flow = drawn(height=size[0], width=size[1])
    out, expected = warp(x, flow, padding=padding), references.bilinear(x, flow, border=padding == "border")
    references.assert_near(out, expected, within=1e-12)
    grad = torch.randn_like(out)
    wanted = torch.autograd.grad(expected, (x, flow), grad)
    for mine, other in zip(torch.autograd.grad(out, (x, flow), grad), wanted, strict=True):
        references.assert_near(mine, other, within=1e-10)


def test_a_warp_by_whole_pixels_moves_the_picture():
    x = torch.arange(20.0).view(1, 1, 4, 5)
    flow = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)
    expected = torch.zeros(1, 1, 4, 5)
    expected[..., 1:, :3] = x[..., :3, 2:]
    assert torch.allclose(warp(x, flow), expected, atol=1e-5)


def four_pixels(x, flow):
    """Return the four pixels around each displaced position in plain loops, zero outside."""
    count, channels, height, width = x.shape
    out = x.new_zeros(count, 4, channels, height, width)
    for p in range(count):
        for i in range(height):
            for j in range(width):
                at_x, at_y = j + flow[p, 0, i, j].item(), i + flow[p, 1, i, j].item()
                corners = [(c, r) for c in (math.floor(at_x), math.ceil(at_x)) for r in ends(at_y)]
                for k, (column, row) in enumerate(corners):
                    if 0 <= row < height and 0 <= column < width:
                        out[p, k, :, i, j] = x[p, :, row, column]
    return out.flatten(1, 2)


def ends(value):
    return math.floor(value), math.ceil(value)


@pytest.mark.parametrize("size", [(5, 6), (1, 4), (4, 1)])
def test_the_nearest_four_are_picked_whole(size):
    """A loop over the pixels, with its gradient."""
    x, flow = drawn(height=size[0], width=size[1])
    out, expected = warp_nearest4(x, flow), four_pixels(x, flow)
    assert torch.equal(out, expected)
    grad = torch.randn_like(out)
    mine, wanted = torch.autograd.grad(out, x, grad), torch.autograd.grad(expected, x, grad)
    assert torch.allclose(mine[0], wanted[0], atol=1e-13)


def test_at_whole_pixels_the_four_are_one():
    x, flow = drawn()
    flow = flow.detach().round()
    out = warp_nearest4(x, flow).unflatten(1, (4, 3))
    assert torch.equal(out, four_pixels(x, flow).unflatten(1, (4, 3)))
    assert torch.equal(out, out[:, :1].expand_as(out))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [1e4, 1e10, 1e30, math.inf, -1e10, -math.inf])
def test_what_lies_far_outside_is_zero(far, dtype):
    x = torch.ones(1, 2, 4, 5, dtype=dtype)
    flow = torch.zeros(1, 2, 4, 5, dtype=dtype)
    flow[:, 1, :, 2] = far
    expected = torch.ones(1, 8, 4, 5, dtype=dtype)
    expected[..., 2] = 0
    assert torch.equal(warp_nearest4(x, flow), expected)
    if math.isfinite(far):
        assert torch.equal(warp(x, flow).round(), expected[:, :2])


def test_a_flow_that_is_not_a_number_harms_no_other_pixel():
    x, flow = drawn()
    flow = flow.detach()
    broken = flow.clone()
    broken[0, :, 2, 3] = math.nan
    broken[1, 0, 1, 1] = math.nan
    for sample in (warp, warp_nearest4):
        whole, out = sample(x, flow), sample(x, broken)
        sound = broken.isfinite().all(1, keepdim=True).expand_as(out)
        assert torch.equal(out[sound], whole[sound])


def test_a_frame_of_more_pixels_than_its_numbers_count_is_picked_from_exactly():
    """float16 counts whole numbers to 2048; the frame has 2500 pixels and its own place at each."""
    x = torch.rand(1, 1, 50, 50).half()
    out = warp_nearest4(x, torch.zeros(1, 2, 50, 50).half())
    assert torch.equal(out, x.expand(-1, 4, -1, -1))
