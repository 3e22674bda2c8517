import json
import re

import numpy as np
import pytest
import torch

from deblurkit.models.vrt import alignment, half, warping, windows
from deblurkit.models.vrt.blocks import DropPath
from deblurkit.models.vrt.network import VRT

TINY = {
    "window_size": (2, 4, 4),
    "depths": [1] * 8,
    "indep_reconsts": [],
    "embed_dims": [8] * 8,
    "num_heads": [2] * 8,
    "deformable_groups": 2,
    "drop_path_rate": 0.0,
}


def network(**changes):
    torch.manual_seed(0)
    return VRT(**{**TINY, **changes})


@pytest.mark.parametrize("name", ["vrt_tiny_2frames", "vrt_padded_2frames", "vrt_window644_4frames"])
def test_it_gives_the_numbers_of_the_original_implementation(references, fixtures, name):
    """Reference outputs and gradients, in float64, of the published network with the same seeded weights."""
    with np.load(fixtures / f"{name}.npz") as file:
        config, norms = json.loads(str(file["config"])), json.loads(str(file["grad_norms"]))
        output, input_grad = torch.from_numpy(file["output"]), torch.from_numpy(file["input_grad"])
    clip = references.seeded_clip(config.pop("seed"), config.pop("shape")).double()
    model = references.seed_weights(VRT(drop_path_rate=0.0, **config)).double()
    out, grad, grads = references.results(model, clip)
    assert (out - output).abs().max() < 1e-6
    references.assert_near(grad, input_grad, within=1e-6)
    assert {key: grad.norm().item() for key, grad in grads.items()} == pytest.approx(norms, rel=1e-6)


def test_the_weights_have_the_names_and_shapes_of_the_published_checkpoint(fixtures):
    rows = (fixtures / "vrt_gopro_state_dict.tsv").read_text().splitlines()
    published = dict(row.split("\t")[:2] for row in rows)
    with torch.device("meta"):
        state = VRT().state_dict()
    assert all(value.is_meta for value in state.values())
    assert {key: "x".join(map(str, value.shape)) for key, value in state.items()} == published


def test_the_buffers_are_float32_and_int64_as_published(fixtures):
    rows = (fixtures / "vrt_gopro_state_dict.tsv").read_text().splitlines()
    published = {row.split("\t")[0]: row.split("\t")[2] for row in rows}
    with torch.device("meta"):
        state = VRT().state_dict()
    assert {key: str(value.dtype).removeprefix("torch.") for key, value in state.items()} == published


HELD_OUT = {
    "three neighbours of seven frames": (
        {"pa_frames": 6, "embed_dims": [12] * 9, "deformable_groups": 4},
        (1, 7, 3, 40, 40),
    ),
    "three neighbours where there are three frames besides": (
        {"pa_frames": 6, "embed_dims": [12] * 9, "deformable_groups": 3},
        (1, 4, 3, 48, 40),
    ),
    "two neighbours where there is one": (
        {"pa_frames": 4, "embed_dims": [12] * 7 + [24] * 2},
        (2, 2, 3, 40, 72),
    ),
    "stages of any depth, windows of any sides": (
        {"depths": [3, 1, 2, 3, 1, 2, 3, 1, 1], "window_size": (3, 4, 8), "indep_reconsts": [7]},
        (2, 4, 3, 40, 72),
    ),
}


@pytest.mark.parametrize("case", HELD_OUT)
def test_it_equals_a_plain_network_with_the_same_weights(references, plain_vrt, case):
    """`benchmarks/plain_vrt.py`: attention written out, frame pairs one by one, torchvision's convolution.

    SpyNet, most of the time at this size, is replaced in both: the reference numbers above cover it.
    """
    changes, shape = HELD_OUT[case]
    config = {
        "window_size": (2, 4, 4),
        "depths": [2] * 9,
        "indep_reconsts": [8],
        "embed_dims": [8] * 7 + [12] * 2,
        "num_heads": [2] * 9,
        "pa_frames": 2,
        "deformable_groups": 2,
        **changes,
    }
    clip = references.seeded_clip(5, shape).double()
    plain, model = plain_vrt.PlainVRT(**config), VRT(drop_path_rate=0.0, **config)
    for either in (plain, model):
        either.spynet = references.QuickFlow()
        references.seed_weights(either).double()
    expected, actual = references.results(plain, clip), references.results(model, clip)
    references.assert_near(actual[0], expected[0], within=1e-7, name="output")
    references.assert_near(actual[1], expected[1], within=1e-7, name="gradient of the clip")
    assert actual[2].keys() == expected[2].keys()
    for key, grad in expected[2].items():
        references.assert_near(actual[2][key], grad, within=1e-7, name=key)


