from dataclasses import replace

import numpy as np

from deblurkit.analysis.findings import Finding, Gain
from deblurkit.analysis.tables import Event
from deblurkit.render.analysis_page.elements import Pictures
from deblurkit.render.analysis_page.section import finding_as_html, report_section

FINDING = Finding(
    id="data-bound",
    severity="critical",
    title="Training <waits>.",
    evidence="61 % of a step in <b>数据",
    remedy="Do this.",
    cause="A slow disk.",
    keys=("A.B", "C.D"),
    settings=("A.B=8",),
    gain=Gain(2.5, 1.4, 2.6, "1 / (1 - 0.6)"),
)


def test_a_finding_says_what_how_known_why_what_to_do_and_what_for():
    html = finding_as_html(FINDING)
    assert html.index("Evidence") < html.index("Cause") < html.index("Remedy") < html.index("Gain")
    assert "61 % of a step in &lt;b&gt;数据" in html
    assert "<pre>--set A.B=8\nto your own value: C.D</pre>" in html
    assert "2.50 times as fast, 1.40 to 2.60" in html
    assert '<article class="finding critical">' in html


def test_verdict_and_findings_come_before_pictures_and_tables(make_report):
    report = replace(make_report({"forward": np.full(50, 9.0)}), findings=(FINDING,), verdict="v < w")
    html = report_section(report, Pictures())
    order = ['<p class="verdict">v &lt; w</p>', "1 finding", "Time of a step", "<table>"]
    places = [html.index(text) for text in order]
    assert places == sorted(places)


def test_a_log_of_events_alone_has_no_empty_picture(make_report):
    report = make_report({"forward": []}, events=(Event("oom", "CUDA <b>out", None),))
    pictures = Pictures()
    html = report_section(report, pictures)
    assert pictures.figures == []
    assert '<td class="words">CUDA &lt;b&gt;out</td>' in html


def test_of_many_events_the_last_are_listed(make_report):
    events = tuple(Event("validation", f"line {number}", number) for number in range(100))
    html = report_section(make_report({"forward": [1.0, 1.0]}, events=events), Pictures())
    assert html.count(">line ") == 40
    assert "60 earlier ones not shown" in html


def test_the_more_logs_the_fewer_points(make_report):
    report = make_report({"forward": np.full(5_000, 9.0)})
    few, many = Pictures(), Pictures()
    report_section(report, few)
    report_section(report, many, share=20)
    assert [len(pictures.figures[0].data[0]["x"]) for pictures in (few, many)] == [1_000, 100]
