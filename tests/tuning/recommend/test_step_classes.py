"""What tells steps apart, and steps that come back from the disk."""

from dataclasses import asdict

import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning.overheads import MemoryRow
from deblurkit.tuning.recommend.step_classes import KeptResults, class_key, step_from
from deblurkit.tuning.step_memory import StepMemory

STEP = StepMemory(
    "cuda",
    "fake tensors",
    (1, 5, 3, 64, 64),
    (MemoryRow("parameters", 1024, "fake tensors"),),
    (),
    {"forward": 512, "backward": 1024},
    (MemoryRow("cuDNN workspaces", None, "by cuDNN"),),
)


def config(*overrides):
    return load_config("quickstart", None, overrides, warn=lambda text: None)


@pytest.mark.parametrize(
    "alike",
    ["TRAIN.EPOCHS=7", "LOG.SAVE_DIR=/elsewhere", "TRAIN.COMPILE_MODEL=true", "DATALOADER.TRAIN_WORKERS=2"],
)
def test_what_a_step_does_not_feel_makes_no_class(alike):
    assert class_key(config(alike)) == class_key(config())


@pytest.mark.parametrize(
    "other",
    ["DATA.CROP_SIZE=80", "TRAIN.OPTIM.TYPE=adamw8bit", "TRAIN.EMA_DECAY=0.5", "LOSS.LPIPS.WEIGHT=0.1"],
)
def test_what_it_feels_does(other):
    assert class_key(config(other)) != class_key(config())


def test_of_accumulation_it_feels_that_there_is_any():
    one, two, three = (class_key(config(f"TRAIN.GRADIENT_ACCUMULATION_STEPS={n}")) for n in (1, 2, 3))
    assert one != two == three
    assert class_key(config(), but=["DATA"]) == class_key(config("DATA.CROP_SIZE=80"), but=["DATA"])


def test_what_was_kept_comes_back_for_the_same_circumstances_alone(tmp_path):
    path = tmp_path / "deblurkit" / "steps.jsonl"
    kept = KeptResults(path, about=["cuda", (48, 64)])
    assert kept.find(config()) is None
    kept.add(config(), asdict(STEP))
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    path.write_bytes(b'{"key": "torn\n[1]\n' + path.read_bytes() + b'{"half": ')
    again = KeptResults(path, about=["cuda", (48, 64)])
    assert step_from(again.find(config("TRAIN.EPOCHS=7"))) == STEP
    assert again.find(config("DATA.CROP_SIZE=80")) is None
    assert KeptResults(path, about=["cpu", (48, 64)]).find(config()) is None
    assert KeptResults(path, about=["cuda", None]).find(config()) is None


def test_what_has_a_teacher_is_not_kept(tmp_path):
    taught = config("TRAIN.DISTILL.TEACHER=/somewhere/teacher.pt")
    KeptResults(tmp_path / "steps.jsonl", about=[]).add(taught, asdict(STEP))
    assert not (tmp_path / "steps.jsonl").exists()


@pytest.mark.parametrize("torn", [None, {}, {"device_kind": "cpu"}, [], {"rows": 1}])
def test_what_is_not_whole_is_no_step(torn):
    assert step_from(torn) is None
