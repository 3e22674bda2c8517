from datetime import datetime, timedelta

import numpy as np
import pytest

from deblurkit.analysis.formats.basicsr import looks_like_basicsr
from deblurkit.errors import DeblurkitError

START = datetime(2023, 12, 31, 23, 50)  # New Year's Eve: dates must carry


def stamp(moment):
    return f"{moment:%Y-%m-%d %H:%M:%S},{moment.microsecond // 1000:03d}"


def step_line(moment, step, *, printed="0.240", data="0.003", losses="l_pix: 1.2345e-02", rates="2.000e-04,"):
    return (
        f"{stamp(moment)} INFO: [NAFNe..][epoch:{step // 1000:3d}, iter:{step:8,d}, lr:({rates})]"
        f" [eta: 1 day, 2:03:04, time (data): {printed} ({data})] {losses} "
    )


def run(steps, *, every=100, seconds=0.731, first=0, at=START, **more):
    lines = []
    for step in range(first + every, first + steps + 1, every):
        at += timedelta(seconds=seconds * every)
        lines.append(step_line(at, step, **more))
    return lines, at


def test_a_log_that_prints_less_than_its_stamps_say_shows_both(read):
    lines, _ = run(2000)
    log = read("\n".join(lines))
    assert (log.format, log.num_steps, log.damaged_lines) == ("basicsr", 2000, 0)
    assert log.steps["step"].tolist() == list(range(100, 2001, 100))
    assert log.steps["count"].tolist() == [100] * 20
    assert log.steps["epoch"].iloc[[0, -1]].tolist() == [0, 2]
    assert np.isnan(log.steps["total_ms"].iloc[0])  # nobody knows when the first hundred began
    assert log.steps["total_ms"].iloc[1:].to_numpy() == pytest.approx(731, abs=0.1)
    assert log.steps["wall_known"].tolist() == [False] + [True] * 19
    assert log.scalars["printed_ms"]["value"].unique().tolist() == [240.0]
    assert log.scalars["data_ms"]["value"].to_numpy() == pytest.approx(3)
    times = log.times.iloc[1:]
    assert times["data"].to_numpy() == pytest.approx(3)
    assert times["compute"].to_numpy() == pytest.approx(237)
    assert log.scalars["learning_rate"]["value"].unique().tolist() == [2e-4]
    assert log.scalars["loss"]["value"].unique().tolist() == [1.2345e-2]
    first = START + timedelta(seconds=73.1)
    assert log.steps["unix_s"].iloc[0] == pytest.approx(first.timestamp(), abs=1e-3)


def test_a_validation_takes_its_interval_and_no_step(read):
    before, at = run(1000)
    at += timedelta(seconds=41 * 60)
    between = [
        f"{stamp(at - timedelta(minutes=41))} INFO: Saving models and training states.",
        f"{stamp(at)} INFO: Validation gopro,\t\t # psnr: 31.2345\t # ssim: 0.9512\tBest: 32.0 @ 900 iter",
    ]
    after, _ = run(500, first=1000, at=at)
    log = read("\n".join([*before, *between, *after]))
    assert np.isnan(log.steps["total_ms"].iloc[10])
    assert log.steps["total_ms"].iloc[11:].to_numpy() == pytest.approx(731, abs=0.1)
    kinds = [(event.kind, event.step, event.seconds) for event in log.events if event.kind != "epoch"]
    assert kinds == [("checkpoint", 1000, None), ("validation", 1000, pytest.approx(41 * 60, abs=0.2))]
    assert log.scalars["psnr_db"][["step", "value"]].to_numpy().tolist() == [[1000, 31.2345]]
    assert log.scalars["ssim"]["value"].tolist() == [0.9512]
    assert "1 interval between two lines held a validation" in " ".join(log.notes)


def test_a_resume_goes_back_and_the_time_between_is_no_step(read):
    before, at = run(1000)
    resumed = f"{stamp(at + timedelta(hours=5))} INFO: Resuming training from epoch: 0, iter: 500."
    after, _ = run(800, first=500, at=at + timedelta(hours=5))
    log = read("\n".join([*before, resumed, *after]))
    assert log.steps["step"].tolist() == [*range(100, 1001, 100), *range(600, 1301, 100)]
    assert np.isnan(log.steps["total_ms"].iloc[10])
    assert log.num_steps == 1800
    assert [event.kind for event in log.events].count("resume") == 1
    assert log.steps["total_ms"].max() == pytest.approx(731, abs=0.1)


