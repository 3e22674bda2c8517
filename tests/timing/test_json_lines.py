import json

from deblurkit.timing.json_lines import JsonLinesLog
from deblurkit.timing.records import StepTiming


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
