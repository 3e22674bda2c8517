import json
import threading
from pathlib import Path

import pytest

from deblurkit.timing import logger as timing
from deblurkit.timing.logger import TimingLogger, log_timing, set_global_timing_logger
from deblurkit.timing.records import Span


class FakeClock:
    """A clock that stands still unless it is told to go on; marks can be withheld as a device does."""

    name = "fake"

    def __init__(self):
        self.now, self.known_until, self.released = 0.0, float("inf"), []

    def mark(self):
        return self.now

    def elapsed(self, start, end):
        return end - start if end <= self.known_until else None

    def release(self, marks):
        self.released += marks

    def wait(self):
        self.known_until = float("inf")


@pytest.fixture(autouse=True)
def no_global_logger():
    yield
    set_global_timing_logger(None)


def rows(log: TimingLogger) -> list[dict]:
    """Read the JSON lines back: step, wall and values by name."""
    names, out = [], []
    for line in Path(str(log.path).replace(".log", ".rank0.jsonl")).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if isinstance(row, dict):
            names = row["names"]
        else:
            values = dict(zip(names, row[3:], strict=False))
            out.append({"step": row[0], "wall": row[2], **{k: v for k, v in values.items() if v is not None}})
    return out


def quiet(tmp_path, **options) -> TimingLogger:
    return TimingLogger(tmp_path, enable_console=False, file_flush_interval=1, **options)


def test_the_seed_s_calls_work_and_make_its_file(tmp_path, capsys):
    log = TimingLogger(
        log_dir=tmp_path / "logs",
        enable_console=True,
        enable_file=True,
        console_update_interval=10,
        file_flush_interval=50,
    )
    set_global_timing_logger(log)
    for _ in range(2):
        log_timing("前向传播总耗时", 280.0)
        log_timing("VRT处理/Stage1", 25.0)
        log.step()
    log.print_summary()
    log.close()
    text = log.path.read_text(encoding="utf-8")
    assert log.path.name.startswith("timing_") and log.path.suffix == ".log"
    assert "Step 2" in text and "Timing Summary (Total 2 steps)" in text
    assert "前向传播总耗时" in capsys.readouterr().out


def test_log_timing_without_a_logger_does_nothing():
    log_timing("anything", 1.0)
    with timing.scope("anything"):
        pass


def test_times_of_one_name_add_up_within_a_step_and_end_with_it(tmp_path):
    log = quiet(tmp_path, clock=FakeClock())
    log.log("data", 2.0)
    log.log("data", 3.0)
    log.step()
    log.step()
    log.close()
    assert [row.get("data") for row in rows(log)] == [5.0, None]


def test_a_time_that_is_no_number_is_missing_and_the_file_stays_valid(tmp_path):
    log = quiet(tmp_path, clock=FakeClock())
    log.log("broken", float("nan"))
    log.log("endless", float("inf"))
    log.log("data", 1.0)
    log.step()
    log.close()
    assert rows(log)[0].keys() == {"step", "wall", "data"}


def test_what_is_taken_from_a_row_leaves_nothing_below_zero(tmp_path):
    log = quiet(tmp_path, clock=FakeClock())
    log.log_spans([Span("a", 0.0, 0.001), Span("a", 0.0, 0.0011, weight=-1)])
    log.step()
    log.close()
    assert rows(log)[0]["a"] == 0.0


def test_nested_scopes_make_paths_and_inclusive_times(tmp_path):
    clock = FakeClock()
    log = quiet(tmp_path, clock=clock)
    with log.scope("forward"):
        clock.now += 0.010
        with log.scope("Stage1"):
            clock.now += 0.005
    clock.now += 0.001
    log.step()
    log.close()
    (row,) = rows(log)
    assert row == {"step": 1, "wall": 16.0, "forward/Stage1": 5.0, "forward": 15.0}


def test_a_scope_is_closed_by_an_error_too(tmp_path):
    log = quiet(tmp_path, clock=FakeClock())
    with pytest.raises(ValueError), log.scope("a"):
        raise ValueError
    with log.scope("b"):
        pass
    log.step()
    log.close()
    assert {"a", "b"} <= rows(log)[0].keys()