def test_a_run_that_goes_back_without_a_word_is_a_resume_too(read):
    before, at = run(1000)
    after, _ = run(300, first=500, at=at + timedelta(hours=5))
    log = read("\n".join([*before, *after]))
    assert [(event.kind, event.step) for event in log.events if event.kind == "resume"] == [("resume", 1000)]


def test_several_losses_and_rates(read):
    lines, _ = run(300, losses="l_pix: 1.0000e-02 l_percep: 3.0000e-02", rates="2.000e-04,1.000e-05,")
    log = read("\n".join(lines))
    assert log.scalars["loss/pix"]["value"].tolist() == [0.01] * 3
    assert log.scalars["loss/percep"]["value"].tolist() == [0.03] * 3
    assert log.scalars["loss"]["value"].to_numpy() == pytest.approx(0.04)
    assert log.scalars["learning_rate"]["value"].tolist() == [2e-4] * 3
    assert "loss is the sum of loss/pix, loss/percep" in " ".join(log.notes)


def test_a_loss_that_becomes_nan_is_one_event_at_its_step(read):
    good, at = run(500)
    bad, at = run(500, first=500, at=at, losses="l_pix: nan")
    again, _ = run(200, first=1000, at=at)
    log = read("\n".join([*good, *bad, *again]))
    found = [(event.kind, event.step) for event in log.events if event.kind == "nonfinite"]
    assert found == [("nonfinite", 600)]
    assert log.scalars["loss"]["value"].isna().sum() == 5


def test_dirt_is_counted_or_does_no_harm(read):
    lines, _ = run(1000)
    clean = read("\n".join(lines))
    dirty = [f"\x1b[32m{line}\x1b[0m\r" for line in lines]
    dirty[3] = dirty[3].replace("iter", "it\0er")
    same = read("\ufeff" + "\n".join(dirty))
    assert same.steps.equals(clean.steps)
    assert same.damaged_lines == 0
    cut = list(lines)
    cut[4] = cut[4][:70]  # in the middle of the bracket
    cut[6] = cut[6][:60] + cut[7]  # half a line, another one behind it
    del cut[7]
    log = read("\n".join(cut))
    assert log.damaged_lines == 2
    assert log.steps["step"].tolist() == [100, 200, 300, 400, 600, 800, 900, 1000]
    assert log.steps["count"].tolist() == [100, 100, 100, 100, 200, 200, 100, 100]
    assert log.num_steps == 1000
    assert log.steps["total_ms"].iloc[1:].to_numpy() == pytest.approx(731, abs=0.1)


def test_a_clock_that_is_set_back_gives_no_time(read):
    before, at = run(500)
    after, _ = run(500, first=500, at=at - timedelta(hours=1))
    log = read("\n".join([*before, *after]))
    assert log.steps["total_ms"].isna().sum() == 2
    assert log.steps["total_ms"].min() == pytest.approx(731, abs=0.1)


def test_the_size_of_a_step_from_the_lines_before_it(read):
    lines, _ = run(300)
    head = ["\tBatch size per gpu: 4", "\tWorld size (gpu number): 8"]
    log = read("\n".join([*head, *lines]))
    assert (log.samples_per_step, log.world_size) == (32, 8)


def test_other_logs_are_not_taken_for_it():
    assert not looks_like_basicsr(
        b"24-01-31 10:00:01.123 : <epoch:  3, iter:   1,200, lr:4.000e-04> G_loss: 1\n"
    )
    assert not looks_like_basicsr(b"[epoch: 1] loss 3\n")


def test_nothing_but_damaged_lines_is_an_error(read):
    lines, _ = run(100)
    with pytest.raises(DeblurkitError, match="no step in it.*2 lines could not be read"):
        read(lines[0].replace("iter:     100,", "iter: ,,,,,,,") + "\n# [epoch:  0, iter: 1, lr:(")
