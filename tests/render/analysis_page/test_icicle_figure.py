import pytest

from deblurkit.render.analysis_page.icicle_figure import icicle_figure

TIMES = {
    "data": [10.0, 30.0],
    "forward": [100.0, 100.0],
    "forward/Stage1": [60.0, 60.0],
    "forward/Stage1/attention": [40.0, 40.0],
    "forward/Stage2": [30.0, 30.0],
}


def bars_of(report, most=400):
    (trace,) = icicle_figure(report, most=most).data
    keys = zip(trace["labels"], trace["values"], trace["parents"], trace["ids"], strict=True)
    names = {id_: label for label, _, _, id_ in keys}
    rows = zip(trace["labels"], trace["values"], trace["parents"], strict=True)
    return [(label, names.get(parent), value / 1e6) for label, value, parent in rows]


def test_bars_are_inclusive_and_own_time_is_a_bar(make_report):
    assert sorted(bars_of(make_report(TIMES, unaccounted=5.0)), key=str) == sorted(
        [
            ("step", None, 125.0),
            ("data", "step", 20.0),
            ("forward", "step", 100.0),
            ("unaccounted", "step", 5.0),
            ("Stage1", "forward", 60.0),
            ("Stage2", "forward", 30.0),
            ("own time", "forward", 10.0),
            ("attention", "Stage1", 40.0),
            ("own time", "Stage1", 20.0),
        ],
        key=str,
    )


def test_children_never_exceed_their_parent(make_report):
    """What plotly asks of `branchvalues: total`, else it draws nothing: also where rows overlap."""
    times = {
        "forward": [10.0],
        "forward/a": [8.0],
        "forward/b": [1 / 3],
        "forward/a/c": [9.0],
        "forward/d": [7.1],
    }
    report = make_report({name: values * 3 for name, values in times.items()})
    (trace,) = icicle_figure(report, most=400).data
    own = dict(zip(trace["ids"], trace["values"], strict=True))
    inside = dict.fromkeys(own, 0)
    for parent, value in zip(trace["parents"], trace["values"], strict=True):
        if parent:
            inside[parent] += value
    assert all(isinstance(value, int) for value in own.values())
    assert all(inside[key] <= own[key] for key in own)


def test_rows_beyond_the_most_become_part_of_their_parent(make_report):
    report = make_report({"forward": [100.0], **{f"forward/m{number}": [1.0] for number in range(50)}})
    bars = bars_of(report, most=11)
    assert len(bars) <= 2 * 11 + 1
    assert ("own time and shorter rows", "forward", pytest.approx(90.0)) in bars


def test_names_are_text(make_report, hostile):
    name = hostile.replace("/", "|")
    report = make_report({"forward": [2.0], f"forward/{name}": [1.0]})
    (trace,) = icicle_figure(report, most=9).data
    assert "&lt;script&gt;alert(1)&lt;|script&gt;" in trace["labels"]
    assert not any("<s" in text for text in (*trace["labels"], *trace["customdata"]))


def test_without_rows_there_is_no_icicle(make_report):
    assert icicle_figure(make_report({}, wall_ms=[5.0, 6.0]), most=9) is None
