import io

from rich.cells import cell_len

from deblurkit.timing.console import InPlaceConsole, format_frame
from deblurkit.timing.records import StepTiming

# Step 42 of the seed's sample: bars of 30 cells, the share rounded down.
SAMPLE = StepTiming(
    42,
    0.0,
    0.0,
    {
        "前向传播总耗时": 280.0,
        "VRT处理": 150.0,
        "Spike时间自注意力": 80.0,
        "VRT融合": 60.0,
        "Spike编码器": 50.0,
    },
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_frame_shows_the_five_longest_rows_with_bars():
    lines = format_frame(SAMPLE)
    assert lines[0].startswith("┌─ Timing Profile (Step 42) ──")
    assert lines[1].endswith("█" * 13 + "░" * 17 + "   280.0ms 45.2%")
    assert [line.count("█") for line in lines[1:-1]] == [13, 7, 3, 2, 2]
    assert lines[-1].startswith("└─ Total:   620.0ms ──")


def test_bars_begin_in_one_column_whatever_the_script():
    rows = format_frame(SAMPLE)[1:-1]
    assert len({cell_len(line[: line.index("█")]) for line in rows}) == 1


def test_a_name_too_long_is_cut_to_its_column():
    line = format_frame(StepTiming(1, 0.0, 1.0, {"很" * 40: 1.0}))[1]
    assert cell_len(line[: line.index("█")]) == 2 + 28 + 1


def test_a_second_frame_is_drawn_over_the_first():
    terminal = Terminal()
    console = InPlaceConsole(terminal)
    console.show(SAMPLE)
    first = terminal.getvalue()
    console.show(SAMPLE)
    assert "\x1b[7A" not in first
    assert terminal.getvalue().removeprefix(first).startswith("\x1b[7A")


def test_nothing_is_written_where_there_is_no_terminal():
    stream = io.StringIO()
    InPlaceConsole(stream).show(SAMPLE)
    assert stream.getvalue() == ""


def test_on_a_narrow_terminal_lines_are_cut_so_that_none_wraps(monkeypatch):
    monkeypatch.setattr(InPlaceConsole, "_columns", lambda self: 30)
    terminal = Terminal()
    InPlaceConsole(terminal).show(SAMPLE)
    lines = terminal.getvalue().replace("\x1b[2K", "").replace("\x1b[J", "").splitlines()
    assert {cell_len(line) for line in lines} == {30}
