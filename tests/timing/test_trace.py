import json

from hypothesis import given
from hypothesis import strategies as st

from deblurkit.timing.trace import TraceLog, TraceSpan, nested


def span(start, end, name="x", thread=1):
    return TraceSpan(thread, name, start, end)


def test_a_step_s_spans_are_complete_events_with_names_intact(tmp_path):
    log = TraceLog(tmp_path / "t.json", rank=2, clock="host")
    log.write_step(
        7, [span(10.0, 60.0, "前向传播"), span(20.0, 30.0, "前向传播/编码器")], start_us=0.0, end_us=80.0
    )
    log.close()
    log.close()
    text = log.path.read_text(encoding="utf-8")
    events = json.loads(text)
    spans = [event for event in events if event["ph"] == "X"]
    assert [(e["name"], e["ts"], e["dur"], e["tid"]) for e in spans] == [
        ("step 7", 0.0, 80.0, 0),
        ("前向传播", 10.0, 50.0, 1),
        ("前向传播/编码器", 20.0, 10.0, 1),
    ]
    assert {event["pid"] for event in events} == {2}
    assert "前向传播" in text
    lanes = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert lanes == {0: "steps", 1: "thread 1"}


def test_before_it_is_closed_the_array_lacks_its_end_and_nothing_else(tmp_path):
    log = TraceLog(tmp_path / "t.json", rank=0, clock="host")
    log.write_step(1, [span(0.0, 1.0)], start_us=0.0, end_us=2.0)
    assert len(json.loads(log.path.read_text(encoding="utf-8") + "]")) == 5
    log.close()


def test_spans_that_only_partly_overlap_get_lanes_of_their_own():
    spans = [span(0, 10), span(5, 15), span(6, 9), span(12, 14)]
    assert [(s.start_us, lane) for s, lane in nested(spans)] == [(0, 0), (5, 1), (6, 0), (12, 0)]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), max_size=20))
def test_in_a_lane_spans_lie_inside_one_another_or_apart(pairs):
    lanes = {}
    for placed, lane in nested([span(start, start + length) for start, length in pairs]):
        for other in lanes.setdefault(lane, []):
            apart = other.end_us <= placed.start_us or placed.end_us <= other.start_us
            inside = other.start_us <= placed.start_us and placed.end_us <= other.end_us
            assert apart or inside
        lanes[lane].append(placed)
    assert sum(map(len, lanes.values())) == len(pairs)
