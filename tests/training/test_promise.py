import json

import pytest

from deblurkit.config.sections.run import PromiseSection
from deblurkit.training import promise, run
from deblurkit.training.promise import (
    FEWEST_STEPS,
    STEPS,
    WARMUP_STEPS,
    PromiseOutcome,
    PromiseWatch,
    median_rate,
)

GIB = 2**30


def section(**values):
    rate = {"LOW": 6.0, "SAMPLES_PER_SECOND": 6.5, "HIGH": 7.0, "HARDWARE": "a server"}
    return PromiseSection.model_validate({**rate, **values})


class Clock:
    """Time that passes when a test says so; marks are read once the device is as far."""

    name = "fake"

    def __init__(self):
        self.now, self.behind, self.waited = 0.0, 0.0, False

    def mark(self):
        return self.now

    def elapsed(self, start, end):
        return end - start if end <= self.now - self.behind else None

    def release(self, marks):
        pass

    def wait(self):
        self.behind, self.waited = 0.0, True


class Watched:
    """A watch of a promise, on a clock of its own, and what it has told."""

    def __init__(self, promised=None, *, samples=4, peaks=None, hardware="a server"):
        self.clock, self.told, self.peaks = Clock(), [], list(peaks or [])
        self.watch = PromiseWatch(
            promised or section(),
            clock=self.clock,
            samples_per_step=samples,
            peak_bytes=(lambda: self.peaks.pop(0)) if peaks else None,
            hardware=hardware,
            tell=self.told.append,
        )
        self.watch.begin()

    def take(self, count, seconds):
        for _ in range(count):
            self.clock.now += seconds
            self.watch.after_step()


def test_the_rate_is_of_the_steps_after_the_warm_up_and_is_told_once():
    """4 samples in 0.625 s are 6.4 a second; the warm-up is 100 times as slow."""
    watched = Watched()
    watched.take(WARMUP_STEPS, 60.0)
    watched.take(STEPS - 1, 0.625)
    assert watched.told == []
    watched.take(1, 0.625)
    (outcome,) = watched.told
    assert (outcome.steps, outcome.is_kept) == (STEPS, True)
    assert outcome.samples_per_second == pytest.approx(6.4)
    watched.take(100, 9.0)
    assert watched.watch.end() is outcome and len(watched.told) == 1


def test_pauses_are_no_steps_time():
    watched = Watched()
    watched.take(WARMUP_STEPS, 1.0)
    for _ in range(STEPS):
        watched.watch.pause()
        watched.clock.now += 500.0
        watched.watch.begin()
        watched.take(1, 0.625)
    assert watched.told[0].samples_per_second == pytest.approx(6.4)


def test_a_device_that_is_behind_is_not_waited_for_before_the_end():
    watched = Watched()
    watched.clock.behind = 1e9
    watched.take(WARMUP_STEPS + STEPS + 500, 0.5)
    assert watched.told == [] and not watched.clock.waited
    outcome = watched.watch.end()
    assert watched.clock.waited and outcome.steps == STEPS
    assert outcome.samples_per_second == pytest.approx(8.0)


@pytest.mark.parametrize(("steps", "rate"), [(FEWEST_STEPS - 1, None), (FEWEST_STEPS, pytest.approx(8.0))])
def test_a_short_run_is_judged_by_what_it_has_if_that_is_enough(steps, rate):
    watched = Watched()
    watched.take(WARMUP_STEPS + steps, 0.5)
    outcome = watched.watch.end()
    assert (outcome.steps, outcome.samples_per_second) == (steps, rate)
    if rate is None:
        assert outcome.is_kept is None
        line = "recommend-config's promise: unknown, 7 steps timed after the warm-up, 8 needed"
        assert outcome.as_line() == line


def test_a_promise_of_memory_alone_is_unknown_where_nobody_counts():
    promised = PromiseSection.model_validate({"PEAK_BYTES": GIB})
    outcome = PromiseOutcome(promised, 50, 6.5, None, None)
    assert outcome.is_kept is None
    assert outcome.as_line().endswith("unknown, no rate was promised, and memory is not counted on a CPU")


def test_the_peak_is_that_of_the_steps_not_of_a_validation_after_them():
    watched = Watched(section(PEAK_BYTES=10 * GIB), peaks=[9 * GIB, 40 * GIB])
    watched.take(WARMUP_STEPS + FEWEST_STEPS, 0.625)
    watched.watch.pause()
    outcome = watched.watch.end()
    assert outcome.peak_bytes == 9 * GIB and outcome.is_kept is True


def test_bursts_of_a_loader_that_is_too_slow_do_not_look_fast():
    """Nine steps find their clips ready, the tenth waits: 4 x 10 samples in 0.9 + 9.1 s."""
    assert median_rate([0.1] * 9 + [9.1], samples_per_step=4) == pytest.approx(4.0)
    assert median_rate(([0.1] * 9 + [9.1]) * 5, samples_per_step=4) == pytest.approx(4.0)


