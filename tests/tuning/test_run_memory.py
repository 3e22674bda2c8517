from dataclasses import replace
from types import SimpleNamespace

import pytest

from deblurkit.memory.gpu import Gpu, GpuLook, RecordedGpus
from deblurkit.memory.look import glance
from deblurkit.memory.machine import Machine
from deblurkit.tuning.run_memory import (
    device_kind,
    freed,
    judged_again,
    predict_run,
    predicting_processes,
    size_of_data,
    visible_gpus,
    with_changes,
)
from deblurkit.tuning.verdicts import ResourceVerdict

GIB = 2**30


@pytest.fixture
def look_of(tmp_path, gpu_of, made_sources):
    """Return a function that looks at a machine of 64 GiB with GPUs of so much free memory."""

    def make(*free):
        (tmp_path / "proc").mkdir(exist_ok=True)
        sizes = f"MemTotal: {64 * 2**20} kB\nMemFree: 0 kB\nMemAvailable: {40 * 2**20} kB"
        (tmp_path / "proc/meminfo").write_text(sizes)
        gpus = tuple(gpu_of(index, gib) for index, gib in enumerate(free))
        machine = Machine(tmp_path / "proc", tmp_path / "shm", tmp_path / "cgroup")
        return glance(made_sources(machine, gpus=RecordedGpus([GpuLook(gpus)])))

    return make


class Predictor:
    """Says that a step takes so much, less where the batch is smaller, and notes what it was asked."""

    def __init__(self, step_of, kind="cuda"):
        self.step_of, self.kind, self.asked = step_of, kind, []

    def __call__(self, config, **about):
        self.asked.append(about)
        return self.step_of(self.kind, gib=10 * config.train.batch_size)


@pytest.mark.parametrize(
    ("setting", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        ("1, 7, 0", [1]),
        ("GPU-2a", [2]),
        ("none", []),
        ("MIG-2abc", []),  # none is divided
    ],
)
def test_cuda_numbers_the_gpus_that_it_may_see(gpu_of, setting, indices):
    gpus = [gpu_of(index, 1) for index in range(3)]
    assert [gpu.index for gpu in visible_gpus(gpus, setting)] == indices


def divided(gpu):
    """A GPU in the mode that NVML tells as the first of two: current, and after a restart."""
    library = SimpleNamespace(NVMLError=RuntimeError, nvmlDeviceGetMigMode=lambda handle: [1, 1])
    return replace(gpu, unseen=Gpu(library, None).state(0).unseen)


@pytest.mark.parametrize(
    ("setting", "indices"),
    [
        ("MIG-d51f6fe4-8e42-5f4b-b9c1-1a7a5b1ab0c2", [1]),
        ("MIG-GPU-2abc/3/0", [2]),
        ("MIG-GPU-0abc/3/0", []),  # it is not divided
    ],
)
def test_a_part_of_a_gpu_is_on_one_that_is_divided(gpu_of, setting, indices):
    gpus = [gpu_of(0, 40), divided(gpu_of(1, 40)), divided(gpu_of(2, 40))]
    found = visible_gpus(gpus, setting)
    assert [gpu.index for gpu in found] == indices
    assert device_kind("auto", found) == ("cuda" if indices else "cpu")


@pytest.mark.parametrize(
    ("setting", "free", "kind"),
    [("auto", (1,), "cuda"), ("auto", (), "cpu"), ("cuda", (), "cuda"), ("cpu", (1,), "cpu")],
)
def test_the_device_is_the_run_s(gpu_of, setting, free, kind):
    assert device_kind(setting, [gpu_of(index, gib) for index, gib in enumerate(free)]) == kind


@pytest.mark.parametrize(
    ("kind", "expected"), [("gpu", "device"), ("shm", "shm"), ("ram", "ram"), ("cgroup", "ram")]
)
def test_what_is_taken_most_of_is_to_be_freed(kind, expected):
    assert freed([ResourceVerdict("x", kind, 10, 5, "fits", "")], "cuda") == expected
    assert (freed([], "cuda"), freed([], "cpu")) == ("device", "ram")


def test_the_dataset_tells_its_sizes(dataset_root, tmp_path, tiny_config):
    size = size_of_data(tiny_config().data)
    assert (size.frame_shape, size.num_frames, size.storage, size.note) == ((48, 64), 15, "png", "")
    alone = size_of_data(tiny_config("DATA.VAL_SPLIT=train").data)
    assert alone.num_frames == 10  # one split that is read twice is in the cache once
    missing = size_of_data(tiny_config(f"DATA.ROOT={tmp_path / 'gone'}").data)
    assert (missing.frame_shape, missing.num_frames) == (None, None)
    assert missing.note.startswith(f"DATA.ROOT: {tmp_path / 'gone'} is not there; ")
    (tmp_path / "manifest.json").write_text("{}")
    assert "schema" in size_of_data(tiny_config(f"DATA.ROOT={tmp_path}").data).note


