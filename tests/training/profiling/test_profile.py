import pytest
import torch

from deblurkit.config.load import load_config
from deblurkit.errors import DeblurkitError, UsageError
from deblurkit.training.profiling import profile as module
from deblurkit.training.profiling.profile import profile_step, shapes_in
from deblurkit.training.step import PHASES

TINY_VRT = [
    "TRAIN.DEVICE=cpu",
    "TRAIN.BATCH_SIZE=1",
    "DATA.CLIP_LEN=2",
    "DATA.CROP_SIZE=40",
    "DATA.NUM_VOXEL_BINS=2",
    "MODEL.VRT.EMBED_DIMS=[8, 8]",
    "MODEL.VRT.NUM_HEADS=1",
    "MODEL.CHANNELS_PER_SCALE=[4, 4, 4, 4]",
]


def vrt(*more):
    config = load_config("quickstart_vrt", None, [*TINY_VRT, *more], warn=lambda text: None)
    return profile_step(config, steps=1, warmup=0)


@pytest.fixture(scope="module")
def plain_vrt():
    return vrt()


@pytest.fixture(scope="module")
def recomputing_vrt():
    return vrt("MODEL.VRT.USE_CHECKPOINT_ATTN=true", "MODEL.VRT.USE_CHECKPOINT_FFN=true")


def test_the_partition_is_the_wall_time(plain_vrt):
    assert [phase.name for phase in plain_vrt.phases] == [*PHASES, "unaccounted"]
    assert sum(phase.mean_ms for phase in plain_vrt.phases) == pytest.approx(plain_vrt.step_ms)
    assert 0 <= plain_vrt.phase_ms("unaccounted") < 0.1 * plain_vrt.step_ms
    whole = sum((row.own_ms for row in plain_vrt.rows), plain_vrt.outside_ms)
    assert whole.forward == pytest.approx(plain_vrt.phase_ms("forward"))
    assert whole.backward + whole.recompute == pytest.approx(plain_vrt.phase_ms("backward"))


def test_every_row_has_a_forward_and_a_backward_pass(plain_vrt):
    named = {row.name: row for row in plain_vrt.rows}
    assert {"VRT/Stage1", "VRT/Stage8", "VRT/Optical flow", "Fusion/Stage4", "Spike encoder"} <= set(named)
    assert all(row.ms.forward > 0 and row.ms.backward > 0 for row in plain_vrt.rows)
    assert all(row.calls == 1 and row.outputs for row in plain_vrt.rows if row.modules)


def test_rows_of_recompute_appear_with_checkpointing_and_only_then(plain_vrt, recomputing_vrt):
    assert plain_vrt.recompute_ms == {} and all(row.ms.recompute == 0 for row in plain_vrt.rows)
    again = {row.name for row in recomputing_vrt.rows if row.ms.recompute > 0}
    assert again == {"VRT", *(f"VRT/Stage{k}" for k in range(1, 9))}
    assert set(recomputing_vrt.recompute_ms) == {"attention", "feed_forward"}
    only = vrt("MODEL.VRT.USE_CHECKPOINT_FFN=true")
    assert set(only.recompute_ms) == {"feed_forward"}


def test_recompute_changes_no_other_operations(plain_vrt, recomputing_vrt):
    before, after = plain_vrt.flops, recomputing_vrt.flops
    assert (after.forward, after.backward) == (before.forward, before.backward)
    assert before.recompute == 0 < after.recompute < after.forward
    assert sum(phase.flops for phase in plain_vrt.phases) == before.total


def test_operations_of_a_row_are_those_of_its_layers(tiny_config):
    config = tiny_config("TRAIN.GRADIENT_ACCUMULATION_STEPS=2")
    profile = profile_step(config, steps=1, warmup=0, pattern=r"^frames_out$")
    (row,) = profile.rows
    ((images, channels, height, width),) = row.inputs
    ((_, out, *_),) = row.outputs
    product = 2 * images * height * width * channels * out * 9
    assert row.flops.forward == 2 * product and row.flops.backward == 2 * 2 * product
    assert row.calls == 2 and profile.subject.samples == 4


def test_weights_and_activations_are_in_the_peak(tiny_config):
    profile = profile_step(tiny_config(), steps=1, warmup=0)
    peaks = {phase.name: phase.peak_bytes for phase in profile.phases}
    state = 3 * 4 * profile.subject.parameters  # weights and Adam's two moments
    assert peaks["data"] >= state and peaks["backward"] > peaks["transfer"]
    assert peaks["unaccounted"] is None and profile.peak_bytes == max(filter(None, peaks.values()))


def test_the_run_s_own_clips_are_waited_for(tiny_config):
    seen = []
    profile = profile_step(
        tiny_config("TRAIN.MAX_STEPS=2"),
        steps=2,
        warmup=1,
        use_data=True,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert profile.subject.data == "loader" and profile.phase_ms("data") > 0
    assert seen[0] == (0, 6) and seen[-1] == (6, 6)
    assert not any("random clips" in note for note in profile.notes)


def test_a_compiled_network_has_phases_only(tiny_config, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **named: None)
    config = tiny_config("TRAIN.COMPILE_MODEL=true")
    profile = profile_step(config, steps=1, warmup=0)
    assert profile.rows == () and profile.flops.total > 0 and profile.peak_bytes is None
    assert any("COMPILE_MODEL" in note for note in profile.notes)
    with pytest.raises(UsageError, match="compiled"):
        profile_step(config, steps=1, warmup=0, pattern="x")


def test_hooks_are_gone_afterwards(tiny_config, monkeypatch):
    places = []
    find = module.find_rows

    def spied(place, **named):
        places.append(place)
        return find(place, **named)

    monkeypatch.setattr(module, "find_rows", spied)
    profile_step(tiny_config(), steps=1, warmup=0)
    for part in places[0].model.modules():
        assert not part._forward_hooks and not part._forward_pre_hooks


def test_a_pattern_that_finds_nothing_is_refused(tiny_config):
    with pytest.raises(UsageError, match="nowhere: finds none of the .* modules, such as"):
        profile_step(tiny_config(), steps=1, warmup=0, pattern="nowhere")


def test_a_step_that_does_not_fit_is_one_line(tiny_config, monkeypatch):
    def full(*args, **named):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried\nmore")

    monkeypatch.setattr(module, "find_rows", full)
    with pytest.raises(DeblurkitError, match="does not fit into memory.*Tried$"):
        profile_step(tiny_config(), steps=1, warmup=0)


def test_shapes_are_found_in_whatever_holds_tensors(plain_vrt):
    x = torch.zeros(2, 3)
    assert shapes_in([x, {"a": (x[0], 5)}, None]) == ((2, 3), (3,))
    stage = next(row for row in plain_vrt.rows if row.name == "VRT/Stage1")
    assert stage.outputs == ((1, 2, 40, 40, 8),) and len(stage.inputs) == 3  # tokens, flows both ways
