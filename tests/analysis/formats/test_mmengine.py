from datetime import datetime, timedelta

import numpy as np
import pytest

from deblurkit.analysis.formats.mmengine import looks_like_mmengine

START = datetime(2023, 5, 19, 13, 42)
PER_EPOCH = 250


def line(at, epoch, done, *, seconds=0.5, data=0.1, loss=1.5):
    return (
        f"{at:%Y/%m/%d %H:%M:%S} - mmengine - INFO - Epoch(train) [{epoch}][{done:3d}/{PER_EPOCH}]"
        f"  base_lr: 2.0000e-03 lr: 5.9600e-05  eta: 1 day, 12:14:32  time: {seconds:.4f}"
        f"  data_time: {data:.4f}  memory: 7657  grad_norm: 9.2860  loss: {loss:.4f}  loss_cls: 0.5985"
    )


def run(epochs, *, seconds=0.5, every=50):
    at, lines = START, []
    for epoch in range(1, epochs + 1):
        for done in range(every, PER_EPOCH + 1, every):
            at += timedelta(seconds=seconds * every)
            lines.append(line(at, epoch, done, seconds=seconds))
        lines.append(f"{at:%Y/%m/%d %H:%M:%S} - mmengine - INFO - Saving checkpoint at {epoch} epochs")
        for done in (5, 10):
            at += timedelta(seconds=15)
            lines.append(
                f"{at:%Y/%m/%d %H:%M:%S} - mmengine - INFO - Epoch(val) [{epoch}][{done:2d}/10]  "
                "  eta: 0:00:06  time: 3.0000  data_time: 0.0006  memory: 979  "
            )
        lines.append(
            f"{at:%Y/%m/%d %H:%M:%S} - mmengine - INFO - Epoch(val) [{epoch}][10/10]    PSNR: 31.2500"
            "  SSIM: 0.9300  data_time: 0.0006  time: 3.0000"
        )
    return lines


def test_steps_go_on_over_epochs_and_validations_lie_between(read):
    log = read("\n".join(run(3)))
    assert (log.format, log.num_steps, log.damaged_lines) == ("mmengine", 750, 0)
    assert log.steps["step"].tolist() == list(range(50, 751, 50))
    assert log.steps["epoch"].tolist() == [1] * 5 + [2] * 5 + [3] * 5
    known = log.steps["wall_known"].to_numpy()
    assert np.flatnonzero(~known).tolist() == [0, 5, 10]  # the first, and those after a validation
    assert log.steps["total_ms"][known].to_numpy() == pytest.approx(500)
    assert log.times["data"][known].to_numpy() == pytest.approx(100)
    assert log.times["compute"][known].to_numpy() == pytest.approx(400)
    validations = [event for event in log.events if event.kind == "validation"]
    assert [(event.step, event.seconds) for event in validations] == [
        (250, pytest.approx(30)),
        (500, pytest.approx(30)),
        (750, None),
    ]
    assert log.scalars["psnr_db"]["value"].tolist() == [31.25] * 3
    assert log.scalars["psnr_db"]["step"].tolist() == [250, 500, 750]


def test_every_number_gets_its_name(read):
    log = read("\n".join(run(1)))
    values = {name: frame["value"].iloc[0] for name, frame in log.scalars.items()}
    assert values == pytest.approx(
        {
            "learning_rate": 5.96e-5,
            "learning_rate/base": 2e-3,
            "cuda_peak_allocated_bytes": 7657 * 1024**2,
            "grad_norm": 9.286,
            "loss": 1.5,
            "loss/cls": 0.5985,
            "printed_ms": 500,
            "data_ms": 100,
            "psnr_db": 31.25,
            "ssim": 0.93,
        }
    )


def test_iterations_without_epochs_and_the_commas_of_mmcv(read):
    at = START
    lines = []
    for step in range(50, 1001, 50):
        at += timedelta(seconds=40)
        lines.append(
            f"{at:%Y-%m-%d %H:%M:%S},000 - mmcls - INFO - Iter [{step}/80000]\tlr: 1.000e-02,"
            " eta: 1 day, 14:05:50, time: 0.828, data_time: 0.050, memory: 8342, loss_cls: 3.7, loss: 3.7"
        )
    log = read("\n".join(lines))
    assert log.steps["step"].iloc[-1] == 1000
    assert log.steps["total_ms"].iloc[1:].to_numpy() == pytest.approx(800)
    assert log.scalars["printed_ms"]["value"].unique().tolist() == [828]
    assert log.scalars["learning_rate"]["value"].unique().tolist() == [0.01]
    assert "eta" not in log.scalars


def test_a_year_that_ends_in_a_log_without_years(read):
    at = datetime(2022, 12, 31, 23, 59)
    lines = []
    for done in range(10, 101, 10):
        at += timedelta(seconds=30)
        lines.append(
            f"{at:%m/%d %H:%M:%S} - mmengine - INFO - Epoch(train) [1][{done}/900]  lr: 1.000e-02"
            "  eta: 0:00:25  time: 3.010  data_time: 0.000  memory: 0  loss: 11.4723"
        )
    log = read("\n".join(lines))
    assert log.steps["total_ms"].iloc[1:].to_numpy() == pytest.approx(3000)
    assert "Its stamps have no year" in " ".join(log.notes)


def test_damage(read):
    lines = run(2)
    lines[2] = lines[2][: lines[2].index("time:")]
    lines[4] = lines[4][:60]
    log = read("\n".join(lines))
    assert log.damaged_lines == 2
    assert len(log.steps) == 8
    assert log.num_steps == 500


def test_only_its_own_lines_are_recognised():
    assert looks_like_mmengine(run(1)[0].encode())
    assert not looks_like_mmengine(b"Epoch [3/100] time: 3 s\n")
