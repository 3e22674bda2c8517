import io
import math

import pytest

from deblurkit.analysis import lines
from deblurkit.analysis.formats.timing_text import looks_like_text_log, read_text_log
from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import StepTiming
from deblurkit.timing.text_log import format_step, format_summary, header

RULE = "=" * 80
HEAD = "# deblurkit timing log 1 | unit ms | rank 0 of 1 | clock host | samples_per_step 8 | started x"

# The sample of the timing log's first specification, padded by code points, with rows left out.
SEED_STEP = f"""{RULE}
Step 1
{RULE}
前向传播总耗时                                 :   280.00ms ( 45.2%) [avg:   280.00ms]
VRT处理                                   :   150.00ms ( 24.2%) [avg:   150.00ms]
  - Stage1                              :    25.00ms [avg:    25.00ms]
  - Stage2                              :    23.00ms [avg:    23.00ms]
  ...
Spike时间自注意力                             :    80.00ms ( 12.9%) [avg:    80.00ms]
  - FFN                                 :    20.00ms [avg:    20.00ms]
  - 维度转换                                :    10.00ms [avg:    10.00ms]
...
Total-----------------------------------:   620.00ms
"""
SEED_SUMMARY = f"""{RULE}
Timing Summary (Total 1000 steps)
{RULE}
前向传播总耗时                                 : avg= 280.00ms  min= 275.00ms  max= 290.00ms  (n=1000)
VRT处理                                   : avg= 150.00ms  min= 145.00ms  max= 160.00ms  (n=500)
...
"""


def read(text):
    return read_text_log(text.encode().split(b"\n"), source="x.log")


def rows(log, at=0):
    return {name: ms for name, ms in log.times.iloc[at].items() if not math.isnan(ms)}


def test_the_seeds_sample_is_read_whole():
    log = read(SEED_STEP)
    assert log.format == "timing-text-seed"
    assert log.steps.iloc[0, :3].tolist() == [1, 620.0, False]
    assert rows(log) == {
        "前向传播总耗时": 280.0,
        "VRT处理": 150.0,
        "VRT处理/Stage1": 25.0,
        "VRT处理/Stage2": 23.0,
        "Spike时间自注意力": 80.0,
        "Spike时间自注意力/FFN": 20.0,
        "Spike时间自注意力/维度转换": 10.0,
    }
    assert log.damaged_lines == 0
    assert "2 lines of dots" in log.notes[0]


def test_a_sample_without_frame_or_averages_is_one_step():
    log = read(
        "前向传播总耗时    : 1805.28ms (50.0%)\nVRT处理          : 1799.99ms (49.9%)\n"
        "Total           : 3610.53ms\n"
    )
    assert rows(log) == {"前向传播总耗时": 1805.28, "VRT处理": 1799.99}
    assert log.steps["total_ms"].tolist() == [3610.53]


def test_prose_around_a_pasted_sample_is_no_row():
    log = read("loading: 12.00ms\nso much for that\nforward : 5.00ms\nTotal : 5.00ms\n")
    assert rows(log) == {"forward": 5.0}


def test_a_summary_alone_gives_means_per_step():
    log = read(SEED_SUMMARY)
    assert log.is_summary
    assert log.num_steps == 1000
    assert rows(log) == {"前向传播总耗时": 280.0, "VRT处理": 75.0}  # the second in half of the steps


def test_a_summary_after_steps_changes_nothing():
    log = read(SEED_STEP + SEED_SUMMARY)
    assert (log.num_steps, log.is_summary) == (1, False)


def test_what_our_writer_writes_is_read_back():
    milliseconds = {
        "数据: 加载 (cpu)": 20.0,
        "forward": 100.0,
        "forward/Stage 1": 60.5,
        "forward/Stage 1/注意力": 30.25,
        "backward": 200.0,
    }
    timing = StepTiming(7, 0.0, 325.0, milliseconds)
    head = header(rank=0, world_size=1, clock="host", samples_per_step=8, started_at=0.0)
    log = read(head + format_step(timing, {}) + format_step(timing, {}) + format_summary(2, {}))
    assert log.format == "timing-text"
    assert log.samples_per_step == 8
    assert rows(log, 0) == rows(log, 1) == milliseconds
    assert log.steps.iloc[0, :3].tolist() == [7, 325.0, True]  # 5 ms unaccounted


