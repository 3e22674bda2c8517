from datetime import datetime, timedelta

import numpy as np
import pytest

from deblurkit.analysis.formats.deepspeed import looks_like_deepspeed

START = datetime(2023, 7, 25, 23, 58)
MICRO = {"fwd": 300.0, "bwd": 700.0, "bwd_inner": 500.0, "bwd_allreduce": 200.0, "step": 50.0}
OLD = {
    "fwd": "forward",
    "bwd": "backward",
    "bwd_inner": "backward_inner",
    "bwd_allreduce": "backward_allreduce",
}


def stamp(moment):
    return f"[{moment:%Y-%m-%d %H:%M:%S},{moment.microsecond // 1000:03d}]"


def times_line(at, times, *, rank=0, micro=False):
    ending = "_microstep" if micro else ""
    parts = " | ".join(f"{name}{ending}: {value:.2f}" for name, value in times.items())
    return f"{stamp(at)} [INFO] [logging.py:96:log_dist] [Rank {rank}] time (ms) | {parts}"


def run(steps, *, wall=1.25, bars=False, accumulation=1, names=None):
    """Steps of 1250 ms of which DeepSpeed's timers see 1050; every tenth announces its number."""
    at, lines = START, []
    for step in range(1, steps + 1):
        times = {(names or {}).get(name, name): value for name, value in MICRO.items()}
        at += timedelta(seconds=wall)
        bar = f"  {step}%|##   | {step - 1}/{steps} [00:{step:02d}<16:42,  1.25s/it]" if bars else ""
        if step % 10 == 0:
            lines.append(
                f"{stamp(at)} [INFO] [logging.py:96:log_dist] [Rank 0] step={step}, skipped=2,"
                " lr=[2.1e-06, 2.1e-06], mom=[[0.9, 0.95], [0.9, 0.95]]"
            )
            lines.append(
                f"{stamp(at)} [INFO] [timer.py:215:stop] epoch=0/micro_step={step}/global_step={step},"
                " RunningAvgSamplesPerSec=7.8, CurrSamplesPerSec=8.0, MemAllocated=59.65GB,"
                " MaxMemAllocated=63.31GB"
            )
        lines += [bar + times_line(at, times, micro=True) for _ in range(accumulation)]
        lines.append(times_line(at, times))
    return lines


@pytest.mark.parametrize("bars", [False, True])
@pytest.mark.parametrize("names", [None, OLD])
def test_phases_of_whole_steps_and_the_wall_time_around_them(read, bars, names):
    log = read("\n".join(run(60, bars=bars, names=names, accumulation=2)))
    assert (log.format, log.num_steps, log.damaged_lines, log.rank) == ("deepspeed", 60, 0, 0)
    assert log.steps["step"].tolist() == list(range(1, 61))
    assert log.steps["total_ms"].iloc[1:].to_numpy() == pytest.approx(1250)
    assert log.times.iloc[1].to_dict() == {
        "forward": 300.0,
        "backward": 700.0,
        "backward/backward_inner": 500.0,
        "backward/all_reduce": 200.0,
        "optimizer": 50.0,
    }
    assert log.scalars["printed_ms"]["value"].unique().tolist() == [1050]


def test_numbers_beside_the_times(read):
    log = read("\n".join(run(40)))
    steps = [10, 20, 30, 40]
    assert log.scalars["learning_rate"][["step", "value"]].to_numpy().tolist() == [[s, 2.1e-6] for s in steps]
    assert log.scalars["skipped_steps"]["value"].tolist() == [2] * 4
    assert log.scalars["samples_per_second"][["step", "value"]].to_numpy().tolist() == [[s, 8] for s in steps]
    assert log.scalars["cuda_allocated_bytes"]["value"].iloc[0] == pytest.approx(59.65 * 1024**3)


def test_without_stamps_the_length_is_what_the_phases_add_up_to(read):
    lines = [line.partition("log_dist] [Rank 0] ")[2] for line in run(5)]
    log = read("\n".join(lines))
    assert log.steps["total_ms"].tolist() == [1050] * 5
    assert not log.steps["wall_known"].any()


def test_where_only_parts_of_steps_are_told_of_these_are_the_steps(read):
    at, lines = START, []
    for _ in range(1_500):
        at += timedelta(seconds=1)
        lines.append(times_line(at, MICRO, micro=True))
    log = read("\n".join(lines))
    assert log.num_steps == 1_500
    assert log.times["forward"].iloc[1:].unique().tolist() == [300]


def test_steps_without_a_breakdown(read):
    lines = [line for line in run(50) if "time (ms)" not in line]
    log = read("\n".join(lines))
    assert log.steps["step"].tolist() == [10, 20, 30, 40, 50]
    assert log.steps["total_ms"].iloc[1:].to_numpy() == pytest.approx(1250)
    assert log.num_steps == 50


def test_the_optimiser_s_own_lines_lie_inside_it(read):
    lines = []
    for line in run(3):
        if "time (ms) | fwd:" in line:
            lines.append(
                line.partition("time (ms)")[0]
                + "time (ms) | optimizer_allgather: 8.00 | optimizer_step: 40.00"
            )
        lines.append(line)
    log = read("\n".join(lines))
    assert log.times["optimizer/optimizer_allgather"].iloc[1:].tolist() == [8.0, 8.0]


def test_one_rank_of_several(read):
    lines = []
    for line in run(10):
        lines += [line, line.replace("[Rank 0]", "[Rank 1]")]
    log = read("\n".join(lines))
    assert (log.num_steps, log.rank) == (10, 0)


def test_the_losses_that_a_trainer_prints_between(read):
    lines = run(20)
    lines.insert(20, "{'loss': 2.31, 'grad_norm': 1.2, 'learning_rate': 5e-05, 'epoch': 0.03}")
    lines.append("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
    log = read("\n".join(lines))
    assert log.scalars["loss"]["value"].tolist() == [2.31]
    assert log.scalars["grad_norm"]["value"].tolist() == [1.2]
    assert [(event.kind, event.step) for event in log.events] == [("oom", 20)]


def test_carriage_returns_and_damage(read):
    lines = run(20, bars=True)
    clean = read("\n".join(lines))
    text = "\n".join(line.replace("s/it]", "s/it]\r") for line in lines)
    assert np.array_equal(read(text).steps["step"], clean.steps["step"])
    lines[3] = lines[3][: lines[3].index("time (ms)") + 14]
    assert read("\n".join(lines)).damaged_lines == 1


def test_only_its_own_lines_are_recognised():
    assert looks_like_deepspeed(b"time (ms) | fwd: 654.24 | bwd: 1650.10 | step: 230.55")
    assert looks_like_deepspeed(b"50/1000 [01:23<26:12]rank=0 time (ms) | forward_microstep: 654.24")
    assert not looks_like_deepspeed(b"time (ms) | nothing")
