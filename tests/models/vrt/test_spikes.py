import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deblurkit.models.vrt.spikes import (
    ChunkPlan,
    ResidualConv3d,
    SpikeEncoder3D,
    SpikeTemporalSA,
    TemporalCrossAttn,
    over_tiles,
)

WHOLE = ChunkPlan()
PLANS = st.builds(
    ChunkPlan,
    adaptive=st.booleans(),
    max_tokens=st.integers(1, 500),
    size=st.integers(1, 64),
    shape=st.sampled_from(["square", "row"]),
)
BATCH, FRAMES, HEIGHT, WIDTH = SIZE = (2, 3, 5, 7)
DIM, SPIKE_DIM, HEADS = 6, 8, 2


def self_attention(plan=WHOLE, *, recompute=False):
    return SpikeTemporalSA(SPIKE_DIM, num_heads=HEADS, plan=plan, recompute=recompute)


def cross_attention(plan=WHOLE, *, recompute=False):
    return TemporalCrossAttn(DIM, spike_dim=SPIKE_DIM, num_heads=HEADS, plan=plan, recompute=recompute)


def maps(kind):
    """Return what an attention of this kind takes, in float64."""
    generator = torch.Generator().manual_seed(0)
    widths = [SPIKE_DIM] if kind is self_attention else [DIM, SPIKE_DIM]
    return [torch.randn(*SIZE, width, generator=generator, dtype=torch.float64) for width in widths]


