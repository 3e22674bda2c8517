"""The expected blocks are the seed's sample, character for character where its own padding is right."""

from rich.cells import cell_len

from deblurkit.timing.records import Note, StepTiming
from deblurkit.timing.statistics import Statistics
from deblurkit.timing.text_log import TextLog, format_step, format_summary, header

SAMPLE = StepTiming(
    step=1,
    unix_time=0.0,
    wall_ms=0.01,  # the sample's numbers were logged, not measured: rows exceed the wall time
    milliseconds={
        "前向传播总耗时": 280.0,
        "VRT处理": 150.0,
        "VRT处理/Stage2": 23.0,
        "VRT处理/Stage1": 25.0,
        "VRT处理/Stage1/Attention": 20.0,
        "Spike时间自注意力": 80.0,
        "VRT融合": 60.0,
        "Spike编码器": 50.0,
    },
)


def test_a_step_reads_as_in_the_seed():
    lines = format_step(SAMPLE, dict(SAMPLE.milliseconds)).splitlines()
    assert lines[0] == lines[2] == "=" * 80
    assert lines[1] == "Step 1"
    assert lines[3] == "前向传播总耗时" + " " * 26 + ":   280.00ms ( 45.2%) [avg:   280.00ms]"
    assert lines[4] == "VRT处理" + " " * 33 + ":   150.00ms ( 24.2%) [avg:   150.00ms]"
    assert lines[5] == "  - Stage1" + " " * 30 + ":    25.00ms [avg:    25.00ms]"
    assert lines[6] == "    - Attention" + " " * 25 + ":    20.00ms [avg:    20.00ms]"
    assert lines[7].startswith("  - Stage2 ")
    assert lines[-1] == "Total" + "-" * 35 + ":   620.00ms"


def test_colons_stand_in_one_column_whatever_the_script():
    lines = [line for line in format_step(SAMPLE, {}).splitlines() if "ms" in line]
    assert {cell_len(line[: line.index(":")]) for line in lines} == {40}


def test_top_level_rows_and_unaccounted_add_up_to_the_total():
    lines = format_step(StepTiming(7, 0.0, 100.0, {"forward": 60.0, "data": 15.0}), {}).splitlines()
    assert lines[4] == "unaccounted" + " " * 29 + ":    25.00ms ( 25.0%) [avg:    25.00ms]"
    assert lines[-1].endswith(":   100.00ms")


def test_a_percent_sign_in_a_name_stays(tmp_path):
    lines = format_step(StepTiming(1, 0.0, 2.0, {"50 %d%%": 2.0}), {}).splitlines()
    assert lines[3].startswith("50 %d%% ")


def test_a_step_on_another_clock_than_the_log_s_says_so():
    block = format_step(StepTiming(7, 0.0, 2.0, {}, clock="host"), {})
    assert block.startswith("# step 7 on the host clock\n====")


def test_the_summary_reads_as_in_the_seed():
    row = Statistics()
    for value in (275.0, 285.0, 280.0):
        row.add(value)
    lines = format_summary(3, {"前向传播总耗时": row}).splitlines()
    assert lines[1] == "Timing Summary (Total 3 steps)"
    assert lines[3] == "前向传播总耗时" + " " * 26 + ": avg=  280.00ms  min=  275.00ms  max=  285.00ms  (n=3)"


def test_the_header_says_what_the_numbers_are():
    line = header(rank=0, world_size=2, clock="host", samples_per_step=8, started_at=0.0)
    assert line == (
        "# deblurkit timing log 1 | unit ms | rank 0 of 2 | clock host | samples_per_step 8"
        " | started 1970-01-01T00:00:00+00:00\n"
    )


def test_steps_reach_the_disk_at_the_flush_interval(tmp_path):
    log = TextLog(tmp_path / "t.log", head="# head\n", flush_interval=2)
    log.write_step(SAMPLE, {})
    assert "Step 1" not in (tmp_path / "t.log").read_text(encoding="utf-8")
    log.write_step(SAMPLE, {})
    assert (tmp_path / "t.log").read_text(encoding="utf-8").count("Step 1") == 2
    log.close()
    log.close()


def test_the_line_of_a_note_is_on_the_disk_at_once_and_a_note_may_have_none(tmp_path):
    log = TextLog(tmp_path / "t.log", head="# head\n", flush_interval=100)
    log.write_note(Note("memory", {"x": 1}, "[Step 100] Memory - 内存", 100, 0.0))
    log.write_note(Note("memory", {"x": 1}, "", 100, 0.0))
    assert log.path.read_text(encoding="utf-8") == "# head\n[Step 100] Memory - 内存\n"
    log.close()
