import json

import pytest

from deblurkit.render.exports.perfetto import write_perfetto


def events_of(reports, tmp_path, **options):
    path = tmp_path / "trace.json"
    write_perfetto(reports, path, **options)
    return json.loads(path.read_text(encoding="utf-8"))["traceEvents"]


def bars_of(events, process=0):
    return [event for event in events if event["ph"] == "X" and event["pid"] == process]


def test_the_bars_of_a_step_lie_in_it_and_add_up(tmp_path, rank_report):
    bars = bars_of(events_of([rank_report()], tmp_path))
    third = [(bar["name"], bar["ts"] - 710_000, bar["dur"]) for bar in bars if bar["ts"] >= 600_000]
    assert sorted(third, key=lambda bar: (bar[1], -bar[2])) == [
        ("step 3", pytest.approx(0, abs=1), pytest.approx(120_000)),
        ("data", pytest.approx(0, abs=1), pytest.approx(10_000)),
        ("前向传播", pytest.approx(10_000, abs=1), pytest.approx(70_000)),
        ("编码器", pytest.approx(10_000, abs=1), pytest.approx(40_000)),
        ("backward", pytest.approx(80_000, abs=1), pytest.approx(30_000)),
        ("unaccounted", pytest.approx(110_000, abs=1), pytest.approx(10_000)),
    ]
    assert {bar["args"]["path"] for bar in bars if bar["cat"] == "row"} == {"前向传播/编码器"}
    steps = [(bar["ts"], bar["dur"]) for bar in bars if bar["cat"] == "step"]
    assert steps[:2] == [(0, 100_000), (pytest.approx(100_000, abs=1), pytest.approx(110_000, abs=1))]
    for start, length in steps:
        inside = [bar["dur"] for bar in bars if bar["cat"] == "phase" and start <= bar["ts"] < start + length]
        assert sum(inside) == pytest.approx(length, abs=0.01)


def test_bars_of_a_track_lie_inside_one_another_or_apart_to_the_nanosecond(tmp_path, rank_report):
    bars = [
        (round(1e3 * bar["ts"]), round(1e3 * (bar["ts"] + bar["dur"])))
        for bar in bars_of(events_of([rank_report()], tmp_path))
    ]
    for start, end in bars:
        for other_start, other_end in bars:
            apart = end <= other_start or other_end <= start
            assert (
                apart
                or (start <= other_start and other_end <= end)
                or (other_start <= start <= end <= other_end)
            )


def test_ranks_are_processes_on_one_time_line(tmp_path, rank_report):
    reports = [rank_report(rank=2, source="r2"), rank_report(rank=5, source="r5")]
    events = events_of(reports, tmp_path)
    assert {event["pid"] for event in events} == {2, 5}
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert names == {2: "rank 2: r2", 5: "rank 5: r5"}
    assert bars_of(events, 2)[0]["ts"] == bars_of(events, 5)[0]["ts"] == 0


def test_logs_of_one_rank_are_told_apart(tmp_path, rank_report, report_without_wall_time):
    assert {event["pid"] for event in events_of([rank_report(), rank_report()], tmp_path)} == {0, 1}
    assert {event["pid"] for event in events_of([rank_report(), report_without_wall_time], tmp_path)} == {
        0,
        1,
    }


def test_numbers_are_curves_and_events_are_marks(tmp_path, rank_report):
    events = events_of([rank_report()], tmp_path)
    curves = {}
    for event in events:
        if event["ph"] == "C":
            curves.setdefault(event["name"], []).append((round(event["ts"]), event["args"]["value"]))
    assert curves == {
        "step_ms": [(100_000, 100.0), (210_000, 110.0), (830_000, 120.0)],
        "loss": [(100_000, 0.5), (830_000, 0.25)],
        "psnr_db": [(500_000, 31.5)],
    }
    marks = [(e["name"], round(e["ts"]), e["args"]) for e in events if e["ph"] == "i"]
    assert marks == [("validation", 500_000, {"text": "after step 2"})]


def test_a_row_of_several_steps_is_as_long_as_all_of_them(tmp_path, report_without_wall_time):
    bars = bars_of(events_of([report_without_wall_time], tmp_path))
    assert [(bar["name"], bar["ts"], bar["dur"]) for bar in bars[:1] + bars[3:4]] == [
        ("steps 1 to 10", 0, 500_000),
        ("steps 11 to 20", 500_000, 500_000),
    ]
    assert {bar["name"]: bar["dur"] for bar in bars[4:]} == {"forward": 200_000, "backward": 300_000}


def test_of_a_long_log_the_newest_steps_are_drawn(tmp_path, rank_report):
    events = events_of([rank_report()], tmp_path, most_steps=1)
    assert [bar["name"] for bar in bars_of(events) if bar["cat"] == "step"] == ["step 3"]
    assert "bars from the last 1 step" in events[0]["args"]["name"]
    assert sum(event["name"] == "step_ms" for event in events) == 3


def test_names_stay_as_they_are(tmp_path, rank_report):
    events_of([rank_report()], tmp_path)
    assert "前向传播" in (tmp_path / "trace.json").read_text(encoding="utf-8")


def test_no_report_is_an_empty_trace(tmp_path):
    assert events_of([], tmp_path) == []


def test_a_log_without_rows(tmp_path, bare_report):
    events = events_of([bare_report], tmp_path)
    assert sum(bar["cat"] == "step" for bar in bars_of(events)) == bare_report.steps
    assert [event["args"]["value"] for event in events if event["name"] == "loss"] == [0.5, 0.25]