def results(layer, inputs):
    """Return the output and, by name, the gradients of inputs and parameters."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = layer(*inputs)
    named = {f"input {i}": x for i, x in enumerate(inputs)} | dict(layer.named_parameters())
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    grads = torch.autograd.grad(out, list(named.values()), weights)
    return {"output": out.detach(), **dict(zip(named, grads, strict=True))}


@settings(deadline=None)
@given(PLANS, st.integers(1, 40), st.integers(1, 40), st.integers(1, 30))
def test_tiles_cover_the_plane_once_and_keep_the_bound(plan, height, width, tokens_per_position):
    times_covered = torch.zeros(height, width)
    tiles = plan.tiles(height, width, tokens_per_position=tokens_per_position)
    for rows, columns in tiles:
        tile = times_covered[rows, columns]
        tile += 1
        assert tile.numel() == 1 or tile.numel() * tokens_per_position <= plan.max_tokens
        assert plan.adaptive or len(tiles) == 1 or tile.numel() <= plan.size**2
    assert torch.equal(times_covered, torch.ones(height, width))
    fits = height * width * tokens_per_position <= plan.max_tokens or (height, width) == (1, 1)
    assert (len(tiles) == 1) == fits


@pytest.mark.parametrize(
    "plan, first, count",
    [
        # 20 positions fit: 4 columns, of whose rows 5 fit; or two whole rows of 10.
        (ChunkPlan(max_tokens=60), (5, 4), 2 * 3),
        (ChunkPlan(max_tokens=60, shape="row"), (2, 10), 5),
        # Sides of 3: 9 positions, in a row where the plane is wider.
        (ChunkPlan(adaptive=False, max_tokens=60, size=3), (3, 3), 4 * 4),
        (ChunkPlan(adaptive=False, max_tokens=60, size=3, shape="row"), (1, 9), 10 * 2),
        (ChunkPlan(adaptive=False, max_tokens=60, size=64), (5, 4), 2 * 3),  # the bound comes first
        (ChunkPlan(adaptive=False, max_tokens=300, size=3), (10, 10), 1),  # all fits: no need for tiles
        (ChunkPlan(max_tokens=1), (1, 1), 100),
    ],
)
def test_tiles_have_the_shape_that_the_plan_asks_for(plan, first, count):
    """Worked out by hand for 10 x 10 positions of 3 tokens."""
    tiles = plan.tiles(10, 10, tokens_per_position=3)
    assert tuple(side.stop - side.start for side in tiles[0]) == first
    assert len(tiles) == count


def test_what_fits_is_one_call_with_the_very_map():
    calls = []

    def function(*maps):
        calls.append(maps)
        return maps[0]

    one, two = torch.zeros(1, 2, 4, 4, 3, requires_grad=True), torch.zeros(1, 2, 4, 4, 5)
    assert over_tiles(function, [one, two], ChunkPlan(max_tokens=32), recompute=True) is one
    ((first, second),) = calls
    assert first is one and second is two
    calls.clear()
    over_tiles(function, [one, two], ChunkPlan(max_tokens=31), recompute=False)
    assert len(calls) > 1


@settings(deadline=None, max_examples=40)
@given(plan=PLANS, kind=st.sampled_from([self_attention, cross_attention]), recompute=st.booleans())
def test_attention_is_the_same_for_every_plan(references, plan, kind, recompute):
    """The whole map at once, with all gradients."""
    inputs = maps(kind)
    expected = results(references.seed_weights(kind()).double(), inputs)
    actual = results(references.seed_weights(kind(plan, recompute=recompute)).double(), inputs)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        references.assert_near(actual[name], value, within=1e-10, name=name)


@pytest.mark.parametrize("kind", [self_attention, cross_attention])
def test_attention_is_the_same_for_every_plan_in_float32(references, kind):
    inputs = [x.float() for x in maps(kind)]
    whole = references.seed_weights(kind())(*inputs)
    for max_tokens in (1, 6, 50, 200):
        tiled = references.seed_weights(kind(ChunkPlan(max_tokens=max_tokens)))(*inputs)
        assert torch.allclose(tiled, whole, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", [self_attention, cross_attention])
@pytest.mark.parametrize(
    "max_tokens, recompute, forward, backward",
    [(10**6, True, 1, 0), (6, False, HEIGHT * WIDTH, 0), (6, True, HEIGHT * WIDTH, HEIGHT * WIDTH)],
)
def test_tiles_are_made_again_in_the_backward_pass_where_asked(
    kind, max_tokens, recompute, forward, backward
):
    """Six tokens are one position of two clips of three frames."""
    layer, ran = kind(ChunkPlan(max_tokens=max_tokens), recompute=recompute).double(), []
    layer.proj.register_forward_pre_hook(lambda *_: ran.append(1))
    out = layer(*[x.requires_grad_() for x in maps(kind)])
    assert len(ran) == forward
    out.sum().backward()
    assert len(ran) == forward + backward


def normalised(x, norm):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def linear(x, layer):
    return x @ layer.weight.T + layer.bias


def heads_of(x):
    """(D, S) -> (H, D, S / H)."""
    return x.view(len(x), HEADS, -1).transpose(0, 1)


def seen_by(references, query, key, value):
    out = references.softmax_attention(heads_of(query), heads_of(key), heads_of(value), 0)
    return out.transpose(0, 1).flatten(1)


def self_attention_of_one(references, layer, x):
    """Return one position's frames (D, S) refined, with everything written out."""
    query, key, value = linear(normalised(x, layer.norm1), layer.qkv).split(SPIKE_DIM, dim=-1)
    x = x + linear(seen_by(references, query, key, value), layer.proj)
    hidden = linear(normalised(x, layer.norm2), layer.mlp[0])
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    return x + linear(hidden, layer.mlp[2])


def cross_attention_of_one(references, layer, frames, spikes):
    """Return one position's frames (D, C) with what they see of its spikes (D, S)."""
    key, value = linear(normalised(spikes, layer.norm_spikes), layer.key_value).split(SPIKE_DIM, dim=-1)
    query = linear(normalised(frames, layer.norm_frames), layer.query)
    return frames + linear(seen_by(references, query, key, value), layer.proj)


