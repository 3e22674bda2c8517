import pytest
import torch

from deblurkit.models.vrt.flow import SpyNet, clip_flows


@pytest.mark.parametrize("size", [(33, 64), (64, 50)])
def test_spynet_equals_a_plain_one_with_the_same_weights(references, plain_vrt, size):
    """`benchmarks/plain_vrt.py`, with the gradients of frames and weights."""
    clip = references.seeded_clip(2, (2, 2, 3, *size)).double()
    results = []
    for model in (SpyNet(), plain_vrt.SpyNet()):
        references.seed_weights(model).double()
        frames = clip.clone().requires_grad_()
        flows = model(frames[:, 0], frames[:, 1])
        sum(flow.square().mean() for flow in flows).backward()
        results.append([*flows, frames.grad, *(p.grad for p in model.parameters())])
    assert [flow.shape for flow in results[0][:4]] == [
        (2, 2, size[0] // s, size[1] // s) for s in (1, 2, 4, 8)
    ]
    for mine, other in zip(*results, strict=True):
        references.assert_near(mine, other, within=1e-10)


@pytest.mark.parametrize("size", [(40, 72), (64, 34), (33, 95)])
def test_every_level_doubles_the_flow_of_the_one_before_and_adds_its_own(size):
    """Closed form: levels that answer a constant flow, and the resize from 32 * n pixels to the frame."""
    torch.manual_seed(0)
    model, own = SpyNet(), torch.randn(6, 2)
    for p in model.parameters():
        torch.nn.init.zeros_(p)
    for level, constant in zip(model.basic_module, own, strict=True):
        level.basic_module[8].bias.data.copy_(constant)
    frame = torch.rand(1, 3, *size)
    with torch.no_grad():
        flows = model(frame, frame)
    padded = [-(-side // 32) * 32 for side in size]
    for finest, scale, flow in zip((5, 4, 3, 2), (1, 2, 4, 8), flows, strict=True):
        vector = sum(2 ** (finest - n) * own[n] for n in range(finest + 1))
        factor = [(side // scale) / (whole // scale) for side, whole in zip(size, padded, strict=True)]
        expected = (vector * torch.tensor(factor[::-1])).view(1, 2, 1, 1)
        assert torch.allclose(flow, expected.expand(1, 2, size[0] // scale, size[1] // scale), atol=1e-5)


def test_the_frames_are_normalised_before_the_first_level():
    """Closed form: a frame of mean colours becomes 0, one brighter by the standard deviations becomes 1."""
    model = SpyNet()
    frame = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    seen = []
    model.basic_module[5].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(frame, frame + torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
    assert seen[0].shape == (1, 8, 64, 64)
    assert torch.allclose(seen[0][:, :3], torch.zeros(1, 3, 64, 64), atol=1e-6)
    assert torch.allclose(seen[0][:, 3:6], torch.ones(1, 3, 64, 64), atol=1e-5)


def flows_one_by_one(spynet, clip, warp):
    """Return backward and forward flows as [scale][steps - 1][t], pair by pair from the description."""
    frames = clip.unbind(1)
    pairs = list(zip(frames, frames[1:], strict=False))
    backward = [list(level) for level in zip(*(spynet(a, b) for a, b in pairs), strict=True)]
    forward = [list(level) for level in zip(*(spynet(b, a) for a, b in pairs), strict=True)]
    count, result = len(frames), []
    for b, f in zip(backward, forward, strict=True):
        b2 = [b[t] + warp(b[t + 1], b[t]) for t in range(count - 2)]
        f2 = [f[t + 1] + warp(f[t], f[t + 1]) for t in range(count - 2)]
        b3 = [b2[t] + warp(b[t + 2], b2[t]) for t in range(count - 3)]
        f3 = [f2[t + 1] + warp(f[t], f2[t + 1]) for t in range(count - 3)]
        result.append(([b, b2, b3], [f, f2, f3]))
    return result


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("reach", [1, 2, 3])
def test_flows_over_more_frames_follow_the_single_ones(references, depth, reach):
    """Loops over frames and pixels."""
    spynet = references.seed_weights(references.QuickFlow()).double()
    clip = references.seeded_clip(4, (2, depth, 3, 16, 16)).double()
    with torch.no_grad():
        flows = clip_flows(spynet, clip, reach=reach)
        expected = flows_one_by_one(spynet, clip, references.bilinear)
    assert len(flows) == 4
    for scale, (backward, forward) in zip(flows, expected, strict=True):
        assert len(scale.backward) == len(scale.forward) == reach
        for mine, others in zip(
            scale.backward + scale.forward, backward[:reach] + forward[:reach], strict=True
        ):
            assert mine.shape[:3] == (2, len(others), 2)
            if others:
                references.assert_near(mine, torch.stack(others, dim=1), within=1e-10)
