"""A space predicted by a stub with known bytes, and a small real one against `predict_step`."""

from dataclasses import replace

import pytest

from deblurkit.config.load import load_config
from deblurkit.errors import DeblurkitError
from deblurkit.tuning.overheads import MemoryRow
from deblurkit.tuning.recommend.records import Budget
from deblurkit.tuning.recommend.space import recomputed, search_space
from deblurkit.tuning.recommend.space_memory import predict_space
from deblurkit.tuning.step_memory import STATES, VALIDATION, StepMemory, predict_step

GIB = 2**30
SMALLEST_VRT = [
    "DATA.CLIP_LEN=2",
    "DATA.CROP_SIZE=40",
    "DATA.NUM_VOXEL_BINS=2",
    "MODEL.VRT_DEPTHS=[1, 1, 1, 1, 1, 1, 1, 1]",
    "MODEL.VRT.EMBED_DIMS=[8, 8]",
    "MODEL.VRT.NUM_HEADS=1",
    "MODEL.CHANNELS_PER_SCALE=[4, 4, 4, 4]",
    "TRAIN.BATCH_SIZE=2",
]


def config(preset, *overrides):
    return load_config(preset, None, overrides, warn=lambda text: None)


def bytes_of(chosen):
    """Return what the stub says: 8 GiB a clip, an eighth of it less for each half of the flags set."""
    attention, mlp = recomputed(chosen)
    states = {"adamw": 2, "adamw8bit": 1}[chosen.train.optim.type]
    kept = 8 - (3 * sum(attention) + 2 * sum(mlp)) / 8
    return int((states + kept * chosen.train.batch_size) * GIB)


class Stub:
    def __init__(self):
        self.asked = []

    def __call__(self, job):
        self.asked += job.configs
        return [self.step(chosen, job.device_kind) for chosen in job.configs]

    def step(self, chosen, kind):
        total = bytes_of(chosen)
        rows = (MemoryRow("activations", total - GIB, "stub"), MemoryRow(STATES, GIB, "stub"))
        return StepMemory(kind, "stub", (1,), rows, (), {"backward": total}, ())


def predicted(space, budget=None, *, predict, kind="cuda", store=None, seen=None, frame_shape=None):
    return predict_space(
        space,
        device_kind=kind,
        frame_shape=frame_shape,
        budget=budget or Budget(),
        store=store,
        workers=0,
        on_progress=lambda done, total: None if seen is None else seen.append((done, total)),
        predict=predict,
    )


def baseline_space(**options):
    return search_space(config("baseline"), device_kind="cuda", **options)


def test_all_are_predicted_once_where_everything_fits():
    space, stub, seen = baseline_space(), Stub(), []
    found = predicted(space, predict=stub, seen=seen)
    assert found.keys() == {each.key for each in space}
    assert all(found[each.key].peak_bytes == bytes_of(each.config) for each in space)
    assert all(found[each.key].from_ == "predicted" and not found[each.key].is_bound for each in space)
    assert len(stub.asked) == 4 * 6 * 2 * 2  # batches, recomputation, precisions, optimisers; not compilation
    assert seen[0] == (0, 48) and seen[-1] == (48, 48) and seen == sorted(seen)


def test_what_needs_more_than_something_that_does_not_fit_is_not_predicted():
    space, stub = baseline_space(), Stub()
    found = predicted(space, Budget(device_bytes=12 * GIB), predict=stub)
    fits = {each.key for each in space if found[each.key].peak_bytes <= 12 * GIB}
    assert fits == {each.key for each in space if bytes_of(each.config) <= 12 * GIB}
    assert all(found[key].from_ == "predicted" for key in fits)
    assert len(stub.asked) < 4 * 6 * 2 * 2
    bounds = [each for each in space if found[each.key].is_bound]
    assert bounds and all(12 * GIB < found[each.key].peak_bytes <= bytes_of(each.config) for each in bounds)
    assert all(found[each.key].tensor_bytes is None for each in bounds)
    told = {found[each.key].from_ for each in bounds}
    assert "does not fit, as micro-batch 3 does not already" in told
    assert "does not fit, as it does not even with FFN recomputed" in told


def test_a_full_batch_may_hold_less_than_a_part_of_it_by_the_gradients():
    """Micro-batch 6 needs no gradients from before; only more than those of the weights may rule it out."""

    class Accumulating(Stub):
        def step(self, chosen, kind):
            weights = 4 * GIB
            total = 11 * GIB + (weights if chosen.train.gradient_accumulation_steps > 1 else 0)
            rows = (
                MemoryRow("parameters", weights, "stub"),
                MemoryRow("activations", total - weights, "stub"),
            )
            return StepMemory(kind, "stub", (1,), rows, (), {"backward": total}, ())

    found = predicted(space := baseline_space(), Budget(device_bytes=12 * GIB), predict=Accumulating())
    full = [each for each in space if each.accumulation == 1]
    assert full and all(found[each.key].peak_bytes == 11 * GIB for each in full)


