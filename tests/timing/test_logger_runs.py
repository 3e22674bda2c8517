"""What a logger does over a whole run: devices far behind, its own cost, killed and forked processes."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from deblurkit.analysis.readers import read_log
from deblurkit.timing.clock import CudaClock
from deblurkit.timing.logger import MOST_PENDING, TimingLogger


class Device:
    """A GPU whose work is done when told; every wait for it is an error."""

    def __init__(self, monkeypatch):
        self.now_ms, self.done_ms, self.events = 0.0, 0.0, 0
        device = self

        class Event:
            def __init__(self, enable_timing):
                device.events += 1

            def record(self, stream):
                self.at_ms = device.now_ms

            def query(self):
                return self.at_ms <= device.done_ms

            def elapsed_time(self, end):
                assert self.query() and end.query()
                return end.at_ms - self.at_ms

            def synchronize(self):
                raise AssertionError("waited for an event")

        def refuse(*args):
            raise AssertionError("waited for the device")

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
        monkeypatch.setattr(torch.cuda, "synchronize", refuse)

    def let_wait(self, monkeypatch):
        def wait(device):
            self.done_ms = float("inf")

        monkeypatch.setattr(torch.cuda, "synchronize", wait)


def on_device(tmp_path, **options):
    clock = CudaClock(torch.device("cuda", 0))
    return TimingLogger(tmp_path, enable_console=False, file_flush_interval=1, clock=clock, **options)


def lines_of(tmp_path):
    (path,) = tmp_path.glob("*.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def take_step(log, device, milliseconds):
    with log.scope("forward"):
        device.now_ms += milliseconds
    log.step()


def test_steps_never_wait_and_are_written_when_the_device_gets_there(tmp_path, monkeypatch):
    device = Device(monkeypatch)
    log = on_device(tmp_path)
    for number in range(1, 6):
        take_step(log, device, 10.0 * number)
    assert log.steps_done == 0
    device.done_ms = 30.0
    take_step(log, device, 60.0)
    assert log.steps_done == 2
    device.let_wait(monkeypatch)
    log.close()
    found = [row for row in lines_of(tmp_path) if isinstance(row, list)]
    assert [(step, wall, forward) for step, _, wall, forward in found] == [
        (k, 10.0 * k, 10.0 * k) for k in range(1, 7)
    ]
    assert log.own_cost.marks_dropped == 0


def test_a_device_too_far_behind_costs_marks_and_no_waiting(tmp_path, monkeypatch):
    device = Device(monkeypatch)
    log = on_device(tmp_path)
    for _ in range(MOST_PENDING + 2):
        device.now_ms += 5.0
        log.log("elsewhere", 1.0)
        log.log("forward/elsewhere", 1.0)
        take_step(log, device, 10.0)
    assert log.steps_done == 2
    assert (log.own_cost.marks_dropped, log.own_cost.steps_on_host_clock) == (4, 2)
    device.done_ms = device.now_ms
    take_step(log, device, 10.0)
    assert log.steps_done == MOST_PENDING + 2
    device.let_wait(monkeypatch)
    log.close()
    names, known = [], []
    for line in lines_of(tmp_path):
        if isinstance(line, dict):
            names = line["names"]
        else:
            known.append(dict(zip(names, line[3:], strict=False)))
    elsewhere = {"elsewhere": 1.0, "forward/elsewhere": 1.0}
    assert known[0] == elsewhere  # no row of the device, not of its parts either: missing, not zero
    assert {name for name, value in known[2].items() if value is not None} == {*elsewhere, "forward"}
    assert known[2]["forward"] == 10.0
    assert [line["clock"] for line in lines_of(tmp_path) if "clock" in line] == ["cuda", "host", "cuda"]
    for path in (*tmp_path.glob("*.jsonl"), log.path):
        read = read_log(path)
        assert (len(read.steps), read.damaged_lines) == (MOST_PENDING + 3, 0)


def test_events_are_used_again_over_a_run(tmp_path, monkeypatch):
    device = Device(monkeypatch)
    device.done_ms = float("inf")
    log = on_device(tmp_path)
    take_step(log, device, 1.0)
    made = device.events
    for _ in range(50):
        take_step(log, device, 1.0)
    log.close()
    assert device.events <= made + 3


def test_a_device_that_broke_down_ends_in_host_times_and_not_in_another_error(tmp_path, monkeypatch):
    device = Device(monkeypatch)
    log = on_device(tmp_path)
    take_step(log, device, 1.0)

    def broken(device):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    log.close()
    assert (log.steps_done, log.own_cost.steps_on_host_clock) == (1, 1)


def test_the_cost_of_timing_is_in_every_file_and_in_the_summary(tmp_path, capsys):
    log = TimingLogger(tmp_path, enable_console=False)
    for _ in range(3):
        with log.scope("a"):
            pass
        log.step()
    log.print_summary()
    log.close()
    last = lines_of(tmp_path)[-1]["overhead"]
    assert last["us_per_step"] > 0 and last["marks_dropped"] == 0
    assert "# timing itself: " in log.path.read_text(encoding="utf-8")
    assert "timing itself: " in capsys.readouterr().out


def test_cost_from_elsewhere_counts_towards_the_budget_and_passing_it_is_told_after_ten_steps_each(tmp_path):
    told = []
    log = TimingLogger(
        tmp_path, enable_console=False, enable_file=False, budget_percent=1e6, on_over_budget=told.append
    )
    for _ in range(30):
        log.step()
    assert not log.over_budget
    for _ in range(30):
        log.add_overhead(1e9)
        log.step()
    assert log.over_budget
    assert len(told) == 3
    percent = told[-1]
    assert percent > 1e6


def test_times_that_no_step_could_hold_are_not_explained(tmp_path):
    warned = []
    log = TimingLogger(tmp_path, enable_console=False, warn=warned.append)
    for _ in range(20):
        log.log("前向传播总耗时", 1e9)
        log.log("VRT处理", 0.9e9)
        log.step()
    log.close()
    assert warned == []


class Jumping:
    """A host clock of which a step is 100 ms."""

    name = "host"

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


def test_the_seed_s_mistake_is_warned_of_once(tmp_path):
    warned, clock = [], Jumping()
    log = TimingLogger(tmp_path, enable_console=False, warn=warned.append, clock=clock)
    for _ in range(20):
        log.log("前向传播总耗时", 70.0)
        log.log("VRT处理", 60.0)
        clock.now += 0.100
        log.step()
    log.close()
    assert warned == [
        "rows take longer than the step, as parts are logged beside their whole (VRT处理 inside"
        " 前向传播总耗时): name them 前向传播总耗时/VRT处理 for shares that add up"
    ]
    assert f"# {warned[0]}" in log.path.read_text(encoding="utf-8")


def test_rows_of_other_threads_may_run_beside_the_step(tmp_path):
    warned, clock = [], Jumping()
    log = TimingLogger(tmp_path, enable_console=False, warn=warned.append, clock=clock)

    def load():
        with log.scope("loader"):
            clock.now += 0.060

    for _ in range(20):
        log.log("forward", 60.0)
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
        clock.now += 0.040
        log.step()
    log.close()
    assert warned == []


def test_a_table_a_trace_and_scalars_are_written_beside_the_log(tmp_path):
    clock = Jumping()
    seen = []

    class Output:
        def write_step(self, step):
            seen.append(step.step)

        def close(self):
            seen.append("closed")

    log = TimingLogger(tmp_path, False, clock=clock, csv=True, trace_steps=2, outputs=[Output()])
    for number in range(9):
        with log.scope("forward"):
            clock.now += 0.010
            with log.scope("编码器"):
                clock.now += 0.005
        log.step()
        if number == 5:
            clock.now += 60.0  # a validation
            log.restart()
    log.close()
    assert seen == [*range(1, 10), "closed"]
    assert len(next(tmp_path.glob("*.csv")).read_text(encoding="utf-8").splitlines()) == 1 + 9 * 3
    (trace,) = tmp_path.glob("*.rank0.trace.json")
    spans = [event for event in json.loads(trace.read_text(encoding="utf-8")) if event["ph"] == "X"]
    assert [span["name"] for span in spans] == ["step 6", "forward", "forward/编码器"] + [
        "step 7",
        "forward",
        "forward/编码器",
    ]
    assert [span["dur"] for span in spans] == pytest.approx([15e3, 15e3, 5e3] * 2)
    assert spans[3]["ts"] >= spans[0]["ts"] + spans[0]["dur"]
    assert spans[5]["ts"] == pytest.approx(spans[3]["ts"] + 10e3)


def test_eight_threads_are_counted_exactly_while_steps_are_closed(tmp_path):
    class Unit(Jumping):
        mark = staticmethod(threading.get_ident)

        def elapsed(self, start, end):
            return 1e6 if start == threading.main_thread().ident else 0.001

    log = TimingLogger(tmp_path, enable_console=False, enable_file=False, clock=Unit())

    def work():
        for _ in range(1000):
            log.log("logged", 1.0)
            with log.scope("scope"):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        log.step()
    log.step()
    totals = {name: round(row.total) for name, row in log.statistics.items()}
    assert totals == {"logged": 8000, "scope": 8000}


def test_scopes_too_many_to_keep_are_summed_up(tmp_path, monkeypatch):
    monkeypatch.setattr("deblurkit.timing.scopes.FULL", 10)
    clock = Jumping()
    log = TimingLogger(tmp_path, enable_console=False, enable_file=False, clock=clock)
    for _ in range(100):
        with log.scope("a"):
            clock.now += 0.001
    log.step()
    assert log.latest.milliseconds["a"] == pytest.approx(100.0)


ENDLESS = """
import sys, time
from deblurkit.timing.logger import TimingLogger
log = TimingLogger(sys.argv[1], enable_console=False, file_flush_interval=1, csv=True, trace_steps=3)
while True:
    with log.scope("forward"):
        with log.scope("编码器"):
            time.sleep(0.0005)
    log.step()