@pytest.mark.parametrize(
    "kind, of_one", [(self_attention, self_attention_of_one), (cross_attention, cross_attention_of_one)]
)
@pytest.mark.parametrize("max_tokens", [10**6, 30])
def test_attention_equals_a_loop_over_positions(references, kind, of_one, max_tokens):
    layer = references.seed_weights(kind(ChunkPlan(max_tokens=max_tokens))).double()
    inputs = maps(kind)
    expected = torch.empty_like(inputs[0])
    with torch.no_grad():
        for b in range(BATCH):
            for i in range(HEIGHT):
                for j in range(WIDTH):
                    expected[b, :, i, j] = of_one(references, layer, *(x[b, :, i, j] for x in inputs))
        references.assert_near(layer(*inputs), expected, within=1e-12)


def test_frames_that_attend_to_spikes_are_the_very_frames_at_first():
    frames, spikes = maps(cross_attention)
    torch.manual_seed(0)
    for max_tokens in (10**6, 30):
        layer = cross_attention(ChunkPlan(max_tokens=max_tokens)).double()
        assert torch.equal(layer(frames, spikes), frames)
        assert layer.query.weight.std() > 0  # and can learn, as only the last layer is zero


CHANNELS = (4, 6, 8, 10)
BINS = 4


def encoder():
    torch.manual_seed(0)
    return SpikeEncoder3D(BINS, channels=CHANNELS).double()


def bare_encoder():
    """Return an encoder whose embedding is log1p alone and whose blocks do nothing.

    Each scale takes the first channels of the one before, averaged over 2 x 2 pixels.
    """
    made = encoder()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        for i in range(BINS):
            made.embed.weight[i, i, 1, 1, 1] = 1
            for down in made.downs:
                down.weight[i, i] = 0.25
    return made


def counts(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 5, shape, generator=generator).double()


@pytest.mark.parametrize(
    "spike_size, covered",
    [
        ((20, 24), (40, 48)),  # half
        ((40, 48), (40, 48)),  # equal
        ((10, 12), (40, 48)),  # a quarter
        ((80, 96), (40, 48)),  # twice as many
        ((23, 19), (37, 45)),
        ((61, 13), (33, 47)),  # more rows, fewer columns
        ((1, 1), (39, 41)),
    ],
)
def test_every_scale_has_the_size_and_channels_of_its_stage(spike_size, covered):
    with torch.no_grad():
        features = encoder()(counts(2, 3, BINS, *spike_size), frame_size=(40, 48), covered=covered)
    assert [tuple(f.shape) for f in features] == [
        (2, 3, 40, 48, 4),
        (2, 3, 20, 24, 6),
        (2, 3, 10, 12, 8),
        (2, 3, 5, 6, 10),
    ]
    assert all(f.dtype == torch.float64 and f.isfinite().all() for f in features)


@pytest.mark.parametrize("spike_size", [(13, 21), (7, 11), (26, 42)])
def test_beyond_what_the_camera_saw_its_border_is_repeated(spike_size):
    """The features of the embedding, at the finest scale."""
    voxels = counts(1, 2, BINS, *spike_size)
    finest = bare_encoder()(voxels, frame_size=(16, 24), covered=(13, 21))[0]
    assert finest.std() > 0
    rows, columns = torch.arange(16).clamp(max=12), torch.arange(24).clamp(max=20)
    assert torch.equal(finest, finest[:, :, rows][:, :, :, columns])
    if spike_size == (13, 21):
        seen = voxels.log1p().permute(0, 1, 3, 4, 2)
        assert torch.equal(finest[:, :, :13, :21], seen)