def test_the_header_says_whose_log_it_is():
    log = read(header(rank=2, world_size=8, clock="host", samples_per_step=8, started_at=0.0) + SEED_STEP)
    assert (log.rank, log.world_size) == (2, 8)
    log = read(HEAD.replace("rank 0 of 1", "rank 0") + "\n" + SEED_STEP)
    assert (log.rank, log.world_size) == (0, None)
    assert read(SEED_STEP).rank is None


@pytest.mark.parametrize("size", [1, 300, 2000])
def test_a_step_may_lie_across_the_ends_of_what_is_read_at_once(monkeypatch, size):
    steps = "".join(SEED_STEP.replace("...\n", "").replace("Step 1", f"Step {step}") for step in range(1, 30))
    monkeypatch.setattr(lines, "_CHUNK_BYTES", size)
    log = read_text_log(lines.CleanLines(io.BytesIO(steps.encode())), source="x.log")
    assert log.steps["step"].tolist() == list(range(1, 30))
    assert log.times.notna().all().all() and log.damaged_lines == 0 and not log.notes


def test_a_damaged_part_hides_what_is_inside_it_and_no_more():
    inside = "a : 5.00ms\n  - b : 3.0\n    - c : 1.00ms\n  - d : 2.00ms\n    - e : 1.00ms\n"
    log = read(f"{RULE}\nStep 1\n{RULE}\n{inside}Total : 5.00ms\n")
    assert set(rows(log)) == {"a", "a/d", "a/d/e"}
    assert log.damaged_lines == 2


def test_unknown_samples_per_step():
    log = read(HEAD.replace("_step 8", "_step unknown") + "\n" + SEED_STEP)
    assert log.samples_per_step is None


def test_a_step_cut_off_at_the_end_is_left_out_and_said():
    log = read(SEED_STEP + f"{RULE}\nStep 2\n{RULE}\nforward : 5.00ms [avg: 5.00ms]\nbackwa")
    assert log.steps["step"].tolist() == [1]
    assert log.damaged_lines == 1
    assert any("1 step without a total" in note for note in log.notes)


def test_children_below_a_damaged_row_are_not_given_to_another_parent():
    text = f"{RULE}\nStep 1\n{RULE}\na : 5.00ms\nb : 3.0\n  - c : 1.00ms\nd : 2.00ms\nTotal : 9.00ms\n"
    log = read(text)
    assert rows(log) == {"a": 5.0, "d": 2.0}
    assert log.damaged_lines == 2


def test_a_damaged_step_line_costs_the_number_and_not_the_step():
    log = read(SEED_STEP + SEED_STEP.replace("Step 1", "Sxep 2"))
    assert log.steps["step"].tolist() == [1, 2]
    assert log.damaged_lines == 1


def test_times_printed_between_two_steps_belong_to_none():
    log = read(SEED_STEP + "validation: 9000.00ms\n" + SEED_STEP)
    assert "validation" not in log.times


@pytest.mark.parametrize("value", ["nan", "inf", "-1.00", "1e999", "9" * 400])
def test_values_that_are_no_time_are_damage(value):
    log = read(f"{RULE}\nStep 1\n{RULE}\na : 5.00ms\nb : {value}ms\nTotal : 5.00ms\n")
    assert rows(log) == {"a": 5.0}
    assert log.damaged_lines == 1


@pytest.mark.parametrize("text", ["Step 3\n", SEED_STEP.rpartition("Total")[0]])
def test_no_complete_step_is_an_error(text):
    with pytest.raises(DeblurkitError, match="no complete step"):
        read(text)


def test_a_later_version_is_refused():
    with pytest.raises(DeblurkitError, match="update deblurkit"):
        read(HEAD.replace("log 1", "log 2") + "\n" + SEED_STEP)


def test_recognition():
    assert looks_like_text_log(SEED_STEP.encode())
    assert looks_like_text_log(SEED_SUMMARY.splitlines()[3].encode())
    assert not looks_like_text_log(b"epoch 3, total loss: 0.1, 12 ms\n")