"""


def test_the_files_of_a_killed_run_are_read(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)])
    try:
        while sum(path.stat().st_size for path in tmp_path.glob("*.jsonl")) < 4000:
            assert child.poll() is None
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    for path in (*tmp_path.glob("*.jsonl"), *tmp_path.glob("*.log")):
        read = read_log(path)
        assert len(read.steps) > 20
        assert read.damaged_lines <= 1  # the one that was being written
        assert {"forward", "forward/编码器"} == set(read.times.columns)
    trace = next(tmp_path.glob("*.trace.json")).read_text(encoding="utf-8")
    assert len(json.loads(trace if trace.rstrip().endswith("]") else trace + "]")) > 5


FORKED = """
import os, sys
from deblurkit.timing import logger as timing
log = timing.TimingLogger(sys.argv[1], enable_console=False)
timing.set_global_timing_logger(log)
if os.fork() == 0:
    os._exit(0 if timing._global_logger is None else 3)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]) or timing._global_logger is not log)
"""


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="no fork")
def test_a_forked_worker_logs_nowhere(tmp_path):
    assert subprocess.run([sys.executable, "-c", FORKED, str(tmp_path)], check=False).returncode == 0


def test_steps_are_written_together_and_looked_at_as_soon_as_somebody_asks(tmp_path):
    log = TimingLogger(tmp_path, enable_console=False, console_update_interval=25)
    written = []
    log._outputs.others.append(Written(written))
    for _ in range(12):
        log.step()
    assert written == [*range(1, 11)]
    assert (log.steps_done, log.latest.step) == (12, 12)
    for _ in range(13):
        log.step()
    assert written == [*range(1, 26)]  # the 25th is shown
    log.step()
    assert "Total 26 steps" in log.summary()
    log.close()


class Written:
    def __init__(self, steps):
        self.steps = steps

    def write_step(self, timing):
        self.steps.append(timing.step)

    def close(self):
        pass


def test_ranks_agree_on_a_name_where_they_agree_on_a_time(tmp_path):
    logs = [TimingLogger(tmp_path, False, rank=rank, world_size=2, started_at=1000.5) for rank in (0, 1)]
    for log in logs:
        log.close()
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == [
        "timing_1000.log",
        "timing_1000.rank0.jsonl",
        "timing_1000.rank1.jsonl",
    ]
