from deblurkit.render.trace_events import counter_event, mark_event, name_event, slice_event


def test_events_have_the_keys_of_the_format():
    assert slice_event("前向", 1.00049, 2.0, process=3, track=4, category="row", path="a/前向") == {
        **{"ph": "X", "pid": 3, "tid": 4, "cat": "row", "name": "前向", "ts": 1.0, "dur": 2.0},
        "args": {"path": "a/前向"},
    }
    assert "args" not in slice_event("x", 0, 1, process=0, track=0, category="row")
    assert name_event("process_name", "rank 3", process=3, track=4) == {
        **{"ph": "M", "pid": 3, "tid": 4, "name": "process_name"},
        "args": {"name": "rank 3"},
    }
    assert counter_event("loss", 5.0, 0.25, process=3) == {
        **{"ph": "C", "pid": 3, "name": "loss", "ts": 5.0},
        "args": {"value": 0.25},
    }
    assert mark_event("oom", 5.0, process=3, track=4, text="no room") == {
        **{"ph": "i", "s": "p", "pid": 3, "tid": 4, "name": "oom", "ts": 5.0},
        "args": {"text": "no room"},
    }