@pytest.mark.parametrize("factor", [2, 4, 0.5, 0.25])
def test_voxels_of_another_size_are_resized_about_the_centres_of_pixels(factor):
    """Closed form: on a ramp, pixel i of the frame is at (i + 1 / 2) / factor - 1 / 2 of the spikes."""
    side = int(32 / factor)
    ramp = torch.arange(side, dtype=torch.float64) / side
    voxels = ramp.expm1().expand(1, 1, BINS, side, side)
    finest = bare_encoder()(voxels, frame_size=(32, 32), covered=(32, 32))[0]
    expected = ((torch.arange(32, dtype=torch.float64) + 0.5) / factor - 0.5) / side
    middle = slice(4, -4)  # at the border there is nothing to go on with
    assert torch.allclose(finest[0, 0, 0, middle, 0], expected[middle], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("side", [16, 64])
def test_voxels_of_another_size_pass_under_autocast(dtype, side):
    """In float32, within what 16 bits keep of the sizes of voxels."""
    voxels = counts(1, 1, BINS, side, side).float()
    model = bare_encoder().float()
    expected = model(voxels, frame_size=(32, 32), covered=(32, 32))[0]
    with torch.autocast("cpu", dtype=dtype):
        finest = model(voxels, frame_size=(32, 32), covered=(32, 32))[0]
    assert torch.allclose(finest.float(), expected, atol=2e-2)


def test_voxels_that_shrink_are_smoothed():
    """Closed form: of a pattern of period 4, a camera with pixels four times as large sees the mean."""
    voxels = torch.zeros(1, 1, BINS, 128, 128, dtype=torch.float64)
    voxels[..., ::4] = 1
    finest = bare_encoder()(voxels, frame_size=(32, 32), covered=(32, 32))[0]
    middle = finest[:, :, 4:-4, 4:-4]
    assert torch.allclose(middle, torch.full_like(middle, math.log(2) / 4), atol=1e-12)


def test_each_scale_is_made_from_two_by_two_pixels_of_the_one_before():
    """Means over squares; a coarse token sees the fine pixels that VRT's stages put into it."""
    features = bare_encoder()(counts(1, 2, BINS, 16, 24), frame_size=(16, 24), covered=(16, 24))
    for fine, coarse in zip(features, features[1:], strict=False):
        _, _, height, width, _ = coarse.shape
        squares = fine[..., :BINS].unflatten(3, (width, 2)).unflatten(2, (height, 2))
        assert torch.allclose(coarse[..., :BINS], squares.mean(dim=(3, 5)), atol=1e-12)


def test_what_is_below_zero_counts_as_nothing():
    """Resampled voxels can fall a little below."""
    below, none = torch.full((1, 2, BINS, 8, 8), -0.5).double(), torch.zeros(1, 2, BINS, 8, 8).double()
    made = encoder()
    for one, other in zip(
        made(below, frame_size=(8, 8), covered=(8, 8)),
        made(none, frame_size=(8, 8), covered=(8, 8)),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_a_block_sees_the_frames_and_pixels_next_to_it_and_no_others():
    """The gradient of one output: 3 x 3 pixels of 3 frames."""
    torch.manual_seed(0)
    block, x = ResidualConv3d(3).double(), torch.randn(1, 3, 5, 7, 7, dtype=torch.float64, requires_grad=True)
    out = block(x)
    assert out.shape == x.shape
    (grad,) = torch.autograd.grad(out[0, :, 2, 3, 3].sum(), x)
    seen = torch.zeros(5, 7, 7, dtype=torch.bool)
    seen[1:4, 2:5, 2:5] = True
    assert torch.equal(grad[0].abs().amax(0) > 0, seen)


def test_a_block_that_has_learnt_nothing_is_the_identity():
    block = ResidualConv3d(3)
    nn.init.zeros_(block.time.weight)
    nn.init.zeros_(block.time.bias)
    x = torch.randn(1, 3, 2, 4, 4)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_gradients_in_16_bits_are_those_in_32_for_clips_of_any_length(frames):
    """Those of oneDNN are wrong for clips of two frames, often NaN."""
    torch.manual_seed(0)
    model = SpikeEncoder3D(BINS, channels=(8, 16, 16, 16))
    voxels = counts(2, frames, BINS, 24, 24).float()

    def gradients(dtype):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
            features = model(voxels, frame_size=(48, 48), covered=(48, 48))
        total = sum(scale.float().square().sum() for scale in features)
        return torch.autograd.grad(total, [*model.parameters()])

    for name, found, expected in zip(
        [name for name, _ in model.named_parameters()],
        gradients(torch.bfloat16),
        gradients(torch.float32),
        strict=True,
    ):
        assert (found - expected).norm() <= 0.05 * expected.norm(), name
