import json
from types import SimpleNamespace

import pytest
import torch

from deblurkit.analysis.readers import logs_of_run, read_all
from deblurkit.analysis.runs import merged
from deblurkit.training import reporting, run
from deblurkit.training.distributed import Ranks
from deblurkit.training.observer import Silent


def test_what_leaks_on_another_rank_is_not_kept_from_the_user(tiny_config, capsys):
    """Its observer is silent, as rank 0 says everything else."""
    parts = SimpleNamespace(config=tiny_config(), device=torch.device("cpu"), cache=None)
    of_rank = SimpleNamespace(_parts=parts, _ranks=Ranks(1, 2, 1, 2), _observer=Silent())
    watch = reporting.Reporting._memory_watch(of_rank)
    watch._warn("memory of rank 1 grows")
    assert capsys.readouterr().err == "warning of rank 1: memory of rank 1 grows\n"


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


def test_a_checkpoint_that_cannot_be_read_back_is_one_failed_check_of_all(tiny_config, Watcher, monkeypatch):
    """A disk that loses what was written: the other checks are still made, and the run ends as it should."""
    original = reporting.Reporting.end

    def damaged(self, saving, **named):
        saving.path(4).write_bytes(b"lost")
        original(self, saving, **named)

    monkeypatch.setattr(reporting.Reporting, "end", damaged)
    watcher, config = Watcher(), tiny_config()
    run.train(config, observer=watcher)
    (found,) = [check for check in watcher.checks if check.id == "checkpoint_reload"]
    assert found.verdict == "fail" and "step_00000004.pt: damaged" in found.figure
    document = json.loads((config.log.save_dir / "verification.json").read_text())
    assert len(document["checks"]) == len(watcher.checks) > 10
    assert (config.log.save_dir / "summary.json").exists()


def test_terms_of_some_steps_are_left_out_of_the_course(tiny_config, Watcher, monkeypatch, tmp_path):
    """A teacher that is asked in every third step: reports see it or not, as they come."""
    taught = tmp_path / "teacher"
    run.train(tiny_config(f"LOG.SAVE_DIR={taught}"), observer=Silent())
    seen = []
    monkeypatch.setattr(reporting, "verify", lambda evidence: seen.append(evidence) or [])
    keys = [f"TRAIN.DISTILL.TEACHER={taught}", "TRAIN.DISTILL.EVERY_N_STEPS=3", "TRAIN.DISTILL.WEIGHT=100"]
    keys += ["LOG.TIMING_CONSOLE_INTERVAL=1", "TRAIN.OPTIM.LR=1e-9", "TRAIN.SCHED.MIN_LR=0.0"]
    run.train(tiny_config(*keys), observer=Watcher())
    (evidence,) = seen
    losses = [loss for _, loss in evidence.losses]
    assert losses[2] > 2 * max(losses[0], losses[1], losses[3])
    steady = evidence.steady_losses
    assert max(steady) < 2 * min(steady) and steady[0] == pytest.approx(losses[0])
    assert evidence.protocol == "vrt"


def test_the_size_of_the_clips_is_noted_at_each_report(tiny_config, Watcher, monkeypatch):
    """Three steps an epoch: the second one begins with step 4."""
    seen = []
    monkeypatch.setattr(reporting, "verify", lambda evidence: seen.append(evidence) or [])
    keys = ["DATA.TRAIN_CROP_SIZE=16", "DATA.TRAIN_CROP_EPOCHS=1", "DATA.CLIP_LEN=3", "TRAIN.MAX_STEPS=5"]
    keys += ["DATA.TRAIN_CLIP_LEN=2", "DATA.TRAIN_CLIP_EPOCHS=1", "LOG.TIMING_CONSOLE_INTERVAL=1"]
    run.train(tiny_config(*keys), observer=Watcher())
    assert seen[0].clip_sizes == [(2, 16)] * 3 + [(3, 32)] * 2


def test_time_beside_the_steps_is_in_the_timing_files_and_the_summary(finished):
    config, _, summary = finished
    for log in merged(read_all(logs_of_run(config.log.save_dir))):
        beside = {}
        for part in log.beside:
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