def test_scopes_of_other_threads_do_not_nest_into_this_one(tmp_path):
    log = quiet(tmp_path, clock=FakeClock())

    def work():
        with log.scope("worker"):
            pass

    with log.scope("main"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    log.step()
    log.close()
    assert {"main", "worker"} <= rows(log)[0].keys()


def test_threads_lose_nothing(tmp_path):
    log = quiet(tmp_path, clock=FakeClock())

    def work():
        for _ in range(1000):
            log.log("x", 1.0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.step()
    log.close()
    assert rows(log)[0]["x"] == 8000.0


def test_device_times_are_written_once_they_are_known_and_in_order(tmp_path):
    clock = FakeClock()
    log = quiet(tmp_path, clock=clock)
    clock.known_until = 0.0
    log.log_spans([Span("forward", 0.0, 0.004)])
    clock.now = 0.005
    log.step()
    assert rows(log) == []
    clock.now = 0.009
    clock.known_until = 0.005
    log.step()
    assert [row["step"] for row in rows(log)] == [1]
    log.close()
    assert [(row["step"], row["wall"]) for row in rows(log)] == [(1, 5.0), (2, pytest.approx(4.0))]


def test_time_before_restart_is_no_part_of_the_step(tmp_path):
    clock = FakeClock()
    log = quiet(tmp_path, clock=clock, first_step=11)
    clock.now += 9.0  # a validation, say
    log.restart()
    clock.now += 0.002
    log.step()
    log.close()
    assert rows(log) == [{"step": 11, "wall": pytest.approx(2.0)}]
    assert log.latest.step == 11


def test_times_from_before_restart_are_no_rows_of_the_step(tmp_path):
    clock = FakeClock()
    log = quiet(tmp_path, clock=clock)
    with log.scope("forward"):
        clock.now += 9.0  # in a validation
    log.log("data", 5.0)
    log.restart()
    log.step()
    log.close()
    assert rows(log)[0].keys() == {"step", "wall"}


def test_without_files_nothing_is_made(tmp_path):
    log = TimingLogger(tmp_path / "logs", enable_console=False, enable_file=False)
    log.step()
    log.close()
    assert log.path is None and not (tmp_path / "logs").exists()


def test_only_rank_0_writes_text_and_every_rank_writes_lines(tmp_path):
    log = TimingLogger(tmp_path, enable_console=False, rank=1, world_size=2)
    log.close()
    assert log.path is None
    assert [path.suffixes for path in tmp_path.iterdir()] == [[".rank1", ".jsonl"]]


def test_two_runs_in_one_second_keep_files_of_their_own(tmp_path):
    first, second = quiet(tmp_path), quiet(tmp_path)
    assert first.path != second.path
    first.close()
    second.close()


def test_frames_go_to_the_program_s_own_display_at_the_interval(tmp_path):
    shown = []
    log = TimingLogger(tmp_path, console_update_interval=2, show=shown.append)
    for _ in range(5):
        log.step()
    log.close()
    assert [frame.step for frame in shown] == [2, 4]


def test_a_resumed_run_shows_the_same_steps_as_one_that_was_not(tmp_path):
    shown = []
    log = TimingLogger(tmp_path, console_update_interval=10, first_step=4, show=shown.append)
    for _ in range(4, 21):
        log.step()
    log.close()
    assert [frame.step for frame in shown] == [10, 20]


def test_marks_are_given_back_once_and_never_while_the_next_step_needs_them(tmp_path):
    clock = FakeClock()
    log = quiet(tmp_path, clock=clock)
    clock.released.clear()  # those of the calibration
    marks = [0.0, 0.001, 0.002]
    log._step_start = marks[0]
    log.log_spans([Span("a", marks[0], marks[1]), Span("b", marks[1], marks[2])])
    clock.now = marks[2]
    log.step()
    log.close()
    assert sorted(clock.released) == [0.0, 0.001]


def test_a_full_disk_ends_the_log_and_not_the_run(tmp_path):
    log = quiet(tmp_path, clock=FakeClock())

    def full(*args):
        raise OSError(28, "No space left on device")

    log._outputs.text.write_step = full
    with pytest.warns(RuntimeWarning, match="the timing log ends here: No space left"):
        log.step()
    log.step()
    log.close()
    assert log.steps_done == 2
