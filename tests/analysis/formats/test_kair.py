from datetime import datetime, timedelta

import numpy as np
import pytest

from deblurkit.analysis.formats.kair import looks_like_kair

START = datetime(2024, 1, 31, 23, 59)


def stamp(moment):
    return f"{moment:%y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"


def run(numbers, *, seconds=2.5, at=START, loss="G_loss: {:.3e}"):
    lines = []
    for step in numbers:
        at += timedelta(seconds=seconds * 200)
        values = loss.format(1 / step)
        lines.append(f"{stamp(at)} : <epoch:{step // 5000:3d}, iter:{step:8,d}, lr:4.000e-04> {values} ")
    return lines, at


def test_steps_are_as_long_as_the_stamps_say(read):
    lines, _ = run(range(200, 20_001, 200))
    log = read("\n".join(lines))
    assert (log.format, log.num_steps, log.damaged_lines) == ("kair", 20_000, 0)
    assert log.steps["step"].iloc[[0, 5, -1]].tolist() == [200, 1200, 20_000]  # commas and all
    assert log.steps["total_ms"].iloc[1:].to_numpy() == pytest.approx(2500, abs=0.01)
    assert log.steps["epoch"].iloc[-1] == 4
    assert log.times.empty
    assert "printed_ms" not in log.scalars
    assert log.scalars["loss"]["value"].iloc[0] == pytest.approx(1 / 200, rel=1e-3)
    assert log.scalars["learning_rate"]["value"].unique().tolist() == [4e-4]


def test_scores_name_their_step_and_the_test_is_no_step(read):
    before, at = run(range(200, 5001, 200))
    tested = at + timedelta(seconds=300)
    between = [
        f"{stamp(at)} : Saving the model.",
        f"{stamp(tested - timedelta(seconds=9))} : ---1--> GOPR0384_11_00.png | 31.23dB; SSIM: 0.91",
        f"{stamp(tested)} : <epoch:  1, iter:   5,000, Average PSNR : 31.52dB, Average SSIM : 0.9231",
    ]
    after, _ = run(range(5200, 6001, 200), at=tested)
    log = read("\n".join([*before, *between, *after]))
    assert log.damaged_lines == 0
    assert log.scalars["psnr_db"][["step", "value"]].to_numpy().tolist() == [[5000, 31.52]]
    assert log.scalars["ssim"]["value"].tolist() == [0.91, 0.9231]
    validation = next(event for event in log.events if event.kind == "validation")
    assert validation.seconds == pytest.approx(300, abs=1e-6)
    assert np.isnan(log.steps["total_ms"].iloc[25])


def test_damage_and_a_resume(read):
    lines, at = run(range(200, 2001, 200))
    lines[3] = lines[3][:40]
    more, _ = run(range(1200, 3001, 200), at=at + timedelta(days=1))
    log = read("\n".join([*lines, *more]))
    assert log.damaged_lines == 1
    assert log.steps["step"].tolist() == [200, 400, 600, *range(1000, 2001, 200), *range(1200, 3001, 200)]
    assert [event.kind for event in log.events if event.kind == "resume"] == ["resume"]
    assert log.num_steps == 2000 + 2000
    assert log.steps["total_ms"].max() == pytest.approx(2500, abs=0.01)


def test_only_its_own_lines_are_recognised():
    assert looks_like_kair(run([1200])[0][0].encode())
    assert not looks_like_kair(b"<epoch: 3> loss 1\n")
