import json
from dataclasses import fields, replace

import jsonschema
import pytest
from rich.cells import cell_len

from deblurkit.analysis.bootstrap import Interval
from deblurkit.analysis.compare import Comparison, Side
from deblurkit.analysis.compare_scalars import QualityChange, Shift
from deblurkit.analysis.compare_steps import RowChange, StepChange, Verdict
from deblurkit.analysis.findings import Gain
from deblurkit.analysis.predicted_gains import GainCheck
from deblurkit.render.compare import comparison_as_dict, comparison_as_text

LONE = RowChange("ema", (), ("[bold]ema",), None, 4.0, None, 4.0, None, None, "only in B")
ROWS = (
    RowChange(
        "data",
        ("数据加载",),
        ("data",),
        20.0,
        68.0,
        19.5,
        67.5,
        Interval(48.0, 46.9, 49.2),
        Interval(0.98, 0.95, 1.02),
        "slower",
    ),
    RowChange(
        "forward",
        ("forward",),
        ("forward",),
        120.0,
        119.0,
        120.0,
        119.0,
        Interval(-1, -3, 0.4),
        None,
        "not shown to differ",
    ),
    RowChange("all else", (), ("[bold]ema",), 5.0, 3.0, 5.0, 3.0, Interval(-2, -2.1, -1.9), None, "faster"),
    LONE,
)
COMPARISON = Comparison(
    a=Side("outputs/运行 1/timing_1.jsonl", "timing-jsonl", 2000, 412.0, 410.0, 8, 19.4),
    b=Side("b.log", "timing-text", 1500, 462.0, 460.0, 8, 17.3),
    steps=StepChange(
        verdict=Verdict("material", "slower"),
        is_wall=True,
        step_ratio=Interval(1.1213592, 1.115, 1.128),
        sample_ratio=Interval(1.1213592, 1.115, 1.128),
        samples_per_second_ratio=Interval(0.892, 0.887, 0.897),
        median_ratio=1.122,
        rows=ROWS,
    ),
    quality=(
        QualityChange(
            "loss", 500, "step", 501, 1000, 0.5, 0.51, Interval(0.01, -0.005, 0.03), "no difference shown"
        ),
        QualityChange("psnr_db", 2, "sample", 8000, 16000, 30, 31, Interval(1.0), "cannot tell"),
    ),
    memory=(Shift("cuda_reserved_bytes", "bytes", 3 * 1024**3, 2 * 1024**3),),
    trace=(Shift("busy_share", "share", 0.25, 0.8), Shift("sync_us", "us", 20_000.0, 500.0)),
    gains=(
        GainCheck(
            "data-bound",
            Gain(1.2, 1.1, 1.3, "1 / (1 - 0.17)"),
            ("data",),
            Interval(1.19, 1.18, 1.2),
            True,
            "came true",
        ),
        GainCheck(
            "recompute",
            Gain(1.4, 1.3, 1.5, "x"),
            ("backward",),
            Interval(1.1, 1.05, 1.15),
            False,
            "less than predicted",
        ),
    ),
    notes=("A note.",),
)


def with_steps(**changes):
    return replace(COMPARISON, steps=replace(COMPARISON.steps, **changes))


def flat(comparison):
    return " ".join(comparison_as_text(comparison).split())


