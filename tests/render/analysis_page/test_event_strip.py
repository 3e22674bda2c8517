import numpy as np

from deblurkit.analysis.run_axis import run_axis
from deblurkit.analysis.tables import Event
from deblurkit.render.analysis_page.event_strip import event_strip
from deblurkit.timing.records import Beside

PLACE = run_axis(np.arange(1, 10_001))


def strip_of(make_report, **log):
    return event_strip(make_report({"forward": [1.0, 1.0]}, **log), PLACE)


def test_a_log_without_events_has_no_strip(make_report):
    assert strip_of(make_report).height == 0


def test_what_is_told_as_an_event_is_not_told_again(make_report):
    strip = strip_of(
        make_report,
        events=(Event("validation", "x", 5),),
        beside=(Beside("validation", 9.0, 1, 5), Beside("加载 <i>", 2.0, 1, 7)),
    )
    assert strip.axis["ticktext"] == ["validation (1)", "加载 &lt;i&gt; (1)"]
    assert strip.traces[1]["text"] == ["加载 &lt;i&gt; after step 7, 2.0 s"]


def test_thousands_of_events_are_thinned_and_counted(make_report):
    strip = strip_of(make_report, events=tuple(Event("epoch", "x", step) for step in range(1, 9_001)))
    assert strip.axis["ticktext"] == ["epoch (9,000)"]
    assert len(strip.traces[0]["x"]) == 500


def test_an_event_at_no_known_step_has_no_mark(make_report):
    assert strip_of(make_report, events=(Event("oom", "x", None),)).height == 0
