from rich.cells import cell_len

from deblurkit.timing.overhead import OwnCost
from deblurkit.timing.statistics import Statistics
from deblurkit.timing.summary_table import fit, format_table

NO_COST = OwnCost(3.25, 0.061, 0, 0)


def of(*values):
    row = Statistics()
    for value in values:
        row.add(value)
    return row


def test_columns_are_aligned_and_figures_those_of_the_rows():
    rows = {"前向传播总耗时": of(60.0, 80.0), "前向传播总耗时/编码器": of(20.0, 20.0), "data": of(10.0)}
    table = format_table(rows, step=of(100.0, 100.0), unaccounted=of(30.0, 20.0), cost=NO_COST)
    _, title, _, heads, *lines, last = table.splitlines()
    assert title == "Timing Summary (Total 2 steps, times in ms)"
    assert heads.split() == ["n", "mean", "own", "share", "p50", "p95", "p99", "min", "max"]
    name, *figures = lines[0].split()
    assert (name, " ".join(figures)) == (
        "前向传播总耗时",
        "2 70.00 50.00 70.0% 70.00 79.00 79.80 60.00 80.00",
    )
    assert lines[1].startswith("  编码器 ")
    assert lines[2].split()[:5] == ["data", "1", "10.00", "10.00", "5.0%"]
    assert lines[3].split()[:5] == ["unaccounted", "2", "25.00", "25.00", "25.0%"]
    assert lines[5].split()[:3] == ["step", "2", "100.00"]
    assert len({cell_len(line) for line in lines}) == 1
    assert last == "timing itself: 3.2 us a step (0.06 %), 0 marks dropped"


def test_shares_of_the_top_level_and_unaccounted_add_up():
    rows = {"a": of(60.0), "b": of(25.0)}
    table = format_table(rows, step=of(100.0), unaccounted=of(15.0), cost=NO_COST)
    shares = [float(line.split()[4].rstrip("%")) for line in table.splitlines()[4:7]]
    assert sum(shares) == 100.0


def test_before_the_first_step_there_is_a_table_too():
    assert "step" in format_table({}, step=of(), unaccounted=of(), cost=NO_COST)


def test_a_long_name_loses_its_middle_and_keeps_its_width():
    assert fit("ab", 4) == "ab  "
    assert fit("abcdefghij", 7) == "abc…hij"
    for name in ("很" * 30, "a" + "很" * 30, "layer.with.a.long.path.0.conv1"):
        short = fit(name, 15)
        assert cell_len(short) == 15
        assert short.rstrip()[-1] == name[-1]
