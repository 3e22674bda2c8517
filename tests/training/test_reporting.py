import json

import pytest

from deblurkit.analysis.readers import logs_of_run, read_log
from deblurkit.training import reporting, run
from deblurkit.training.observer import Silent


@pytest.fixture
def finished(tiny_config, Watcher):
    """A run of four steps, its configuration and what it told."""
    watcher = Watcher()
    config = tiny_config("LOG.VAL_EVERY_STEPS=2", "LOG.TENSORBOARD=true")
    summary = run.train(config, observer=watcher)
    return config, watcher, summary


def test_the_checks_at_the_end_are_in_the_log_and_in_a_file(finished):
    config, watcher, _ = finished
    document = json.loads((config.log.save_dir / "verification.json").read_text())
    assert [check["id"] for check in document["checks"]] == [check.id for check in watcher.checks]
    verdicts = {check["id"]: check["verdict"] for check in document["checks"]}
    assert verdicts["checkpoint_reload"] == "pass" and verdicts["finite"] == "pass"
    assert verdicts["gpu_busy"] == "unknown"
    (log,) = (config.log.save_dir / "logs").glob("train_*.log")
    assert f"verification: {document['counts']['pass']} passed" in log.read_text()


def test_a_checkpoint_that_is_not_what_is_in_memory_is_told(tiny_config, Watcher, monkeypatch):
    """A weight is changed between the last checkpoint and the check."""
    original = reporting.Reporting.end

    def changed(self, saving, **named):
        next(self._parts.model.parameters()).data.add_(1)
        original(self, saving, **named)

    monkeypatch.setattr(reporting.Reporting, "end", changed)
    watcher = Watcher()
    run.train(tiny_config(), observer=watcher)
    (found,) = [check for check in watcher.checks if check.id == "checkpoint_reload"]
    assert found.verdict == "fail" and "model" in found.figure


def test_time_beside_the_steps_is_in_the_timing_files_and_the_summary(finished):
    config, _, summary = finished
    for path in logs_of_run(config.log.save_dir):
        beside = {}
        for part in read_log(path).beside:
            beside.setdefault(part.name, []).append(part)
        assert [part.after_step for part in beside["validation"]] == [2, 4]
        assert sum(part.count for part in beside["sample loading"]) == 4 * config.train.batch_size
        seconds = sum(part.seconds for part in beside["validation"])
        assert seconds == pytest.approx(summary.outside_seconds["validation"], abs=2e-3)


def test_a_silent_observer_takes_everything(tiny_config):
    config = tiny_config()
    assert run.train(config, observer=Silent()).steps == 4


def test_rates_are_of_the_time_between_two_questions(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(reporting.time, "perf_counter", lambda: now[0])
    rate = reporting._Rate(100)
    now[0] = 12.0
    assert rate.since_last(110) == 5.0
    now[0] = 13.0
    assert rate.since_last(111) == 1.0
    assert rate.elapsed_total() == 3.0
