import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from deblurkit.memory.gpu import GpuLook, RecordedGpus
from deblurkit.memory.limits import Resource
from deblurkit.memory.look import Sources
from deblurkit.memory.machine import Machine
from deblurkit.memory.processes import Process
from deblurkit.memory.trend import Courses
from deblurkit.render.memory_watch import frame_of, show_watch, watch, watch_line, watch_screen
from deblurkit.render.text import as_text

GIB, MIB = 2**30, 2**20


def later(look, number, *, ram):
    """The look ten seconds later each, with so much RAM left."""
    limits = (replace(look.limits[0], available_bytes=int(ram * GIB)), *look.limits[1:])
    return replace(look, at=look.at + 10 * number, limits=limits)


def frame_after(look, courses=None, *, rams=(20, 19, 18, 17, 16, 15), verdicts=()):
    courses = courses or Courses()
    for number, ram in enumerate(rams):
        frame = frame_of(later(look, number, ram=ram), courses, verdicts=verdicts)
    return frame


def screen(frame, width=80, height=40):
    return as_text(watch_screen(frame, width, height, seconds=2.0), width=width)


def line_with(text, word):
    (found,) = [line for line in text.splitlines() if word in line]
    return found


def test_ram_that_shrinks_has_an_end_and_a_curve(server):
    line = line_with(screen(frame_after(server)), "RAM")
    assert "▁▂▄▅▇█" in line
    assert line.endswith("2 min 30 s")  # 15 GiB at a GiB in ten seconds
    assert line.split()[1:5] == ["15.00", "GiB", "64.00", "GiB"]


def test_what_stays_the_same_is_flat_and_has_no_end(server):
    line = line_with(screen(frame_after(server)), "/dev/shm")
    assert "▁▁▁▁▁▁" in line and line.endswith("-")


