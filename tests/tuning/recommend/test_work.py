"""Work counted on fake tensors against the same counted while real ones are computed with."""

import pytest

from deblurkit.config.load import load_config
from deblurkit.models.registry import build_model
from deblurkit.training.profiling.counters import BYTES, CALLS, FLOPS, WorkClock
from deblurkit.training.profiling.workplace import workplace
from deblurkit.tuning.recommend.space import search_space
from deblurkit.tuning.recommend.work import count_work

VRT = [
    "DATA.CLIP_LEN=2",
    "DATA.CROP_SIZE=40",
    "DATA.NUM_VOXEL_BINS=2",
    "MODEL.VRT_DEPTHS=[1, 1, 1, 1, 1, 1, 1, 1]",
    "MODEL.VRT.EMBED_DIMS=[8, 8]",
    "MODEL.VRT.NUM_HEADS=1",
    "MODEL.CHANNELS_PER_SCALE=[4, 4, 4, 4]",
]
LIGHT = ["DATA.CROP_SIZE=32", "MODEL.BASE_CHANNELS=8", "DATA.NUM_VOXEL_BINS=4"]
RECOMPUTING = ["MODEL.VRT.USE_CHECKPOINT_ATTN=true", "MODEL.VRT.USE_CHECKPOINT_FFN=true"]


def config(preset, *overrides):
    return load_config(preset, None, ["TRAIN.DEVICE=cpu", *overrides], warn=lambda text: None)


def really_done(chosen):
    """Return what a micro-step on real tensors computes, moves and calls, by phase."""
    with workplace(chosen, steps=2, use_data=False, message=print, warn=print) as place, WorkClock() as clock:
        (record,) = place.take_steps(1, clock, accumulation=1)
    spans = {span.name: span for span in record.spans}
    return {
        of: [spans[name].end[of] - spans[name].start[of] for name in ("forward", "loss", "backward")]
        for of in (FLOPS, BYTES, CALLS)
    }


def counted(space, **options):
    done = []
    found = count_work(
        space, device_kind="cpu", workers=0, on_progress=lambda *now: done.append(now), **options
    )
    assert done[-1][0] == done[-1][1]
    return found, len(done) - 1


@pytest.mark.parametrize(
    ("preset", "given"),
    [
        ("quickstart", LIGHT),
        pytest.param("quickstart_vrt", VRT, marks=pytest.mark.slow),
        pytest.param("quickstart_vrt", [*VRT, *RECOMPUTING], marks=pytest.mark.slow),
    ],
    ids=["light", "keeping", "recomputing"],
)
def test_work_is_that_of_a_real_step_and_grows_with_the_clips(preset, given):
    start = config(preset, *given, "TRAIN.BATCH_SIZE=1", "TRAIN.GRADIENT_ACCUMULATION_STEPS=3")
    one, three = (
        next(
            each
            for each in search_space(start, device_kind="cpu")
            if each.batch_size == batch
            and each.settings.keys() <= {"TRAIN.BATCH_SIZE", "TRAIN.GRADIENT_ACCUMULATION_STEPS"}
        )
        for batch in (1, 3)
    )
    found, classes = counted([one, three])
    assert classes == 1
    done, work = really_done(one.config), found[one.key]
    assert (work.forward_flops, work.backward_flops) == (sum(done[FLOPS][:2]), done[FLOPS][2])
    assert work.forward_bytes == pytest.approx(sum(done[BYTES][:2]), rel=0.01)
    assert work.backward_bytes == pytest.approx(done[BYTES][2], rel=0.01)
    assert work.forward_calls == pytest.approx(sum(done[CALLS][:2]), rel=0.02)
    assert work.backward_calls == pytest.approx(done[CALLS][2], rel=0.02)
    model = build_model(start.model, num_voxel_bins=start.data.num_voxel_bins)
    assert work.weights == sum(weights.numel() for weights in model.parameters())
    done, work = really_done(three.config), found[three.key]
    assert (work.forward_flops, work.backward_flops) == (sum(done[FLOPS][:2]), done[FLOPS][2])
    assert work.forward_bytes == pytest.approx(sum(done[BYTES][:2]), rel=0.1)
    assert work.backward_bytes == pytest.approx(done[BYTES][2], rel=0.1)


@pytest.mark.slow
def test_what_is_made_again_is_work_of_the_backward_pass():
    start = config("quickstart_vrt", *VRT, "TRAIN.BATCH_SIZE=1")
    space = search_space(start, device_kind="cpu")
    found, classes = counted(space)
    assert classes == 6 and found.keys() == {each.key for each in space}
    by_words = {each.choices["recompute"]: found[each.key] for each in space}
    none, attention, both = by_words["none"], by_words["attention"], by_words["attention + FFN"]
    assert none.forward_flops == attention.forward_flops == both.forward_flops
    assert none.backward_flops < attention.backward_flops < both.backward_flops
    assert both.backward_flops - none.backward_flops < both.forward_flops
    in_some = by_words["attention in stages 1, 7, 8"]
    assert none.backward_flops < in_some.backward_flops < attention.backward_flops


def test_16_bits_move_less_than_32_and_compute_as_much():
    start = config("quickstart", *LIGHT)
    space = search_space(start, device_kind="cuda", has_eight_bit=False)
    found, classes = counted(space)
    assert classes == 2  # compiled or not, it is counted once
    whole, half = (
        next(found[each.key] for each in space if each.choices["precision"] == words)
        for words in ("float32", "bf16")
    )
    assert whole.forward_flops == half.forward_flops
    assert half.forward_bytes < whole.forward_bytes


def test_counts_are_kept_and_not_made_again(tmp_path, monkeypatch):
    space = search_space(config("quickstart", *LIGHT), device_kind="cpu")
    first, classes = counted(space, store=tmp_path / "work.jsonl")
    assert classes == 1
    monkeypatch.setattr("deblurkit.tuning.recommend.work.count_job", None)
    assert counted(space, store=tmp_path / "work.jsonl") == (first, 0)


def test_what_cannot_be_counted_is_left_out():
    start = config("quickstart", *LIGHT, "TRAIN.DISTILL.TEACHER=/nowhere/teacher.pt")
    found, _ = counted(search_space(start, device_kind="cpu"))
    assert found == {}


def test_an_empty_space_has_no_work():
    assert count_work([], device_kind="cpu", on_progress=lambda done, total: None) == {}