def test_a_run_on_two_gpus(look_of, step_of, tiny_config):
    predict, said = Predictor(step_of), []
    look = look_of(40, 12, 47)
    run = predict_run(
        tiny_config("TRAIN.DEVICE=auto"),
        look,
        world_size=2,
        message=said.append,
        environment={"CUDA_VISIBLE_DEVICES": "1,0"},
        predict=predict,
    )
    assert predict.asked == [{"device_kind": "cuda", "frame_shape": (48, 64), "world_size": 2}]
    verdicts = {each.name: each.verdict for each in run.verdicts}
    assert (verdicts["GPU 1"], verdicts["GPU 0"], verdicts["RAM"]) == ("does not fit", "fits", "fits")
    assert "GPU 2" not in verdicts
    assert run.notes == ("GPU 2 has 47.00 GiB free, and would do: CUDA_VISIBLE_DEVICES=GPU-2abc",)
    assert run.resource == "device" and run.host.world_size == 2
    assert run.title.startswith("baseline, clips 1 x 5 x 3 x 256 x 256, 2 processes")
    assert said == ["predicting a step of baseline on a GPU …"]
    later = replace(look, gpus=look_of(40, 30, 47).gpus)
    again = judged_again(run, later, environment={"CUDA_VISIBLE_DEVICES": "1,0"})
    assert {each.name: each.verdict for each in again}["GPU 1"] == "fits"


def verdicts_of(run):
    return {each.name: (each.verdict, each.why) for each in run.verdicts}


def test_of_gpus_that_cuda_may_number_otherwise_nothing_is_known(look_of, step_of, tiny_config):
    look = look_of(40, 12)
    first, second = look.gpus.gpus
    look = replace(look, gpus=GpuLook((first, replace(second, name="NVIDIA T400"))))

    def run_with(**environment):
        config = tiny_config("TRAIN.DEVICE=cuda")
        about = {"message": lambda text: None, "predict": Predictor(step_of)}
        return predict_run(config, look, environment=environment, **about)

    doubtful = run_with()
    verdict, why = verdicts_of(doubtful)["GPU 0"]
    assert (verdict, doubtful.resource) == ("cannot know", "device") and "CUDA_DEVICE_ORDER=PCI_BUS_ID" in why
    assert verdicts_of(run_with(CUDA_DEVICE_ORDER="PCI_BUS_ID"))["GPU 0"][0] == "fits"
    again = judged_again(doubtful, look, environment={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert {each.name: each.verdict for each in again}["GPU 0"] == "fits"


@pytest.mark.parametrize(
    ("free", "expected", "beginning"),
    [
        (60, "fits", "training alone: "),
        (40, "cannot know", "training alone: "),  # 21 GiB are more than half of it
        (22, "tight", "training alone: "),
        (20, "does not fit", "1.00 GiB too much"),
    ],
)
def test_where_the_validation_is_not_predicted_only_ample_memory_fits(
    look_of, step_of, tiny_config, tmp_path, free, expected, beginning
):
    run = predict_run(
        tiny_config("TRAIN.DEVICE=cuda", f"DATA.ROOT={tmp_path / 'gone'}"),
        look_of(free),
        message=lambda text: None,
        environment={},
        predict=Predictor(step_of),
    )
    verdict, why = verdicts_of(run)["GPU 0"]
    assert (verdict, why[: len(beginning)]) == (expected, beginning)
    assert {each.verdict for each in judged_again(run, look_of(free), environment={})} >= {expected}


def test_ranks_that_share_take_what_the_change_to_that_has_said(look_of, step_of, tiny_config):
    """Of 4 GiB of states each of two ranks keeps 2."""
    chosen = ("TRAIN.DEVICE=cuda", "TRAIN.EMA_DECAY=0.0")
    predict, about = Predictor(step_of), {"world_size": 2, "message": lambda text: None, "environment": {}}
    alone = predict_run(tiny_config(*chosen), look_of(40, 40), predict=predict, **about)
    found = with_changes(
        alone, tiny_config(*chosen), on_progress=lambda done, total: None, predict=predict
    ).changes
    change = next(each for each in found if each.settings == ("TRAIN.PARALLEL=fsdp",))
    shared = predict_run(
        tiny_config(*chosen, "TRAIN.PARALLEL=fsdp"), look_of(40, 40), predict=predict, **about
    )
    assert change.frees_bytes == 2 * GIB
    assert shared.step.total_bytes == alone.step.total_bytes - change.frees_bytes


def test_without_a_gpu_a_run_is_on_the_cpu_and_its_step_in_ram(look_of, step_of, tiny_config):
    run = predict_run(
        tiny_config("TRAIN.DEVICE=auto"),
        look_of(),
        message=lambda text: None,
        environment={},
        predict=Predictor(step_of, "cpu"),
    )
    assert run.host.needed_bytes > run.step.peak_bytes
    assert (run.resource, run.notes) == ("ram", ())


def test_changes_are_predicted_for_what_is_taken_most_of(look_of, step_of, tiny_config):
    predict, seen = Predictor(step_of), []
    config = tiny_config("TRAIN.DEVICE=auto", "TRAIN.BATCH_SIZE=4")
    run = predict_run(config, look_of(30), message=seen.append, environment={}, predict=predict)
    assert run.changes == ()
    found = with_changes(run, config, on_progress=lambda done, total: seen.append(done), predict=predict)
    halved = next(each for each in found.changes if "TRAIN.BATCH_SIZE=2" in each.settings)
    assert (halved.resource, halved.frees_bytes) == ("device", 20 * GIB)
    batch, *others = predict.asked[1:]
    assert "frame_shape" not in batch  # smaller batches leave the validation as it is
    assert (48, 64) in [about.get("frame_shape") for about in others]
    assert seen[-1] > 0


def test_what_is_soon_predicted_needs_no_children(look_of, step_of, tiny_config):
    predict = Predictor(step_of, "cpu")
    run = predict_run(tiny_config(), look_of(), message=lambda text: None, environment={}, predict=predict)
    assert predicting_processes(run, seconds=4.0, cpus=4) == 1
    assert [predicting_processes(run, seconds=30.0, cpus=cpus) for cpus in (1, 4, 128)] == [1, 4, 8]
