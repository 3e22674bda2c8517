import re

import pytest
import torch

from deblurkit.models.vrt import half
from deblurkit.models.vrt.network import VRT
from deblurkit.models.vrt.spike_network import SpikeVRT
from deblurkit.models.vrt.spikes import ChunkPlan

TINY = {
    "window_size": (2, 4, 4),
    "depths": [2] * 8,
    "indep_reconsts": [],
    "embed_dims": [8] * 8,
    "num_heads": [2] * 8,
    "deformable_groups": 2,
    "drop_path_rate": 0.0,
}
BRANCH = {
    "num_voxel_bins": 5,
    "channels_per_scale": [8, 4, 8, 12],
    "attention_heads": 2,
    "attention_plan": ChunkPlan(max_tokens=3000),
    "fusion_heads": 4,
    "fusion_plan": ChunkPlan(max_tokens=900, shape="row"),
}


def network(**changes):
    torch.manual_seed(0)
    return SpikeVRT(**{**TINY, **BRANCH, **changes})


def inputs(*, clip=(1, 2, 3, 42, 45), spike_size=(21, 23)):
    generator = torch.Generator().manual_seed(1)
    blurry = torch.rand(clip, generator=generator)
    spikes = torch.randint(0, 4, (*clip[:2], 5, *spike_size), generator=generator).float()
    return blurry, spikes


@pytest.mark.parametrize(
    "clip, spike_size",
    [((1, 2, 3, 40, 48), (20, 24)), ((2, 3, 3, 42, 45), (42, 45)), ((1, 2, 3, 35, 60), (9, 15))],
)
def test_it_starts_as_the_network_without_spikes(clip, spike_size):
    """VRT with the same weights, to the last bit."""
    model, plain = network().eval(), VRT(**TINY).eval()
    loaded = plain.load_state_dict(model.state_dict(), strict=False)
    assert loaded.missing_keys == []
    blurry, spikes = inputs(clip=clip, spike_size=spike_size)
    with torch.no_grad():
        assert torch.equal(model(blurry, spikes), plain(blurry))


def test_its_names_are_those_of_vrt_and_of_a_branch():
    with torch.device("meta"):
        both, plain = network().state_dict(), VRT(**TINY).state_dict()
    assert plain.keys() < both.keys()
    assert {k: v.shape for k, v in plain.items()} == {k: both[k].shape for k in plain}
    added = {name.split(".")[0] for name in both.keys() - plain.keys()}
    assert added == {"spike_encoder", "spike_attention", "fusion"}


@pytest.fixture(scope="module")
def trained():
    """A network after two steps of AdamW, and the names of what has had a gradient in them."""
    model, (blurry, spikes) = network(), inputs(clip=(1, 3, 3, 50, 44), spike_size=(23, 20))
    target = blurry.flip(-1)
    optimizer, moved = torch.optim.AdamW(model.parameters(), lr=1e-3), set()
    for _ in range(2):
        optimizer.zero_grad()
        (model(blurry, spikes) - target).square().mean().backward()
        named = model.named_parameters()
        moved |= {name for name, p in named if p.grad is not None and p.grad.count_nonzero()}
        optimizer.step()
    return model.eval(), moved


def test_every_parameter_is_trained(trained):
    """The zero at its start lets what lies behind it move from the second step on."""
    model, moved = trained
    assert [name for name, _ in model.named_parameters() if name not in moved] == []


def test_what_it_restores_depends_on_the_spikes_of_every_frame(trained):
    model, _ = trained
    blurry, spikes = inputs()
    with torch.no_grad():
        seen = model(blurry, spikes)
        for t in range(blurry.shape[1]):
            changed = spikes.clone()
            changed[:, t] = 3 - changed[:, t]
            assert (model(blurry, changed) - seen).abs().max() > 1e-3


def test_each_stage_down_to_the_coarsest_sees_the_spikes_of_its_scale(trained):
    """Shapes: H and W of 42 x 45 px, padded to 48 x 48, in steps of two."""
    model, seen = trained[0], []
    handles = [
        fusion.register_forward_pre_hook(lambda _, args: seen.append([tuple(x.shape) for x in args]))
        for fusion in model.fusion
    ]
    with torch.no_grad():
        model(*inputs())
    for handle in handles:
        handle.remove()
    sizes = zip((48, 24, 12, 6), BRANCH["channels_per_scale"], strict=True)
    assert seen == [[(1, 2, side, side, 8), (1, 2, side, side, width)] for side, width in sizes]