@pytest.mark.parametrize("width", [80, 100])
def test_no_line_is_wider_than_asked_in_columns(width):
    text = comparison_as_text(COMPARISON, width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert all(line == line.rstrip() for line in text.splitlines())
    assert "\x1b" not in text


def test_a_comparison_reads_aloud():
    text = flat(COMPARISON)
    assert (
        "A outputs/运行 1/timing_1.jsonl 2,000 steps; a step takes 412 ms on average, 410 ms in the median"
        in text
    )
    assert "Verdict: B is materially slower than A." in text
    assert (
        "A step takes 1.121 times (1.115 to 1.128) as long in B as in A; by the median, 1.122 times." in text
    )
    assert "B takes 0.892 times (0.887 to 0.897) as many samples a second." in text
    assert "Slower: 数据加载 / data by 48.0 ms." in text
    assert "Faster: all else by 2.0 ms." in text
    assert "Only in B, where it is part of all else: [bold]ema (4.0 ms)." in text  # a name, not markup
    assert (
        "data-bound: came true. Predicted: 1.20 times as fast (1.10 to 1.30); measured: 1.19 (1.18 to 1.20)."
        in text
    )
    assert "by backward alone, as more than one prediction was tried at once." in text
    assert (
        "Loss at the same steps 501 to 1,000: 0.5 in A, 0.51 in B, +0.01 (-0.005 to +0.03): no difference"
        in text
    )
    assert "PSNR in dB at the same samples 8,000 to 16,000" in text
    assert "better in B, but 2 values cannot tell it from chance." in text
    assert "GPU memory, reserved 3.00 GiB 2.00 GiB -1.00 GiB" in text
    assert "device busy 25.0 % 80.0 % +55.0 points" in text
    assert "calls that wait 20.0 ms 0.50 ms -19.5 ms" in text


def test_figures_stand_under_each_other_beside_chinese_names():
    lines = [line for line in comparison_as_text(COMPARISON).splitlines() if " to " in line and " ms" in line]
    rows = [line for line in lines if line.lstrip().startswith(("数据加载", "forward", "all else"))]
    assert len(rows) == 3
    assert len({cell_len(row[: row.index(" ms")]) for row in rows}) == 1


def test_the_share_of_the_change_has_its_interval():
    (row,) = [
        line for line in comparison_as_text(COMPARISON).splitlines() if "48.0 ms" in line and " to " in line
    ]
    figures = " ".join(row.split())
    assert figures == "数据加载 / data 20.0 ms 68.0 ms +48.0 ms +46.9 ms to +49.2 ms 98 % (95 to 102)"


def test_a_share_of_nothing_has_no_sign():
    row = replace(ROWS[0], share=Interval(-0.001, -0.004, 0.002))
    assert "0 % (0 to 0)" in flat(with_steps(rows=(row,)))
    assert "-0" not in flat(with_steps(rows=(row,))).split("Quality")[0]


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Verdict("same", within=0.03), "Verdict: the same within 3 %."),
        (Verdict("moderate", "faster"), "Verdict: B is moderately faster than A."),
        (Verdict("cannot tell", why="A holds only means"), "Verdict: cannot tell: A holds only means."),
    ],
)
def test_every_verdict_is_a_sentence(verdict, text):
    assert text in flat(with_steps(verdict=verdict))


def test_a_sample_decides_where_batches_differ():
    text = flat(
        with_steps(per="sample", step_ratio=Interval(1.8, 1.7, 1.9), sample_ratio=Interval(0.9, 0.88, 0.92))
    )
    assert "A sample takes 0.900 times (0.880 to 0.920) as long in B as in A" in text
    assert (
        "A step takes 1.800 times (1.700 to 1.900) as long in B as in A, with another number of samples."
        in text
    )
    assert "Phase, a sample" in text


def test_without_an_interval_nothing_is_called_slower():
    row = replace(ROWS[0], difference=Interval(48.0), share=None, verdict="cannot tell")
    text = flat(with_steps(rows=(row,), step_ratio=Interval(1.12)))
    assert "A step takes 1.120 times as long in B as in A" in text
    assert "cannot be told" in text
    assert "Slower" not in text


def test_logs_without_times_are_said_to_have_none():
    bare = replace(
        COMPARISON,
        b=replace(COMPARISON.b, mean_ms=None, median_ms=None, samples_per_second=None),
        steps=StepChange(Verdict("cannot tell", why="B tells no time of a step")),
    )
    text = flat(bare)
    assert "It tells no time of a step." in text
    assert "Phase" not in text


