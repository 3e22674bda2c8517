import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurkit.analysis import trace_window
from deblurkit.analysis.trace_stream import TraceStream

OPERATOR = {
    "ph": "X",
    "cat": "cpu_op",
    "name": "aten::add",
    "pid": 7,
    "tid": 8,
    "ts": 10.5,
    "dur": 2,
    "args": {},
}
KERNEL = {
    "ph": "X",
    "cat": "kernel",
    "name": "void gemm<int, {x}>(float*)",
    "pid": 0,
    "tid": 20,
    "ts": 1661203462598738,
    "dur": 7.25,
    "args": {"External id": 3, "correlation": 41, "grid": [64, 1, 1], "nested": {"name": "x", "ts": 1}},
}
FLOW = {"ph": "s", "id": 3, "pid": 0, "tid": 7, "ts": 1, "cat": "ac2g", "name": "ac2g", "bp": "e"}
NAMED = {"name": "process_name", "ph": "M", "ts": 1, "pid": 7, "tid": 0, "args": {"name": "python"}}
MARK = {"name": "Record Window End", "ph": "i", "s": "g", "pid": "", "tid": "", "ts": 1}
SPAN = {
    "ph": "X",
    "cat": "Trace",
    "ts": 5,
    "dur": 9,
    "pid": "Spans",
    "tid": "x",
    "name": "Profiler (0)",
    "args": {},
}
FOUND = {
    "operator": ("cpu_op", "aten::add", "7", "8", 10.5, 2.0, -1),
    "kernel": ("kernel", "void gemm<int, {x}>(float*)", "0", "20", 1661203462598738.0, 7.25, 41),
    "span": ("Trace", "Profiler (0)", '"Spans"', '"x"', 5.0, 9.0, -1),
}
EVENTS = [OPERATOR, FLOW, KERNEL, NAMED, OPERATOR, FLOW, FLOW, NAMED, SPAN, MARK]
EXPECTED = [FOUND["operator"], FOUND["kernel"], FOUND["operator"], FOUND["span"]]


def read(data):
    stream = TraceStream(io.BytesIO(data if isinstance(data, bytes) else data.encode()))
    return [event for window in stream.events() for event in window], stream


def kineto(events, *, before='"schemaVersion": 1,', after=', "traceName": "x", "baseTimeNanoseconds": 5'):
    """The text as Kineto lays it out: an event over several lines, its arguments on lines of their own."""
    texts = []
    for event in events:
        head = {key: value for key, value in event.items() if key != "args"}
        text = json.dumps(head)[1:-1].replace(', "ts"', ',\n    "ts"')
        if "args" in event:
            text += ',\n    "args": {\n      ' + json.dumps(event["args"])[1:-1] + "\n    }"
        texts.append("  {\n    " + text + "\n  }")
    return f"\n{{\n  {before}\n" + '"traceEvents": [\n' + ",\n".join(texts) + f"\n  ]{after}\n}}"


def other_order(event):
    return {key: event[key] for key in sorted(event)}


def name_first(event):
    return {"name": event["name"], "dur": 0, **event} if event["ph"] == "X" else event


@pytest.mark.parametrize("size", [7, 600, 1 << 22])
@pytest.mark.parametrize(
    "text",
    [
        kineto(EVENTS),
        json.dumps({"schemaVersion": 1, "traceEvents": EVENTS, "baseTimeNanoseconds": 5}),
        json.dumps(
            {"traceEvents": EVENTS, "schemaVersion": 1, "baseTimeNanoseconds": 5}, separators=(",", ":")
        ),
        json.dumps({"schemaVersion": 1, "traceEvents": EVENTS, "baseTimeNanoseconds": 5}, indent=1),
        json.dumps(
            {"schemaVersion": 1, "traceEvents": [other_order(e) for e in EVENTS], "baseTimeNanoseconds": 5}
        ),
        json.dumps(
            {"schemaVersion": 1, "traceEvents": list(map(name_first, EVENTS)), "baseTimeNanoseconds": 5}
        ),
    ],
    ids=["kineto", "one line", "compact", "indented", "other order", "name first"],
)
def test_all_layouts_give_the_same_events(text, size, monkeypatch):
    monkeypatch.setattr(trace_window, "WINDOW_BYTES", size)
    events, stream = read(text)
    assert events == EXPECTED
    assert stream.members == {"schemaVersion": 1, "baseTimeNanoseconds": 5}
    assert (stream.damaged, stream.why_cut) == (0, None)


def test_kinetos_order_is_not_decoded_as_a_whole():
    """An argument that is no JSON does no harm: only what counts is looked at."""
    text = kineto([OPERATOR, KERNEL, OPERATOR, OPERATOR]).replace('"grid": [64, 1, 1]', '"grid": [64, nil]')
    events, stream = read(text)
    assert [event[1] for event in events] == ["aten::add", KERNEL["name"], "aten::add", "aten::add"]
    assert stream.damaged == 0


def test_a_list_of_events_alone_is_read():
    assert read(json.dumps(EVENTS))[0] == EXPECTED


