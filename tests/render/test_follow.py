import io
import math

import pandas as pd
import pytest
from rich.cells import cell_len
from rich.console import Console

from deblurkit.analysis.follow import ENDED, INTERRUPTED, Update, recent_of
from deblurkit.analysis.report import analyze
from deblurkit.analysis.tables import RunLog
from deblurkit.render.follow import follow_line, follow_screen, show_following, sparkline
from deblurkit.render.text import as_text


def update(last=50, **more):
    """Steps of 100 ms: 60 % 前向传播 and 35 % data, which is worth a finding."""
    numbers = range(1, last + 1)
    steps = pd.DataFrame(
        {
            "step": numbers,
            "total_ms": 100.0,
            "wall_known": True,
            "unix_s": 1.7e9,
            "count": 1,
            "epoch": math.nan,
        }
    )
    times = pd.DataFrame({"前向传播": 60.0, "data": 35.0}, index=steps.index)
    scalars = {
        "loss": pd.DataFrame({"step": [1.0, 2.0], "unix_s": math.nan, "value": [1.0, 0.125]}),
        "cuda_reserved_bytes": pd.DataFrame({"step": [1.0], "unix_s": math.nan, "value": [2.5 * 2**30]}),
    }
    log = RunLog("运行/timing.jsonl", "timing-jsonl", steps, times, last, 8, scalars=scalars)
    report = analyze(log)
    return Update(log.source, report=report, recent=recent_of(report), new_steps=last, **more)


def columns_of(text, *words):
    """Return the display column at which each word ends in its line."""
    lines = [next(line for line in text.splitlines() if word in line) for word in words]
    return [cell_len(line[: line.index("ms") + 2]) for line in lines]


def test_the_screen_tells_step_phases_verdict_findings_and_numbers():
    text = as_text(follow_screen(update()))
    assert "运行/timing.jsonl" in text
    assert "step 50   50 steps read   median 100 ms   10 steps/s   80 samples/s" in text
    assert "Verdict: data-bound" in text and "critical: " in text and "[data-bound]" in text
    assert "0.125" in text and "2.50 GiB" in text
    assert "Ctrl-C ends" in text
    row = next(line.split() for line in text.splitlines() if "前向传播" in line)
    assert row == ["前向传播", "60.0", "ms", "60.0", "ms", "60.0", "%", "█" * 12]


def test_chinese_names_are_aligned():
    text = as_text(follow_screen(update()))
    phases = text[text.index("Phase") :]
    assert len(set(columns_of(phases, "前向传播", "data", "unaccounted"))) == 1


@pytest.mark.parametrize("width", [40, 80])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(cell_len, as_text(follow_screen(update()), width=width).splitlines())) <= width


def test_before_the_first_step_the_notice_stands_alone():
    text = as_text(follow_screen(Update("x.jsonl", notice="no step yet")))
    assert text == "x.jsonl\nno step yet   Ctrl-C ends with the whole report\n"


def test_the_footer_tells_of_silence_and_of_the_end():
    assert "nothing new for 2 min 05 s" in as_text(follow_screen(update(quiet_s=125.0)))
    assert "nothing new" not in as_text(follow_screen(update(quiet_s=5.0)))
    assert as_text(follow_screen(update(end=ENDED))).endswith("\nThe run has ended.\n")


def test_a_line_for_those_without_a_terminal():
    line = follow_line(update(end=INTERRUPTED))
    assert line.startswith(
        "step 50 | 100 ms | 前向传播 60.0 %, data 35.0 %, unaccounted 5.0 % | loss 0.125 | data-b"
    )
    assert line.endswith("| data-bound | interrupted")
    assert follow_line(Update("x", notice="no step yet")) == "x: no step yet"


def test_without_a_terminal_only_news_are_printed():
    file = io.StringIO()
    quiet = [
        Update("x", notice="no step yet"),
        Update("x", notice="no step yet"),
        update(),
        update(end=ENDED),
    ]
    quiet.insert(3, Update("x", report=quiet[2].report, recent=quiet[2].recent))
    last = show_following((each for each in quiet), console=Console(file=file, width=50))
    lines = file.getvalue().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["x:", "step", "step"]
    assert last is quiet[-1]


def test_on_a_terminal_the_last_state_stays():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, color_system=None)
    show_following((each for each in [update(2), update(50, end=ENDED)]), console=console)
    shown = file.getvalue()
    assert shown.index("step 2 ") < shown.rindex("step 50 ")
    assert (
        "The run has ended." in shown.split("\x1b")[-2] + shown.split("\x1b")[-1]
        or "The run has ended." in shown
    )


def test_ctrl_c_while_drawing_ends_with_the_last_report():
    asked = []

    def updates():
        try:
            yield update(2)
        except KeyboardInterrupt:
            asked.append("interrupted")
        yield update(50, end=INTERRUPTED)

    class Interrupted(io.StringIO):
        def write(self, text):
            if not asked:
                raise KeyboardInterrupt
            return super().write(text)

    file = Interrupted()
    last = show_following(updates(), console=Console(file=file))
    assert asked == ["interrupted"]
    assert (last.end, last.report.steps) == (INTERRUPTED, 50)


def test_nothing_to_follow():
    assert show_following((each for each in []), console=Console(file=io.StringIO())) is None


@pytest.mark.parametrize(
    ("values", "options", "curve"),
    [
        ([0, 7, 3.6], {}, "▁█▅"),
        ([5, 5, 5], {}, "▁▁▁"),
        ([98, 100, 99], {"from_zero": True}, "███"),
        ([1, math.nan, 2, math.inf], {}, "▁ █ "),
        ([], {}, ""),
        ([math.nan], {}, " "),
        ([0, 0], {"from_zero": True}, "▁▁"),
    ],
)
def test_a_curve_in_characters(values, options, curve):
    assert sparkline(values, **options) == curve


def test_a_log_of_numbers_without_steps():
    steps = pd.DataFrame(
        {name: pd.Series(dtype="float64") for name in ("step", "total_ms", "unix_s", "count", "epoch")}
    ).assign(wall_known=pd.Series(dtype="bool"))
    loss = pd.DataFrame({"step": [1.0, 2.0], "unix_s": math.nan, "value": [1.0, 0.125]})
    report = analyze(RunLog("x", "tensorboard", steps, pd.DataFrame(), 0, scalars={"loss": loss}))
    bare = Update("x", report=report, recent=recent_of(report))
    assert "loss  0.125  █▁" in as_text(follow_screen(bare))
    assert "loss 0.125" in follow_line(bare)