def test_one_disturbance_does_not_count_and_neither_does_a_rest_of_steps():
    steady = [0.5] * 50
    steady[17] = 60.0
    assert median_rate(steady, samples_per_step=1) == pytest.approx(2.0)
    assert median_rate([*steady, *[30.0] * 9], samples_per_step=1) == pytest.approx(2.0)
    assert median_rate([0.25] * 9, samples_per_step=1) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("outcome", "kept", "line"),
    [
        (
            PromiseOutcome(section(), 50, 6.5, None, "a laptop"),
            True,
            "recommend-config promised 6.00 to 7.00 samples/s, measured 6.50: kept",
        ),
        (
            PromiseOutcome(section(), 50, 7.2, None, "a laptop"),
            True,
            "recommend-config promised 6.00 to 7.00 samples/s, measured 7.20: kept, and faster",
        ),
        (
            PromiseOutcome(section(), 50, 5.99, None, "a laptop"),
            False,
            "recommend-config promised 6.00 to 7.00 samples/s, measured 5.99: missed;"
            " hardware is a laptop now, was a server",
        ),
        (
            PromiseOutcome(section(), 50, 5.0, None, "a server"),
            False,
            "recommend-config promised 6.00 to 7.00 samples/s, measured 5.00: missed",
        ),
        (
            PromiseOutcome(section(PEAK_BYTES=10 * GIB), 50, 6.5, 11 * GIB, "a server"),
            False,
            "recommend-config promised 6.00 to 7.00 samples/s, measured 6.50: kept;"
            " 10.00 GiB of GPU memory, measured 11.00 GiB: missed",
        ),
    ],
)
def test_the_line_says_what_was_promised_and_what_came(outcome, kept, line):
    assert outcome.is_kept is kept
    assert outcome.as_line() == line


def test_memory_may_exceed_a_promise_by_what_its_prediction_may_be_wrong():
    promised = section(PEAK_BYTES=100 * GIB)
    assert PromiseOutcome(promised, 50, 6.5, 103 * GIB, None).peak_is_kept is True
    assert PromiseOutcome(promised, 50, 6.5, 104 * GIB, None).peak_is_kept is False


def promising(low, high):
    return [f"PROMISE.LOW={low}", f"PROMISE.SAMPLES_PER_SECOND={low}", f"PROMISE.HIGH={high}"]


def trained(config, watcher, monkeypatch, **named):
    """Train a run whose promise is judged after four steps; its log, its checks and its summary."""
    monkeypatch.setattr(promise, "WARMUP_STEPS", 1)
    monkeypatch.setattr(promise, "STEPS", 2)
    monkeypatch.setattr(promise, "FEWEST_STEPS", 2)
    run.train(config, observer=watcher, **named)
    (log,) = (config.log.save_dir / "logs").glob("train_*.log")
    summary = json.loads((config.log.save_dir / "summary.json").read_text())
    return log.read_text(), {check.id: check for check in watcher.checks}, summary


def test_a_run_tells_whether_the_promise_is_kept(tiny_config, Watcher, monkeypatch):
    watcher = Watcher()
    config = tiny_config(*promising(1e-6, 1e9), "PROMISE.PEAK_BYTES=1")
    log, checks, summary = trained(config, watcher, monkeypatch)
    assert "recommend-config promised 1e-06 to 1,000,000,000 samples/s, measured" in log
    assert log.count("recommend-config promised") == 1 and not watcher.messages
    assert checks["promised_rate"].verdict == "pass"
    assert checks["promised_memory"].figure == "no GPU in this run"
    assert summary["promise"]["kept"] is True
    measured = summary["promise"]["measured"]
    assert measured["steps"] == 2 and measured["peak_bytes"] is None
    assert checks["promised_rate"].value == pytest.approx(100 * measured["samples_per_second"] / 1e-6)


def test_a_promise_that_is_missed_is_told_at_once_with_the_other_hardware(tiny_config, Watcher, monkeypatch):
    watcher = Watcher()
    config = tiny_config(*promising(1e8, 1e9), "PROMISE.HARDWARE=a server")
    _, checks, summary = trained(config, watcher, monkeypatch, hardware=lambda kind: f"a slow {kind}")
    (line,) = [text for text in watcher.messages if "promised" in text]
    assert line.endswith(": missed; hardware is a slow cpu now, was a server")
    assert checks["promised_rate"].verdict == "warn" and checks["promised_rate"].advice
    assert summary["promise"]["kept"] is False and summary["promise"]["measured"]["hardware"] == "a slow cpu"


def test_only_steps_of_the_largest_clips_count(tiny_config, Watcher, monkeypatch):
    """Three steps an epoch of small crops, then six of large ones, the first of which warms up."""
    keys = ["DATA.TRAIN_CROP_SIZE=16", "DATA.TRAIN_CROP_EPOCHS=1", "TRAIN.MAX_STEPS=9"]
    monkeypatch.setattr(promise, "WARMUP_STEPS", 1)
    monkeypatch.setattr(promise, "FEWEST_STEPS", 2)
    summary = run.train(tiny_config(*promising(1e-6, 1e9), *keys), observer=Watcher())
    assert summary.promise is not None and summary.promise["measured"]["steps"] == 5


def test_without_a_promise_nothing_is_said(tiny_config, Watcher, monkeypatch):
    watcher = Watcher()

    def never(kind):
        raise AssertionError("nothing is to be compared")

    log, checks, summary = trained(tiny_config(), watcher, monkeypatch, hardware=never)
    assert "promise" not in log and "promise" not in summary
    assert not [name for name in checks if "promise" in name]
