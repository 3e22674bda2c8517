"""What is beside the steps, and scopes that are open across them, as `analyze-log` reads them back."""

import warnings

import pytest

from deblurkit.analysis.readers import read_log
from deblurkit.analysis.report import analyze
from deblurkit.timing.logger import TimingLogger


class Clock:
    """A clock that only moves when it is told to."""

    name = "fake"

    def __init__(self):
        self.now = 0.0

    def mark(self):
        return self.now

    def elapsed(self, start, end):
        return end - start

    def release(self, marks):
        pass

    def wait(self):
        pass


def write(folder, steps=4, beside=()):
    clock = Clock()
    log = TimingLogger(folder, enable_console=False, clock=clock)
    for step in range(steps):
        with log.scope("forward"):
            clock.now += 0.010
        log.step()
        for name, seconds in beside:
            if step % 2:
                log.beside(name, seconds, count=3)
    log.close()
    (text,) = folder.glob("*.log")
    (lines,) = folder.glob("*.jsonl")
    return text, lines


@pytest.mark.parametrize("which", [0, 1])
def test_reads_back_what_was_beside_the_steps(tmp_path, which):
    path = write(tmp_path, beside=[("验证", 2.5), ("checkpoints", 0.25)])[which]
    log = read_log(path)
    assert [(part.name, part.seconds, part.count, part.after_step) for part in log.beside] == [
        ("验证", 2.5, 3, 2),
        ("checkpoints", 0.25, 3, 2),
        ("验证", 2.5, 3, 4),
        ("checkpoints", 0.25, 3, 4),
    ]
    assert log.damaged_lines == 0
    assert log.num_steps == 4
    report = analyze(log, warmup_steps=0)
    assert [(part.name, part.seconds, part.count) for part in report.beside] == [
        ("验证", 5.0, 6),
        ("checkpoints", 0.5, 6),
    ]
    assert report.step_ms["mean"] == pytest.approx(10.0)


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_line_of_it_is_counted(tmp_path, which):
    path = write(tmp_path, beside=[("validation", 2.5)])[which]
    text = path.read_text(encoding="utf-8").replace("2.500000 s", "2.5x s", 1)
    path.write_text(text.replace('"seconds":2.5', '"seconds":"x"', 1), encoding="utf-8")
    log = read_log(path)
    assert (log.damaged_lines, len(log.beside)) == (1, 1)


def test_a_scope_open_across_steps_counts_from_the_start_of_the_step_it_ends_in(tmp_path):
    clock = Clock()
    log = TimingLogger(tmp_path, enable_console=False, enable_file=False, clock=clock)
    log.log("elsewhere", 0.0)
    with log.scope("long"):
        clock.now += 0.030
        log.step()
        clock.now += 0.004
    clock.now += 0.006
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log.step()
    assert log.latest.milliseconds["long"] == pytest.approx(4.0)
    assert log.latest.unaccounted_ms == pytest.approx(6.0)


def test_a_row_called_unaccounted_is_told_from_the_one_that_is_worked_out(tmp_path):
    clock = Clock()
    log = TimingLogger(tmp_path, enable_console=False, clock=clock)
    with log.scope("unaccounted"):
        clock.now += 0.010
    clock.now += 0.010
    log.step()
    log.close()
    (text,) = tmp_path.glob("*.log")
    assert read_log(text).times.loc[0].to_dict() == {"unaccounted (logged)": pytest.approx(10.0)}


def test_steps_on_another_clock_are_told_of(tmp_path):
    _, lines = write(tmp_path)
    text = lines.read_text().splitlines()
    text.insert(4, '{"names":["forward"],"clock":"host"}')  # after the header, the names and two steps
    lines.write_text("\n".join(text) + "\n")
    assert any("2 steps on another clock" in note for note in read_log(lines).notes)
