import numpy as np
import pandas as pd

from deblurkit.analysis.evidence import evidence_of
from deblurkit.analysis.notes import notes_on
from deblurkit.analysis.partition import repair
from deblurkit.analysis.tables import RunLog


def notes(*, scalars=None, count=1, samples=None):
    steps = pd.DataFrame(
        {"step": range(1, 31), "total_ms": 500.0, "wall_known": True, "unix_s": np.nan, "count": count}
    )
    frames = {
        name: pd.DataFrame({"step": np.arange(5.0), "unix_s": np.nan, "value": value})
        for name, value in (scalars or {}).items()
    }
    times = pd.DataFrame(index=steps.index)
    log = RunLog("x", "basicsr", steps, times, 30 * count, samples, scalars=frames, notes=("Its own.",))
    partition = repair(log)
    evidence = evidence_of(log, partition, partition.step_ms.index)
    return " ".join(notes_on(log, partition, evidence, 0, forced=False))


def test_a_healthy_log_has_the_reader_s_notes_alone():
    assert notes(scalars={"gpu_utilisation": 0.95, "cpu_utilisation": 0.5}, samples=8) == "Its own."


def test_the_machine_s_figures_are_held_against_the_older_guide():
    assert "The GPU is busy 40.0 % of the time" in notes(scalars={"gpu_utilisation": 0.4})
    assert "The CPU is busy 91.0 % of the time" in notes(scalars={"cpu_utilisation": 0.91})


def test_slow_training_is_told_where_no_phase_explains_it():
    assert "0.80 samples a second is slow" in notes(scalars={"samples_per_second": 0.8})
    assert "is slow" not in notes(scalars={"samples_per_second": 1.2})


def test_lines_of_many_steps_are_told():
    assert "A line stands for 100 steps" in notes(count=100)