@pytest.mark.parametrize("width", [30, 60, 80, 140])
def test_every_line_fits_and_the_columns_stand_below_each_other(server, width):
    text = screen(frame_after(server), width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    if width < 80:
        return
    names = ("RAM", "GPU 0 97 % 王小明", "GPU 1 97 % 李娜", "GPU 2")
    rows = [line_with(text, name) for name in names]
    assert len({cell_len(row[: row.index("GiB")]) for row in rows}) == 1


def test_users_are_aligned_and_as_many_as_there_is_room_for(server):
    lines = screen(frame_after(server)).splitlines()
    users = [next(line for line in lines if line.startswith(name)) for name in ("王小明", "alice")]
    assert "30.00 GiB" in users[0] and "12.00 GiB" in users[1]
    assert len({cell_len(user[: user.index("GiB")]) for user in users}) == 1
    assert "训练.py" in users[0]


def test_runs_are_there_with_the_workers_of_a_rank(server):
    text = screen(frame_after(server), width=140)
    assert line_with(text, "9 deblurkit train").split()[3:5] == ["5.18", "GiB"]
    assert line_with(text, "  loader workers of rank 0").split()[5:7] == ["1.17", "GiB"]
    assert "tasks waited for memory in 12.5 % of the last 10 s, all of them 2.0 %" in text
    assert "killed for want of memory: 2 (/proc/vmstat)" in text


def test_a_run_that_grows_says_how_fast(server):
    courses = Courses()
    for number in range(6):
        tree = server.trees[0]
        total = replace(tree.total, pss_bytes=tree.total.pss_bytes + 100 * MIB * number)
        look = replace(later(server, number, ram=20), trees=(replace(tree, total=total),))
        frame = frame_of(look, courses)
    assert line_with(screen(frame, width=140), "9 deblurkit").endswith("+600.0 MiB/min")
    assert "5.66 GiB +600.0 MiB/min" in watch_line(frame)


def test_the_run_that_is_waited_for_has_its_verdicts(server, run):
    frame = frame_after(server, verdicts=run.verdicts)
    line = [line for line in screen(frame).splitlines() if line.startswith("GPU 0")][1]
    assert line.split()[2:] == ["7.50", "GiB", "21.00", "GiB", "does", "not", "fit"]
    assert "GPU 0 does not fit" in watch_line(frame)


def test_a_line_for_those_without_a_terminal(server):
    line = watch_line(frame_after(server))
    assert line.startswith("2023-11-1") and "\n" not in line
    assert " | RAM 15.00 GiB of 64.00 GiB available, none in 2 min 30 s | " in line
    assert " | GPU 2 47.50 GiB of 48.00 GiB available | " in line


def test_without_a_terminal_each_look_is_a_line(bare):
    file = io.StringIO()
    frames = [frame_of(bare, Courses()), frame_of(replace(bare, at=bare.at + 5), Courses())]
    assert show_watch(frames, seconds=5.0, console=Console(file=file, width=20))
    assert len(file.getvalue().splitlines()) == 2


def test_ctrl_c_ends_without_a_word(bare):
    def frames():
        yield frame_of(bare, Courses())
        raise KeyboardInterrupt

    for options in ({}, {"force_terminal": True}):
        file = io.StringIO()
        console = Console(file=file, width=80, color_system=None, **options)
        assert not show_watch(frames(), seconds=1.0, console=console)
        assert "RAM" in file.getvalue() and "Traceback" not in file.getvalue()
    assert file.getvalue().endswith("\x1b[?25h")  # the cursor is shown again


def test_without_anything_to_see_there_is_a_screen(bare):
    empty = replace(bare, limits=())
    assert "Ctrl-C ends" in screen(frame_of(empty, Courses()))


class Recorded:
    """A process that ends after a few looks."""

    def __init__(self, looks):
        self.left = looks

    def processes(self):
        self.left -= 1
        return [Process(5, 1, 0, "a", "x", ("x",), 0.0, MIB)] if self.left >= 0 else []

    def closely(self, process):
        return process


@pytest.fixture
def sources(tmp_path):
    """A made-up machine whose clock goes on while one sleeps, and what was slept."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4 kB\nMemAvailable: 2 kB")
    now, slept = [1.7e9], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    def clock():
        now[0] += 0.25  # a look takes its time
        return now[0]

    made = Sources(
        machine=Machine(tmp_path / "proc", tmp_path / "shm", tmp_path / "cgroup"),
        processes=Recorded(3),
        gpus=RecordedGpus([GpuLook(())]),
        clock=clock,
        sleep=sleep,
        hostname=lambda: "box",
    )
    return made, slept


def test_looks_come_at_the_pace_that_was_asked_for_until_the_process_ends(sources):
    made, slept = sources
    frames = list(watch(made, seconds=2.0, pid=5))
    assert len(frames) == 3 and frames[0].runs[0].label == "5 x"
    assert slept == pytest.approx([1.5] * 3)  # the clock is asked before, within and after a look


def test_close_looks_that_take_long_are_not_taken_at_every_look(sources):
    made, _ = sources

    class Slow(Recorded):
        closely_at = 0

        def closely(self, process):
            self.closely_at += 1
            time.sleep(0.02)  # a fiftieth of a second allows no other one within the second that follows
            return replace(process, pss_bytes=5 * MIB)

    slow = Slow(4)
    frames = list(watch(replace(made, processes=slow), seconds=2.0, pid=5))
    assert ([frame.runs[0].now for frame in frames], slow.closely_at) == ([5 * MIB] * 4, 1)


def test_verdicts_are_those_of_the_look(sources, run):
    made, _ = sources
    frame = next(watch(made, seconds=1.0, judge=lambda look: run.verdicts if look.limits else ()))
    assert frame.verdicts == run.verdicts


def test_a_limit_that_is_not_known_is_drawn_without_a_curve(server):
    unknown = Resource("cgroup", "cgroup memory.max", GIB, None, None, Path("/sys/fs/cgroup/memory.max"), "")
    frame = frame_of(replace(server, limits=(unknown,)), Courses())
    assert line_with(screen(frame), "cgroup memory.max").split()[-4:] == ["-", "1.00", "GiB", "-"]