def test_pairs_of_begin_and_end_are_events_of_their_thread():
    def edge(phase, ts, tid, name=""):
        return {"ph": phase, "cat": "cpu_op", "name": name, "pid": 1, "tid": tid, "ts": ts}

    events, stream = read(
        json.dumps(
            [edge("B", 1, 5, "a"), edge("B", 2, 5, "b"), edge("B", 3, 6, "c")]
            + [edge("E", 4, 5), edge("E", 7, 6), edge("E", 9, 5), edge("E", 10, 5), edge("B", 11, 5, "d")]
        )
    )
    assert [(name, start, length) for _, name, _, _, start, length, _ in events] == [
        ("b", 2, 2),
        ("c", 3, 4),
        ("a", 1, 8),
    ]
    assert stream.damaged == 2  # an end without a beginning, and a beginning without an end


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("ts", "10.5", FOUND["operator"]),
        ("ts", 1.05e1, FOUND["operator"]),
        ("dur", "2", FOUND["operator"]),
        ("ts", None, None),
        ("ts", "soon", None),
        ("ts", True, None),
        ("ts", [1], None),
        ("dur", -1, None),
        ("dur", "1.2.3", None),
        ("dur", 1e300, None),
        ("dur", None, None),
        ("pid", None, ("cpu_op", "aten::add", "None", "8", 10.5, 2.0, -1)),
        ("name", 'say "hi" \\ 前向', ("cpu_op", 'say "hi" \\ 前向', "7", "8", 10.5, 2.0, -1)),
        ("cat", None, ("None", "aten::add", "7", "8", 10.5, 2.0, -1)),
        ("args", {"correlation": "12"}, (*FOUND["operator"][:-1], 12)),
        ("args", {"correlation": -3}, FOUND["operator"]),
        ("args", [1, 2], FOUND["operator"]),
        ("args", None, FOUND["operator"]),
    ],
)
@pytest.mark.parametrize("layout", [lambda events: json.dumps({"traceEvents": events}), kineto])
def test_odd_members_are_understood_or_counted(key, value, found, layout):
    event = {**OPERATOR, "cat": "cuda_op", key: value}
    if key != "cat" and found:
        found = ("cuda_op", *found[1:])
    events, stream = read(layout([KERNEL, event, SPAN, KERNEL]))
    assert events == [FOUND["kernel"], *([found] if found else []), FOUND["span"], FOUND["kernel"]]
    assert stream.damaged == (found is None)


@pytest.mark.parametrize("missing", ["ts", "dur"])
def test_an_event_without_its_time_is_counted(missing):
    event = {key: value for key, value in OPERATOR.items() if key != missing}
    events, stream = read(kineto([KERNEL, event, KERNEL]))
    assert (len(events), stream.damaged) == (2, 1)


@pytest.mark.parametrize(
    "junk",
    ["garbage", "}", "]", "[[[", '"text"', "1, 2, 3", "{'ph': 1}", '{"ph": "X", "ts": ', "\0\0\0", "{}"],
)
@pytest.mark.parametrize("layout", ["one line", "kineto"])
def test_junk_between_events_costs_no_event(junk, layout):
    text = kineto(EVENTS) if layout == "kineto" else json.dumps({"traceEvents": EVENTS})
    place = text.index('"aten::add"', text.index("process_name"))
    place = text.rindex("{", 0, place)
    events, stream = read(text[:place] + junk + ", " + text[place:])
    assert events == EXPECTED
    assert stream.damaged >= junk.startswith('{"ph"')  # what may have been an event
    assert stream.why_cut is None


@pytest.mark.parametrize("layout", ["one line", "kineto"])
def test_a_trace_cut_anywhere_gives_the_events_before(layout):
    text = kineto(EVENTS) if layout == "kineto" else json.dumps({"traceEvents": EVENTS})
    complete = text.rindex("]", 0, text.rindex("]") + 1)
    for end in range(text.index("[") + 1, len(text), 7):
        events, stream = read(text[:end])
        assert events == EXPECTED[: len(events)]
        assert (stream.why_cut is None) == (end > complete)
        assert stream.damaged == 0
        whole = sum(place < end for place in _ends(text))
        assert len(events) == sum(event["ph"] == "X" for event in EVENTS[:whole])


def _ends(text):
    """Where each event of `EVENTS` ends in a text."""
    place, ends = text.index("["), []
    for _ in EVENTS:
        place = text.index("{", place)
        _, place = json.JSONDecoder().raw_decode(text, place)
        ends.append(place - 1)
    return ends


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"traceEvents": 3}', '{"traceEvents": []}', '{"a": {"b": [1]}}', "no JSON"],
)
def test_a_file_without_events_gives_none(text):
    assert read(text)[0] == []


def test_a_broken_header_does_not_hide_the_events():
    assert (
        read('{"deviceProperties": [{]}, "x": nil, ' + json.dumps({"traceEvents": EVENTS})[1:])[0] == EXPECTED
    )


def test_a_header_longer_than_a_window_is_passed_over(monkeypatch):
    monkeypatch.setattr(trace_window, "WINDOW_BYTES", 1_000)
    text = json.dumps({"pg_config": list(range(5_000)), "traceEvents": EVENTS})
    assert read(text)[0] == EXPECTED


@given(
    st.lists(
        st.builds(
            lambda name, ts, dur, args, cat: {
                "ph": "X", "cat": cat, "name": name, "pid": 1, "tid": 2, "ts": ts, "dur": dur, "args": args
            },
            st.text(max_size=12),
            st.floats(0, 1e9) | st.integers(0, 10**15),
            st.floats(0, 1e6) | st.integers(0, 10**6),
            st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers() | st.none(), max_size=3),
            st.sampled_from(["cpu_op", "kernel", "cuda_runtime"]),
        ),
        max_size=6,
    ),
    st.sampled_from([kineto, lambda events: json.dumps({"traceEvents": events}, ensure_ascii=False)]),
)  # fmt: skip
def test_whatever_the_events_hold_a_json_library_and_the_stream_agree(events, layout):
    text = layout(events)
    wanted = [
        (event["cat"], event["name"], "1", "2", float(event["ts"]), float(event["dur"]))
        for event in json.loads(text)["traceEvents"]
    ]
    found, stream = read(text.encode("utf-8", "surrogatepass"))
    assert [event[:6] for event in found] == wanted
    assert (stream.damaged, stream.why_cut) == (0, None)