def test_devices_change_what_the_machine_holds_and_not_what_a_device_does():
    space = search_space(config("baseline"), device_kind="cuda", devices=(1, 3))
    found = predicted(space, predict=(stub := Stub()))
    one, three = (
        next(
            each
            for each in space
            if each.devices == number
            and each.batch_size == 2
            and not each.settings.keys() & {"TRAIN.OPTIM.TYPE", "TRAIN.AMP_ENABLED"}
            and each.choices["recompute"] == "none"
        )
        for number in (1, 3)
    )
    assert found[one.key].peak_bytes == found[three.key].peak_bytes == 18 * GIB
    assert found[three.key].host_bytes > 2 * found[one.key].host_bytes
    assert len(stub.asked) == len(set(stub.asked))


def test_on_a_cpu_the_machine_has_the_tensors_and_its_budget_rules_out_as_well():
    space = search_space(config("baseline"), device_kind="cpu")
    found = predicted(space, Budget(host_bytes=20 * GIB), predict=Stub(), kind="cpu")
    for each in space:
        assert found[each.key].host_bytes > found[each.key].peak_bytes
        if bytes_of(each.config) > 20 * GIB:
            assert found[each.key].host_bytes > 20 * GIB
    assert any(found[each.key].is_bound for each in space)


def test_an_error_leaves_its_candidates_without_figures():
    def failing(job):
        if job.configs[0].train.batch_size == 3:
            raise DeblurkitError("its process was killed")
        return Stub()(job)

    space = baseline_space()
    found = predicted(space, predict=failing)
    for each in space:
        if each.batch_size == 3:
            assert found[each.key].peak_bytes is None and not found[each.key].is_bound
            assert found[each.key].from_ == "its process was killed"
        else:
            assert found[each.key].peak_bytes == bytes_of(each.config)


def test_what_was_kept_is_not_predicted_again(tmp_path):
    space, store = baseline_space(), tmp_path / "memory.jsonl"
    first = predicted(space, predict=Stub(), store=store)
    again = predicted(space, predict=(stub := Stub()), store=store)
    assert again == first and not stub.asked


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_real_space_is_predicted_as_each_of_it_alone(kind):
    start = config("quickstart", "DATA.CROP_SIZE=32", "MODEL.BASE_CHANNELS=8", "TRAIN.BATCH_SIZE=2")
    space = search_space(start, device_kind="cpu")
    assert len(space) == 4 and start.train.gradient_accumulation_steps == 1
    found = predict_space(
        space,
        device_kind=kind,
        frame_shape=(48, 64),
        budget=Budget(),
        store=None,
        workers=0,
        on_progress=lambda done, total: None,
    )
    for each in space:
        alone = predict_step(each.config, device_kind=kind, frame_shape=(48, 64))
        assert found[each.key].peak_bytes == alone.total_bytes
        assert found[each.key].tensor_bytes == alone.step_peak_bytes


@pytest.mark.slow
def test_vrt_is_predicted_in_a_child_as_each_candidate_alone_and_its_validation_is_taken_once():
    """At 128 x 192 px the validation holds most: what recomputes in training changes nothing of it."""
    space = search_space(config("quickstart_vrt", *SMALLEST_VRT), device_kind="cpu", has_eight_bit=False)
    some = [each for each in space if each.choices["recompute"] in ("none", "attention + FFN")]
    assert len(some) == 4
    found = predict_space(
        some,
        device_kind="cpu",
        frame_shape=(128, 192),
        budget=Budget(),
        store=None,
        workers=1,
        on_progress=lambda done, total: None,
    )
    for each in some:
        alone = predict_step(each.config, frame_shape=(128, 192))
        assert found[each.key].peak_bytes == alone.total_bytes == alone.phases[VALIDATION]
        assert found[each.key].tensor_bytes == alone.step_peak_bytes


def test_a_validation_is_taken_once_for_candidates_that_share_it():
    class Validating(Stub):
        def __init__(self):
            super().__init__()
            self.shapes = []

        def __call__(self, job):
            self.shapes.append(job.frame_shape)
            steps = super().__call__(job)
            if job.frame_shape is None:
                return steps
            return [replace(step, phases={**step.phases, VALIDATION: 99 * GIB}) for step in steps]

    space, stub = search_space(config("baseline"), device_kind="cpu"), Validating()
    found = predicted(space, predict=stub, frame_shape=(720, 1280))
    assert stub.shapes == [(720, 1280)] + [None] * 23
    clip = 5 * (2 * 3 * 256**2 + 4 * 32 * 128**2)  # bytes: two images as uint8, voxels as float32
    for each in space:
        assert found[each.key].peak_bytes == 99 * GIB + (each.batch_size - 1) * clip


def test_an_empty_space_needs_no_prediction():
    found = predict_space(
        [], device_kind="cpu", budget=Budget(), store=None, on_progress=lambda done, total: None
    )
    assert found == {}
