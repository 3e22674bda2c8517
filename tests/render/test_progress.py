import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from deblurkit.data.workers import WorkerPlan
from deblurkit.render.progress import TrainingDisplay
from deblurkit.timing.records import StepTiming
from deblurkit.training.observer import Progress, RunPlan

PLAN = RunPlan(
    folder=Path("outputs"),
    device="cuda:0",
    architecture="vrt",
    parameters=18_300_000,
    clips=2000,
    total_steps=100,
    first_step=1,
    batch_size=1,
    accumulation=6,
    workers=WorkerPlan(cpus=40, gpus=3, total=32, train=10, val=5),
    train_prefetch_factor=4,
    val_prefetch_factor=2,
)


def progress(step):
    return Progress(step, 100, loss=0.05, learning_rate=1e-3, samples_per_second=12.5, data_ms=0.8)


def display(*, terminal):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    return TrainingDisplay(language="en", console=console), file


def test_without_a_terminal_a_run_prints_about_ten_plain_lines():
    shown, file = display(terminal=False)
    with shown:
        shown.started(PLAN)
        for step in range(1, 101):
            shown.stepped(progress(step))
            shown.timed(StepTiming(step, 0.0, 10.0, {"forward": 5.0}))
    lines = [line for line in file.getvalue().splitlines() if line.startswith("step ")]
    assert len(lines) == 10
    assert lines[-1] == "step 100/100 | loss=0.05000 | lr=1.000e-03 | 12.5 samples/s | data_time=0.8ms"
    assert "\x1b" not in file.getvalue() and "Timing Profile" not in file.getvalue()


def test_on_a_terminal_the_bar_and_the_phases_are_drawn():
    shown, file = display(terminal=True)
    with shown:
        shown.started(PLAN)
        shown.stepped(progress(40))
        shown.timed(StepTiming(40, 0.0, 10.0, {"前向传播总耗时": 5.0}))
    assert "40/100" in file.getvalue()
    assert "Timing Profile (Step 40)" in file.getvalue() and "前向传播总耗时" in file.getvalue()


def test_a_step_whose_wait_is_not_known_says_nothing_of_it():
    assert "data" not in replace(progress(1), data_ms=None).as_line()


@pytest.mark.parametrize("terminal", [True, False])
def test_messages_are_not_taken_for_markup(terminal):
    shown, file = display(terminal=terminal)
    shown.warning("no such section [bold]")
    assert "deblurkit: warning: no such section [bold]" in file.getvalue()


def test_reports_at_any_interval_make_about_ten_lines():
    shown, file = display(terminal=False)
    shown.started(replace(PLAN, total_steps=199))
    for step in [*range(10, 199, 10), 199]:
        shown.stepped(replace(progress(step), total_steps=199))
    assert 9 <= sum(line.startswith("step ") for line in file.getvalue().splitlines()) <= 12


def test_a_terminal_that_is_gone_is_no_reason_to_end(monkeypatch):
    """It stands for standard error, which is drawn on in place until nobody reads it any more."""
    master, slave = os.openpty()
    stream = os.fdopen(slave, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", stream)
    shown = TrainingDisplay(language="en")
    assert shown.console.is_terminal
    with shown:
        shown.started(PLAN)
        os.close(master)
        shown.stepped(progress(1))
        shown.timed(StepTiming(1, 0.0, 10.0, {"forward": 5.0}))
        shown.warning("nobody reads this")
    stream.close()
