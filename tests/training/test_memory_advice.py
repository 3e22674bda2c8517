import contextlib
import shlex

import pytest
import torch

from deblurkit.data.workers import WorkerPlan
from deblurkit.training.memory_advice import RunAdvice
from deblurkit.training.observer import Silent
from deblurkit.training.parts import RunParts, assemble


@pytest.fixture
def parts(tiny_config):
    """Return a function that assembles a small run."""
    with contextlib.ExitStack() as stack:

        def make(*more):
            told = Silent()
            return stack.enter_context(
                contextlib.closing(assemble(tiny_config(*more), message=told.message, warn=told.warning))
            )

        yield make


def with_workers(parts, *, device="cpu"):
    """The parts as they would be on another machine."""
    plan = WorkerPlan(cpus=32, gpus=1, total=8, train=8, val=4)
    return RunParts(**{**vars(parts), "workers": plan, "device": torch.device(device)})


def test_loading_comes_first_and_settings_are_options(parts):
    found = RunAdvice(with_workers(parts("DATALOADER.TRAIN_PREFETCH_FACTOR=4"))).for_host()
    assert found[:2] == [
        "--set DATALOADER.TRAIN_WORKERS=4 (now 8 a process)",
        "--set DATALOADER.TRAIN_PREFETCH_FACTOR=3 (now 4)",
    ]
    assert found[2].startswith("--set TRAIN.BATCH_SIZE=1")


def test_the_cache_is_named_where_there_is_one(parts):
    cached = parts("DATA.USE_RAM_CACHE=true", "DATA.CACHE_SIZE_GB=1.0")
    advice = RunAdvice(with_workers(cached, device="cuda"))
    assert advice.for_host()[0] == "--set DATA.CACHE_SIZE_GB=0.5 (now 1)"


def test_a_run_without_workers_on_a_cpu_has_steps_to_shrink(parts):
    advice = RunAdvice(parts())
    assert advice.for_host() == advice.for_gpu()
    assert advice.for_host()[0].startswith("--set TRAIN.BATCH_SIZE=1")


def test_a_run_that_computes_on_a_gpu_has_no_step_on_the_host(parts):
    found = RunAdvice(with_workers(parts(), device="cuda")).for_host()
    assert found[0].startswith("--set DATALOADER") and all("TRAIN.BATCH" not in text for text in found)


def test_every_option_makes_a_valid_configuration(parts, tiny_config):
    advice = RunAdvice(with_workers(parts()))
    for option in (*advice.for_host(), *advice.for_gpu()):
        words = shlex.split(option.partition(" (now")[0])
        settings = [word for word in words if word != "--set"]
        assert settings and tiny_config(*settings)


def test_the_clips_of_a_run_hold_no_large_containers(parts):
    assert RunAdvice(parts()).containers() == []
