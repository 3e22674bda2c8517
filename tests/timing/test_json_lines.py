import json

from deblurkit.analysis.readers import read_log
from deblurkit.timing.json_lines import JsonLinesLog
from deblurkit.timing.records import Beside, Note, StepTiming


def test_rows_follow_the_names_and_null_is_not_zero(tmp_path):
    path = tmp_path / "t.jsonl"
    log = JsonLinesLog(
        path, rank=1, world_size=2, clock="host", samples_per_step=8, started_at=12.5, flush_interval=1
    )
    log.write_step(StepTiming(1, 100.0, 50.0, {"数据": 1.5}))
    log.write_step(StepTiming(2, 101.0, 60.0, {"forward": 30.0}))
    log.close()
    head, names, first, more, second = [
        json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert head == {
        "schema": "deblurkit-timing/1",
        "rank": 1,
        "world_size": 2,
        "started_at": 12.5,
        "clock": "host",
        "unit": "ms",
        "samples_per_step": 8,
        "names": [],
    }
    assert names == {"names": ["数据"]}
    assert first == [1, 100.0, 50.0, 1.5]
    assert more == {"names": ["数据", "forward"]}
    assert second == [2, 101.0, 60.0, None, 30.0]


def opened(path):
    return JsonLinesLog(
        path, rank=0, world_size=1, clock="cuda", samples_per_step=None, started_at=0.0, flush_interval=1
    )


def test_the_clock_of_rows_is_announced_where_it_changes(tmp_path):
    log = opened(tmp_path / "t.jsonl")
    log.write_step(StepTiming(1, 1.0, 5.0, {"a": 1.0}))
    log.write_step(StepTiming(2, 2.0, 5.0, {}, clock="host"))
    log.write_step(StepTiming(3, 3.0, 5.0, {"a": 1.0}))
    log.close()
    lines = [json.loads(line) for line in log.path.read_text(encoding="utf-8").splitlines()[2:]]
    assert lines == [
        [1, 1.0, 5.0, 1.0],
        {"names": ["a"], "clock": "host"},
        [2, 2.0, 5.0, None],
        {"names": ["a"], "clock": "cuda"},
        [3, 3.0, 5.0, 1.0],
    ]


def test_the_last_line_says_what_timing_cost_and_readers_take_it(tmp_path):
    log = opened(tmp_path / "t.jsonl")
    log.write_step(StepTiming(1, 1.0, 5.0, {"a": 1.0}))
    log.close({"us_per_step": 3.5})
    log.close({"us_per_step": 3.5})
    *_, last = log.path.read_text(encoding="utf-8").splitlines()
    assert json.loads(last) == {"names": ["a"], "overhead": {"us_per_step": 3.5}}
    read = read_log(log.path)
    assert (len(read.steps), read.damaged_lines) == (1, 0)


def test_a_note_is_on_the_disk_at_once_and_leaves_names_and_clock_in_force(tmp_path):
    log = JsonLinesLog(
        tmp_path / "t.jsonl",
        rank=0,
        world_size=1,
        clock="cuda",
        samples_per_step=None,
        started_at=0.0,
        flush_interval=100,
    )
    log.write_step(StepTiming(1, 1.0, 5.0, {"a": 1.0}, clock="host"))
    log.write_note(Note("memory", {"held_bytes": 7, "内存": None}, "a line", 1, 12.3456))
    log.write_beside(Beside("validation", 1.5, 1, 1))
    *_, before = log.path.read_text(encoding="utf-8").splitlines()
    note = {"names": ["a"], "clock": "host", "memory": {"held_bytes": 7, "内存": None}}
    assert json.loads(before) == {**note, "after_step": 1, "unix_time": 12.346}
    log.write_step(StepTiming(2, 2.0, 5.0, {"a": 1.0}, clock="host"))
    log.close()
    last = log.path.read_text(encoding="utf-8").splitlines()[-2:]
    beside = {"beside": "validation", "seconds": 1.5, "count": 1, "after_step": 1}
    assert json.loads(last[0]) == {"names": ["a"], "clock": "host", **beside}
    assert json.loads(last[1]) == [2, 2.0, 5.0, 1.0]
    assert read_log(log.path).notes[0].startswith("2 steps on another clock")