INTERVAL = {
    "type": ["object", "null"],
    "required": ["value", "low", "high"],
    "properties": {
        "value": {"type": "number"},
        "low": {"type": ["number", "null"]},
        "high": {"type": ["number", "null"]},
    },
    "additionalProperties": False,
}


def record(**properties):
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def listed(**properties):
    return {"type": "array", "items": record(**properties)}


TEXT, NUMBER, UNSURE = {"type": "string"}, {"type": "number"}, {"type": ["number", "null"]}
NAMES = {"type": "array", "items": TEXT}
SIDE = record(
    source=TEXT,
    format=TEXT,
    steps=NUMBER,
    mean_ms=UNSURE,
    median_ms=UNSURE,
    samples_per_step=UNSURE,
    samples_per_second=UNSURE,
)
SHIFTS = listed(name=TEXT, unit={"enum": ["bytes", "us", "share"]}, a=NUMBER, b=NUMBER)
SCHEMA = record(  # as docs/analyze-log.md has it
    a=SIDE,
    b=SIDE,
    verdict=record(
        level={"enum": ["same", "moderate", "material", "cannot tell"]},
        direction={"enum": ["slower", "faster", ""]},
        within=UNSURE,
        why=TEXT,
    ),
    per={"enum": ["step", "sample"]},
    is_wall={"type": "boolean"},
    step_ratio=INTERVAL,
    sample_ratio=INTERVAL,
    samples_per_second_ratio=INTERVAL,
    median_ratio=UNSURE,
    phases=listed(
        key=TEXT,
        names_a=NAMES,
        names_b=NAMES,
        mean_a_ms=UNSURE,
        mean_b_ms=UNSURE,
        median_a_ms=UNSURE,
        median_b_ms=UNSURE,
        difference_ms=INTERVAL,
        share_of_change=INTERVAL,
        verdict=TEXT,
    ),
    quality=listed(
        name=TEXT,
        points=NUMBER,
        by={"enum": ["step", "sample"]},
        first=NUMBER,
        last=NUMBER,
        a=NUMBER,
        b=NUMBER,
        difference=INTERVAL,
        verdict={"enum": ["better", "worse", "no difference shown", "cannot tell"]},
    ),
    memory=SHIFTS,
    trace=SHIFTS,
    gains=listed(
        id=TEXT,
        verdict=TEXT,
        predicted=record(likely=NUMBER, low=NUMBER, high=NUMBER, arithmetic=TEXT),
        measured=INTERVAL,
        phases=NAMES,
        alone={"type": "boolean"},
    ),
    notes=NAMES,
)


@pytest.mark.parametrize("comparison", [COMPARISON, with_steps(step_ratio=None, rows=(LONE,))])
def test_json_keeps_its_schema(comparison):
    text = json.dumps(comparison_as_dict(comparison), ensure_ascii=False, allow_nan=False)
    jsonschema.validate(json.loads(text), SCHEMA)


def test_json_holds_the_figures():
    document = comparison_as_dict(COMPARISON)
    assert document["step_ratio"] == {"value": 1.12136, "low": 1.115, "high": 1.128}
    assert document["phases"][0]["difference_ms"] == {"value": 48.0, "low": 46.9, "high": 49.2}
    assert document["phases"][3]["difference_ms"] is None
    assert [shift["name"] for shift in document["trace"]] == ["busy_share", "sync_us"]


def test_every_figure_of_a_trace_has_a_name():
    from deblurkit.analysis import compare_scalars
    from deblurkit.analysis.tables import TraceFigures

    names = (*compare_scalars._SHARES, *compare_scalars._TIMES)
    assert set(names) <= {field.name for field in fields(TraceFigures)}
    shifts = tuple(Shift(name, "us", 1.0, 2.0) for name in (*names, *compare_scalars._MEMORY))
    assert len(comparison_as_text(replace(COMPARISON, trace=shifts)).splitlines()) > len(shifts)
