import torch
from torch import nn

from deblurkit.analysis.readers import read_log
from deblurkit.training import run
from deblurkit.training.step_timing import PHASE_NAMES


def log_of(config):
    (path,) = (config.log.save_dir / "logs").glob("timing_*.rank0.jsonl")
    return read_log(path)


def test_modules_have_rows_inside_the_phases(tiny_config, Watcher):
    config = tiny_config()
    run.train(config, observer=Watcher())
    times = log_of(config).times
    for phase in ("forward", "backward"):
        inside = [name for name in times.columns if name.startswith(f"{phase}/") and name.count("/") == 1]
        assert inside
        assert (times[inside].sum(axis=1) <= 1.001 * times[phase]).all()


def test_timing_changes_nothing_of_the_training(tiny_config, Watcher, tmp_path):
    """A run without it, bit for bit."""
    weights = []
    for number, keys in enumerate([[], ["LOG.ENABLE_TIMING_LOG=false"]]):
        config = tiny_config(*keys, f"LOG.SAVE_DIR={tmp_path / str(number)}")
        run.train(config, observer=Watcher())
        (path,) = (config.log.save_dir / "checkpoints").glob("step_*.pt")
        weights.append(torch.load(path, weights_only=True)["model"])
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_rows_are_in_chinese_where_asked(tiny_config, Watcher):
    config, watcher = tiny_config("LOG.TIMING_LANGUAGE=zh"), Watcher()
    run.train(config, observer=watcher)
    names = set(log_of(config).times.columns)
    assert set(PHASE_NAMES["zh"].values()) <= names and "forward" not in names
    assert any(name.startswith("前向传播总耗时/") for name in names)
    assert all(progress.data_ms >= 0 for progress in watcher.steps)


def test_depth_0_times_phases_only(tiny_config, Watcher):
    config = tiny_config("LOG.TIMING_MODULE_DEPTH=0")
    run.train(config, observer=Watcher())
    assert not any("/" in name for name in log_of(config).times.columns)


def test_a_pattern_finds_modules(tiny_config, Watcher):
    config = tiny_config("LOG.TIMING_MODULE_PATTERN=encoders.0$")
    run.train(config, observer=Watcher())
    assert {name for name in log_of(config).times.columns if "/" in name} == {
        "forward/encoders.0",
        "backward/encoders.0",
    }


def test_over_budget_fewer_modules_are_timed_and_it_is_said(tiny_config, Watcher):
    keys = ("LOG.TIMING_BUDGET_PERCENT=0.0001", "LOG.TIMING_MODULE_DEPTH=2", "TRAIN.MAX_STEPS=60")
    config, watcher = tiny_config(*keys), Watcher()
    run.train(config, observer=watcher)
    said = [text for text in watcher.messages if "LOG.TIMING_BUDGET_PERCENT" in text]
    assert len(said) > 1 and all("still timed" in text for text in said[:-1])
    assert said[-1].endswith("only phases are timed from here on")


def test_a_compiled_network_is_timed_by_phase(tiny_config, Watcher, monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: None)
    config, watcher = tiny_config("TRAIN.COMPILE_MODEL=true"), Watcher()
    run.train(config, observer=watcher)
    assert "modules are not timed: a compiled network has none; phases are" in watcher.messages
    assert not any("/" in name for name in log_of(config).times.columns)