def test_sides_that_are_no_multiple_of_eight_are_padded_by_the_border_and_cut(references):
    """The same network on the clip padded by hand."""
    model = references.seed_weights(network(window_size=(2, 8, 8))).double().eval()
    clip = references.seeded_clip(1, (1, 2, 3, 100, 90)).double()
    padded = torch.cat([clip, clip[..., -1:, :].expand(-1, -1, -1, 4, -1)], dim=-2)
    padded = torch.cat([padded, padded[..., -1:].expand(-1, -1, -1, -1, 6)], dim=-1)
    with torch.no_grad():
        out = model(clip)
        assert out.shape == clip.shape
        assert torch.equal(out, model(padded)[..., :100, :90])


def test_one_integer_gives_windows_of_six_frames(references):
    assert network(window_size=8).window == (6, 8, 8)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"depths": [1] * 7}, "depths: expected 7 stages and a group"),
        ({"embed_dims": [8] * 7}, "embed_dims: expected 8 values"),
        ({"num_heads": [2] * 9}, "num_heads: expected 8 values"),
        ({"num_heads": [3] * 8}, "embed_dims: expected multiples of 4 and of the 3 heads"),
        ({"embed_dims": [6] * 8}, "embed_dims: expected multiples of 4"),
        ({"embed_dims": [8] * 6 + [12, 12]}, "embed_dims: stages 1 to 7 are added"),
        ({"indep_reconsts": [6]}, r"indep_reconsts: expected indices .*\(7 to 7\), got 6"),
        ({"indep_reconsts": [8]}, r"indep_reconsts: .* got 8"),
        ({"pa_frames": 3}, "pa_frames: expected 2, 4 or 6, got 3"),
        (
            {"deformable_groups": 3},
            "deformable_groups: expected a divisor of 1 neighbours x 8 channels, got 3",
        ),
        ({"pa_frames": 6}, "embed_dims: expected a multiple of the 3 frames .* got 8"),
        ({"pa_frames": 4, "deformable_groups": 1}, "deformable_groups: expected a multiple of 2, .* got 1"),
        ({"window_size": (4, 4)}, "window_size: expected an integer or three"),
        ({"use_checkpoint_attn": [True] * 7}, "use_checkpoint_attn: expected one flag or 8"),
        ({"use_checkpoint_ffn": [True] * 9}, "use_checkpoint_ffn: expected one flag or 8"),
    ],
)
def test_arguments_that_do_not_fit_are_named(changes, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        VRT(**{**TINY, **changes})


@pytest.mark.parametrize(
    "changes, name",
    [
        ({"window_size": 0}, "window_size"),
        ({"window_size": (2, 0, 4)}, "window_size"),
        ({"num_heads": [0] * 8}, "heads"),
        ({"deformable_groups": 0}, "deformable_groups"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"drop_path_rate": -0.1}, "drop_path_rate"),
    ],
)
def test_arguments_out_of_range_are_named(changes, name):
    with torch.device("meta"), pytest.raises(ValueError, match=name):
        VRT(**{**TINY, **changes})


@pytest.mark.parametrize("shape", [(2, 3, 40, 40), (3, 40, 40), (1, 2, 1, 40, 40), (1, 3, 2, 40, 40)])
def test_clips_of_another_shape_are_refused_with_the_shape_they_have(shape):
    with pytest.raises(ValueError, match=re.escape(str(shape).strip("()"))):
        network()(torch.zeros(shape))


@pytest.mark.parametrize(
    "window, shape, message",
    [
        ((2, 4, 4), (1, 1, 3, 40, 40), "at least 2, got 1"),
        ((2, 4, 4), (1, 2, 3, 32, 64), "at least 33 x 33 px .* got 32 x 64"),
        ((2, 4, 4), (1, 2, 3, 64, 32), "at least 33 x 33 px .* got 64 x 32"),
        ((2, 8, 8), (1, 2, 3, 64, 60), "at least 64 x 64 px .* got 64 x 60"),
        ((2, 8, 4), (1, 2, 3, 56, 64), "at least 64 x 33 px .* got 56 x 64"),
    ],
)
def test_clips_that_it_cannot_restore_are_refused_with_a_reason(window, shape, message):
    with pytest.raises(ValueError, match=message):
        network(window_size=window)(torch.zeros(shape))


def test_spikes_are_refused():
    assert network().num_voxel_bins == 0
    with pytest.raises(ValueError, match="takes no spikes"):
        network()(torch.zeros(1, 2, 3, 40, 40), torch.zeros(1, 2, 4, 20, 20))


