import json

import pytest

from deblurkit.analysis.formats.timing_jsonl import looks_like_json_lines, read_json_lines
from deblurkit.errors import DeblurkitError
from deblurkit.timing.json_lines import JsonLinesLog
from deblurkit.timing.records import StepTiming

HEAD = {
    "schema": "deblurkit-timing/1",
    "rank": 0,
    "world_size": 1,
    "started_at": 0.0,
    "clock": "host",
    "unit": "ms",
    "samples_per_step": 8,
    "names": ["data", "forward", "forward/Stage1"],
}


def read(*lines):
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return read_json_lines(encoded, source="x.jsonl")


def test_rows_follow_the_names_in_force_and_null_is_not_zero():
    log = read(
        HEAD,
        [1, 0.0, 100.0, 1.0, 60.0],
        {"names": [*HEAD["names"], "backward"]},
        [2, 1.0, 200.0, None, 50.0, 20.0, 120.0],
    )
    assert log.samples_per_step == 8
    assert log.steps["total_ms"].tolist() == [100.0, 200.0]
    assert log.steps["wall_known"].all()
    assert log.times["data"].isna().tolist() == [False, True]
    assert log.times["forward"].tolist() == [60.0, 50.0]
    assert log.times.loc[1, "backward"] == 120.0


def test_what_our_writer_writes_is_read_back(tmp_path):
    writer = JsonLinesLog(
        tmp_path / "x.jsonl",
        rank=0,
        world_size=1,
        clock="host",
        samples_per_step=None,
        started_at=0.0,
        flush_interval=1,
    )
    writer.write_step(StepTiming(1, 0.0, 10.0, {"数据": 1.0}))
    writer.write_step(StepTiming(2, 0.0, 12.0, {"forward/a": 2.0, "forward": 2.5}))
    writer.close()
    log = read(*(tmp_path / "x.jsonl").read_bytes().splitlines())
    assert log.samples_per_step is None
    assert log.times.iloc[1].dropna().to_dict() == {"forward/a": 2.0, "forward": 2.5}


@pytest.mark.parametrize("wall", ["100.0000", "100.0"])  # as our writer writes it, and otherwise
def test_when_a_step_ended_and_whose_log_it_is(wall):
    rows = [f"[1,1700000000.250,{wall}]".encode(), f"[2,null,{wall}]".encode()]
    log = read({**HEAD, "rank": 3, "world_size": 4}, *rows)
    assert log.steps["unix_s"].tolist()[0] == 1_700_000_000.25
    assert log.steps["unix_s"].isna().tolist() == [False, True]
    assert (log.rank, log.world_size) == (3, 4)


@pytest.mark.parametrize("names", [["a", "a", "b"], ["a", "unaccounted", "b"]])
def test_equal_names_are_added_up_and_what_is_unaccounted_is_left_out(names):
    row = b"[%d,1.000,100.0000,1.0000,2.5000,4.0000]"
    log = read({**HEAD, "names": names}, *(row % step for step in range(5)))
    assert log.times.iloc[3].to_dict() == (
        {"a": 3.5, "b": 4.0} if "unaccounted" not in names else {"a": 1.0, "b": 4.0}
    )


@pytest.mark.parametrize(
    "line",
    [
        b"[2,1.0,200.0,1.0,5",
        b"[2,1.000,1000000000000.0000]",
        b"[1000000000000000,1.000,9.0000]",
        b"[2,1.000,null]",
        b"[null,1.000,9.0000]",
        [2, 1.0],
        [2, 1.0, None, 1.0],
        [2, 1.0, 9.0, 1, 2, 3, 4],
        [2, 1.0, 9.0, "1"],
        [2, 1.0, 9.0, -1],
        [2, 1.0, 9.0, True],
        b"[2,1.0,NaN]",
        [2.5, 1.0, 9.0],
        {"names": [1]},
        b"[" * 100_000,
        b"[" + b"9" * 5000 + b"]",
        b"\xff\xfe",
        "text",
    ],
)
def test_a_damaged_line_is_counted_and_left_out(line):
    log = read(HEAD, [1, 0.0, 100.0, 1.0], line, [3, 2.0, 100.0, 1.0])
    assert log.steps["step"].tolist() == [1, 3]
    assert log.damaged_lines == 1


def test_no_row_is_an_error():
    with pytest.raises(DeblurkitError, match="no complete step"):
        read(HEAD)


def test_a_later_schema_is_recognised_and_refused():
    later = {**HEAD, "schema": "deblurkit-timing/2"}
    assert looks_like_json_lines(json.dumps(later).encode())
    with pytest.raises(DeblurkitError, match="deblurkit-timing/2"):
        read(later)


def test_other_json_is_not_recognised():
    assert not looks_like_json_lines(b'{"schema": "other/1"}\n{"schema": 3}\n[1]')