def test_sides_that_are_no_multiple_of_eight_are_padded_by_the_border_and_cut(references):
    """The same network on clip and voxels padded by hand, with an embedding that looks at single pixels."""
    model = references.seed_weights(network()).double().eval()
    with torch.no_grad():
        pointwise = torch.zeros(3, 3, dtype=torch.float64)
        pointwise[1, 1] = 1
        model.spike_encoder.embed.weight *= pointwise
    blurry, spikes = (x.double() for x in inputs(spike_size=(42, 45)))
    rows, columns = torch.arange(48).clamp(max=41), torch.arange(48).clamp(max=44)
    padded = [x[..., rows, :][..., columns] for x in (blurry, spikes)]
    with torch.no_grad():
        out, whole = model(blurry, spikes), model(*padded)
        assert out.shape == blurry.shape
        references.assert_near(out, whole[..., :42, :45], within=1e-12)
        assert (out - model(blurry, torch.zeros_like(spikes))).abs().max() > 0.1  # spikes take part


def test_a_branch_in_tiles_that_are_made_again_gives_the_same_gradients(references):
    """The network that takes the whole plane at once and keeps everything."""
    few = ChunkPlan(adaptive=False, max_tokens=500, size=5)
    tiled = network(depths=[1] * 8, attention_plan=few, fusion_plan=few, use_checkpoint_attn=True)
    many = ChunkPlan(max_tokens=10**9)
    whole = network(depths=[1] * 8, attention_plan=many, fusion_plan=many)
    blurry, spikes = (x.double() for x in inputs())
    grads = []
    for model in (tiled, whole):
        references.seed_weights(model).double()
        references.seeded_loss(model(blurry, spikes)).backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys() and any(name.startswith("fusion.3.") for name in grads[1])
    for name, grad in grads[1].items():
        references.assert_near(grads[0][name], grad, within=1e-8, name=name)


def test_a_stage_s_flag_decides_what_its_branch_recomputes():
    flags = [True, False, False, True, False, True, True, True]
    with torch.device("meta"):
        model = network(use_checkpoint_attn=flags)
    assert [part.recompute for part in model.spike_attention] == flags[:4]
    assert [part.recompute for part in model.fusion] == flags[:4]


@pytest.mark.parametrize(
    "shape, got",
    [
        (None, "got none"),
        ((1, 3, 5, 21, 23), "(1, 3, 5, 21, 23)"),  # another clip length
        ((2, 2, 5, 21, 23), "(2, 2, 5, 21, 23)"),  # more clips
        ((1, 2, 4, 21, 23), "(1, 2, 4, 21, 23)"),  # other bins
        ((1, 2, 5, 21), "(1, 2, 5, 21)"),
    ],
)
def test_voxels_that_are_missing_or_of_another_clip_are_refused(shape, got):
    with torch.device("meta"):
        model, blurry = network(), torch.zeros(1, 2, 3, 42, 45)
        spikes = None if shape is None else torch.zeros(shape)
    with pytest.raises(ValueError, match=r"voxels \(1, 2, 5, h, w\), .*" + re.escape(got)):
        model(blurry, spikes)


def test_clips_that_vrt_cannot_restore_are_refused():
    with torch.device("meta"), pytest.raises(ValueError, match="at least 2, got 1"):
        network()(torch.zeros(1, 1, 3, 42, 45), torch.zeros(1, 1, 5, 21, 23))


@pytest.mark.parametrize("channels", [[8] * 3, [8] * 5, []])
def test_another_number_of_scales_is_refused(channels):
    message = f"channels_per_scale: expected 4 values, one for each of stages 1 to 4, got {len(channels)}"
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        network(channels_per_scale=channels)


@pytest.mark.parametrize("multiplies, within", [(True, 0.06), (False, 0.0)])
def test_mixed_precision_is_close_to_float32_and_equal_where_it_does_not_pay(
    monkeypatch, trained, multiplies, within
):
    """The same network in float32."""
    monkeypatch.setattr(half, "cpu_multiplies_bf16", lambda: multiplies)
    model, (blurry, spikes) = trained[0], inputs()
    with torch.no_grad():
        whole = model(blurry, spikes) - blurry
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(blurry, spikes) - blurry
    error = (mixed - whole).abs().max()
    assert error <= within * whole.abs().max()
    assert (error > 0) == multiplies


def test_it_compiles_without_a_break_and_gives_the_same_numbers(references):
    """The network as it is."""
    model = references.seed_weights(network(depths=[1] * 8)).double().eval()
    blurry, spikes = (x.double() for x in inputs())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        references.assert_near(compiled(blurry, spikes), model(blurry, spikes), within=1e-7)
