import math

import numpy as np
import pytest

from deblurkit.analysis.formats.event_list import BROKEN, OWN, PAUSED, EventList
from deblurkit.analysis.formats.timestamps import Stamps
from deblurkit.analysis.formats.wall_time import WallTime

# Three lines of steps; the interval before the third is 65 s for ten steps of half a second.
WALL = WallTime(
    count=np.array([10, 10, 10]),
    step_ms=np.array([math.nan, 500, math.nan]),
    interval_s=np.array([math.nan, 5, 65]),
    follows=np.array([False, True, True]),
)


def taken(*lines, intervals=2):
    events = EventList()
    own = [events.end_interval(0) for _ in range(intervals)]
    for line in lines:
        events.take(line.encode(), step=20, stamps=Stamps())
    own.append(events.end_interval(20))
    return events.finished(WALL, np.array(own) == OWN), own


def test_the_longest_event_of_an_interval_gets_what_its_steps_do_not_explain():
    events, own = taken("Saving models and training states.", "Epoch 3 finished", "# Validation # PSNR: 31")
    assert own == [OWN, OWN, PAUSED]
    assert [(event.kind, event.seconds) for event in events] == [
        ("checkpoint", None),
        ("epoch", None),
        ("validation", pytest.approx(60)),
    ]


def test_the_same_event_counts_once_between_two_steps():
    events, _ = taken("Validation a psnr: 31", "Validation b psnr: 32")
    assert len(events) == 1


def test_seconds_that_a_line_tells_stay():
    events = EventList()
    events.add("validation", b"x", step=1, unix_s=3.0, seconds=40.0)
    events.add("validation", b"y", step=1, unix_s=4.0, seconds=2.0)
    (event,) = events.finished(WALL, np.zeros(3, dtype=bool))
    assert (event.seconds, event.unix_s, event.text) == (42.0, 3.0, "x")


def test_an_error_is_told_by_the_last_line_of_its_traceback():
    trace = [
        "Traceback (most recent call last):",
        "  File 'x.py', line 3, in <module>",
        "    run()",
        "",
        "RuntimeError: boom",
    ]
    events, own = taken(*trace)
    assert [(event.kind, event.text) for event in events] == [("error", "RuntimeError: boom")]
    assert own[-1] == BROKEN
    out_of_memory, _ = taken(
        *trace[:-1], "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    )
    assert [event.kind for event in out_of_memory] == ["oom"]


def test_an_error_whose_last_line_never_came_is_one_all_the_same():
    events, _ = taken("Traceback (most recent call last):", "  File 'x.py', line 3")
    assert [event.kind for event in events] == ["error"]


def test_a_note_of_memory_is_no_pause():
    events, own = taken("⚠️  WARNING: System memory usage is critically high (91.2%)!")
    assert [event.kind for event in events] == ["memory-warning"]
    assert own[-1] == OWN


def test_what_was_told_before_an_interval_begins_again_is_not_in_it():
    events = EventList()
    events.take(b"Validation psnr: 31", step=None, stamps=Stamps())
    events.forget_interval(None)
    assert events.end_interval(None) == OWN


def test_a_flood_of_events_is_cut_off_and_counted():
    events = EventList()
    for step in range(10_003):
        events.add("validation", b"x", step=step, unix_s=math.nan)
        events.end_interval(step)
    assert len(events) == 10_000
    assert list(events.notes()) == ["3 events after the 10,000th left out."]
