import json
from dataclasses import replace

import pytest
from rich.cells import cell_len

from deblurkit.render.profile import profile_as_json, profile_as_text, shape_text
from deblurkit.timing.peaks import Peak
from deblurkit.training.profiling.partition import Piece
from deblurkit.training.profiling.records import Gain, Subject
from deblurkit.training.profiling.summary import Measured, summarise

SUBJECT = Subject("vrt", 1234, "cpu", "CPU", "fp32", (2, 3, 3, 8, 8), (2, 3, 4, 4, 4), 1, "synthetic", False)


def piece(phase, row, begin, end, kind=""):
    return Piece(phase, row, kind, (begin, 1e9 * begin, begin), (end, 1e9 * end, end))


STEP = [
    piece("forward", "VRT处理/Stage1", 0.0, 0.3),
    piece("forward", "<b>", 0.3, 0.4),
    piece("backward", "VRT处理/Stage1", 0.4, 0.8),
    piece("backward", "VRT处理/Stage1", 0.8, 0.9, "attention"),
]


@pytest.fixture
def profile():
    gain = Gain("data", "Do <i>this</i>", 100.0, 1.11, "1,000 / 900", ("DATA.K",), "Nothing.")
    measured = Measured(SUBJECT, 2, [STEP], [1.0], work=STEP, notes=("a note",))
    named = {"VRT处理/Stage1": ("stage1",), "<b>": ("b",)}
    shapes = {"<b>": ((2, 3), (4,))}
    measured = replace(measured, modules=named, inputs=shapes, outputs=shapes, calls={"<b>": 2})
    return replace(summarise(measured), gains=(gain,))


def test_the_tables_hold_the_figures_and_their_sums(profile):
    text = profile_as_text(profile)
    assert "A step takes 1,000 ms on average" in text and "2.00 samples a second" in text
    stage = next(line for line in text.splitlines() if "Stage1" in line)
    assert stage.split()[1:7] == ["300", "ms", "400", "ms", "100.0", "ms"]
    whole = next(line for line in text.splitlines() if "forward and backward" in line)
    assert "400 ms" in whole and "90.0 %" in whole
    assert "1.11 x  Do <i>this</i>: DATA.K [data]" in text and "a note" in text


def test_chinese_names_keep_the_columns(profile):
    lines = profile_as_text(profile).splitlines()
    shown = [line for line in lines if line.startswith((" VRT处理", "   Stage1", " <b>"))]
    ends = {cell_len(line[: line.index("ms") + 2]) for line in shown}
    assert len(shown) == 3 and len(ends) == 1
    assert max(map(cell_len, lines)) <= 110


def test_shapes_are_shown_when_they_are_asked_for(profile):
    assert "[<b>] (2, 3), (4) -> (2, 3), (4)" in profile_as_text(profile, shapes=True)
    assert "(2, 3), (4) ->" not in profile_as_text(profile)
    assert shape_text(((1,),) * 6) == "(1), (1), (1), (1), and 2 more"


def test_without_gains_it_says_so(profile):
    assert "Nothing here would save more than 5.0 %" in profile_as_text(replace(profile, gains=()))


def test_utilisation_is_a_column_where_the_peak_is_known(profile):
    text = profile_as_text(replace(profile, peak=Peak("GPU", "fp32", 2e9, "a sheet")))
    assert "MFU 40.0 % of the 0.0 TFLOP/s that a GPU has in fp32 (a sheet)" in text
    assert "MFU" in text.split("Module")[1].splitlines()[0] and "MFU" not in profile_as_text(profile)


def test_the_document_has_its_fields(profile):
    document = json.loads(profile_as_json(profile))
    assert document["schema"] == "deblurkit-profile-step/1"
    assert document["step_ms"] == {"mean": 1000.0, "median": 1000.0} and document["mfu"] is None
    rows = {row["name"]: row for row in document["rows"]}
    assert rows["VRT处理"]["ms"] == rows["VRT处理/Stage1"]["ms"]
    assert rows["VRT处理"]["ms"] == {"forward": 300.0, "backward": 400.0, "recompute": 100.0}
    assert rows["<b>"]["inputs"] == [[2, 3], [4]] and rows["<b>"]["flops"]["forward"] == 100_000_000
    phases = sum(phase["mean_ms"] for phase in document["phases"])
    assert phases == pytest.approx(1000) and document["gains"][0]["keys"] == ["DATA.K"]