def test_the_drop_path_rates_rise_evenly_from_zero_over_all_blocks():
    with torch.device("meta"):
        model = VRT()
    rates = [m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx(np.linspace(0, 0.2, 72).tolist())


ALL, NONE = [True] * 8, [False] * 8
SOME = [True, False, False, True, False, False, False, True]


def calls_in_backward(model, clip):
    """Return the branches that ran in the forward and in the backward pass, and the results."""
    ran, handles = [], []
    for name, part in model.named_modules():
        if name.endswith((".attn", ".mlp")):
            handles.append(part.register_forward_pre_hook(lambda *_, name=name: ran.append(name)))
    out = model(clip)
    forward = sorted(ran)
    ran.clear()
    out.square().mean().backward()
    for handle in handles:
        handle.remove()
    return forward, sorted(ran), [out.detach()] + [p.grad for p in model.parameters()]


@pytest.mark.parametrize(
    "attention, ffn, expected_attention, expected_ffn",
    [(False, False, NONE, NONE), (True, False, ALL, NONE), (False, True, NONE, ALL), (SOME, ALL, SOME, ALL)],
)
def test_a_stage_is_recomputed_where_asked_and_gives_the_same_gradients(
    attention, ffn, expected_attention, expected_ffn
):
    """The network that keeps everything."""
    torch.manual_seed(1)
    clip, sizes = torch.rand(1, 2, 3, 40, 40), {"depths": [2] * 8}
    kept = network(**sizes)
    model = network(**sizes, use_checkpoint_attn=attention, use_checkpoint_ffn=ffn)
    _, _, expected = calls_in_backward(kept, clip)
    forward, recomputed, actual = calls_in_backward(model, clip)
    wanted = {f"stage{i + 1}.attn" for i in range(8) if expected_attention[i]}
    wanted |= {f"stage{i + 1}.mlp" for i in range(8) if expected_ffn[i]}
    branch = {name: f"{name.split('.')[0]}.{name.split('.')[-1]}" for name in forward}
    assert recomputed == [name for name in forward if branch[name] in wanted]
    for one, other in zip(actual, expected, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_recomputing_draws_the_same_clips_to_drop():
    """The network that keeps everything, with the same random numbers."""
    clip, grads = torch.rand(3, 2, 3, 40, 40), []
    for recompute in (False, True):
        model = network(drop_path_rate=0.5, use_checkpoint_attn=recompute, use_checkpoint_ffn=recompute)
        torch.manual_seed(3)
        model(clip).square().mean().backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.equal(*grads)


def test_nothing_is_recomputed_in_evaluation():
    model = network(use_checkpoint_attn=True, use_checkpoint_ffn=True).eval()
    _, recomputed, _ = calls_in_backward(model, torch.rand(1, 2, 3, 40, 40))
    assert recomputed == []


def checkerboard(shape):
    """Return one pixel black, the next white: a pattern whose motion cannot be told."""
    rows, columns = torch.meshgrid(torch.arange(shape[-2]), torch.arange(shape[-1]), indexing="ij")
    frames = torch.stack([(rows + columns + t) % 2 for t in range(shape[1])]).float()
    return frames[None, :, None].expand(shape).clone()


SHAPE = (1, 3, 3, 40, 48)
EXTREMES = {
    "random": lambda: torch.rand(SHAPE),
    "zeros": lambda: torch.zeros(SHAPE),
    "ones": lambda: torch.ones(SHAPE),
    "thousands": lambda: 1e3 * torch.rand(SHAPE),
    "checkerboard": lambda: checkerboard(SHAPE),
}


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_stays_finite(references, monkeypatch, dtype, name):
    monkeypatch.setattr(half, "cpu_multiplies_bf16", lambda: True)  # or autocast is off on most CPUs
    torch.manual_seed(0)
    model, clip = references.seed_weights(network(depths=[2] * 8)), EXTREMES[name]().requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        out = model(clip)
    out.float().mean().backward()
    assert out.isfinite().all() and clip.grad.isfinite().all()
    broken = [
        key for key, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()
    ]
    assert broken == []


@pytest.mark.parametrize("dtype, within", [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_mixed_precision_is_close_to_float32(monkeypatch, dtype, within):
    """The same network in float32."""
    monkeypatch.setattr(half, "cpu_multiplies_bf16", lambda: True)
    model, clip = network(depths=[2] * 8).eval(), torch.rand(SHAPE)
    with torch.no_grad():
        whole = model(clip) - clip
        with torch.autocast("cpu", dtype=dtype):
            rounded = model(clip) - clip
    assert not torch.equal(rounded, whole)
    assert (rounded - whole).abs().max() < within * whole.abs().max()


def forget_what_is_kept_between_calls():
    for module in (windows, warping, alignment):
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_goes_on_after_an_evaluation_of_the_same_size(mode):
    """Layouts, grids and tables are kept between calls: made in an evaluation, they must serve training."""
    forget_what_is_kept_between_calls()
    model = network(window_size=(2, 4, 5), pa_frames=4)
    clip = torch.rand(1, 3, 3, 48, 56)
    with mode():
        before = model(clip)
    out = model(clip)
    out.square().mean().backward()
    assert torch.allclose(out, before, atol=1e-5)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
