import json
import os

import pytest

import deblurkit.analysis.follow as follow_module
from deblurkit.analysis.follow import ENDED, IDLE, INTERRUPTED, follow, newest, recent_of
from deblurkit.errors import DeblurkitError

HEADER = {
    "schema": "deblurkit-timing/1",
    "rank": 0,
    "clock": "host",
    "samples_per_step": 1,
    "names": ["data"],
}
END = {"names": ["data"], "overhead": {"per_step_us": 1.0}}


def line(content):
    return json.dumps(content, ensure_ascii=False) + "\n"


class Run:
    """A run that writes while the follower sleeps: a script of what happens in each pause."""

    def __init__(self, path, *pauses):
        self.path, self.pauses = path, list(pauses)
        self.now = 0.0
        self.slept = []

    def sleep(self, seconds):
        self.now += seconds
        self.slept.append(seconds)
        (self.pauses.pop(0))()

    def follow(self, **options):
        return follow(self.path, clock=lambda: self.now, sleep=self.sleep, **options)

    def append(self, *contents):
        text = "".join(map(line, contents))

        def write():
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)

        return write


def interrupt():
    raise KeyboardInterrupt


def rows(first, last, ms=100.0):
    return [[number, 1.7e9 + number, ms, ms / 10] for number in range(first, last + 1)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "timing.rank0.jsonl"
    path.write_text(line(HEADER))
    return path


def test_each_look_tells_what_is_new_until_the_run_ends(path):
    run = Run(path)
    run.pauses = [
        run.append(*rows(1, 3)),
        lambda: None,
        run.append(*rows(4, 5, ms=200.0)),
        run.append(END),
    ]
    updates = list(run.follow(every_s=2.0))
    assert [update.new_steps for update in updates] == [0, 3, 0, 2, 0]
    assert [update.quiet_s for update in updates] == [0.0, 0.0, 2.0, 0.0, 2.0]
    assert "no step yet" in updates[0].notice
    assert [update.notice for update in updates[1:]] == [""] * 4
    assert [update.end for update in updates] == ["", "", "", "", ENDED]
    assert updates[0].report is None
    assert [update.report.steps for update in updates[1:]] == [3, 3, 5, 5]
    assert updates[3].recent.step == 5
    assert updates[3].recent.step_ms == (100.0, 100.0, 100.0, 200.0, 200.0)
    assert run.slept == [2.0] * 4


def test_ctrl_c_ends_with_the_whole_file(path):
    run = Run(path)
    run.append(*rows(1, 2))()

    def pressed_after_more():
        run.append(*rows(3, 4))()
        raise KeyboardInterrupt

    run.pauses = [pressed_after_more]
    first, last = run.follow()
    assert (first.report.steps, first.end) == (2, "")
    assert (last.report.steps, last.end, last.new_steps) == (4, INTERRUPTED, 2)


def test_ctrl_c_while_somebody_draws_is_passed_on(path):
    run = Run(path)
    run.append(*rows(1, 2))()
    updates = run.follow()
    next(updates)
    assert updates.throw(KeyboardInterrupt()).end == INTERRUPTED
    assert list(updates) == []


def test_ctrl_c_before_the_first_step(path):
    _, last = Run(path, interrupt).follow()
    assert (last.report, last.end) == (None, INTERRUPTED)
    assert "no step yet" in last.notice


def test_silence_ends_it_if_asked_to(path):
    run = Run(path, *[lambda: None] * 9)
    run.append(*rows(1, 2))()
    *_, last = run.follow(every_s=10.0, idle_s=60.0)
    assert (last.end, run.now) == (IDLE, 60.0)


def test_a_file_that_goes_and_comes_back_is_read_anew(path):
    run = Run(path)
    run.append(*rows(1, 5))()

    def back():
        path.write_text(line(HEADER))
        run.append(*rows(1, 2))()

    run.pauses = [path.unlink, back, interrupt]
    first, gone, again, last = run.follow()
    assert (gone.report.steps, gone.notice) == (5, "the file is gone; waiting for it")
    assert (again.report.steps, again.new_steps) == (2, 2)
    assert again.notice == "the file was replaced or cut; read anew"
    assert last.report.steps == 2


def test_a_look_that_takes_long_makes_pauses_longer(path, monkeypatch):
    run = Run(path, interrupt)
    run.append(*rows(1, 2))()

    def slow(log, **options):
        run.now += 30.0
        return analyze(log, **options)

    analyze = follow_module.analyze
    monkeypatch.setattr(follow_module, "analyze", slow)
    list(run.follow(every_s=2.0))
    assert run.slept == [30.0]


def test_a_warm_up_longer_than_the_log_waits_for_more(path):
    run = Run(path)
    run.append(*rows(1, 2))()
    run.pauses = [run.append(*rows(3, 4)), interrupt]
    first, second, _ = run.follow(warmup_steps=3)
    assert first.report is None and "--warmup 3 leaves no step" in first.notice
    assert (second.report.steps, second.notice) == (4, "")


def test_no_file_and_no_log_are_errors(tmp_path):
    with pytest.raises(DeblurkitError, match="no such file"):
        next(follow(tmp_path / "missing.jsonl"))
    (tmp_path / "prose.txt").write_text("words\n" * 300_000)
    with pytest.raises(DeblurkitError, match="not a log that is known"):
        next(follow(tmp_path / "prose.txt"))


def test_the_recent_part_is_the_median_of_the_newest_steps(path):
    run = Run(path, interrupt)
    run.append(*rows(1, 30, ms=50.0), *rows(31, 100))()
    *_, last = run.follow()
    recent = recent_of(last.report)
    assert recent.step == 100
    assert recent.step_ms == (100.0,) * 60
    assert recent.phases_ms == pytest.approx({"unaccounted": 90.0, "data": 10.0})


def test_of_several_logs_the_newest_grows(tmp_path):
    for name, moment in (("a", 5), ("b", 9), ("c", 7)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (moment, moment))
    assert newest(sorted(tmp_path.iterdir())) == tmp_path / "b"
