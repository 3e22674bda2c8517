from datetime import datetime, timedelta

import pytest

from deblurkit.analysis.formats.spkdeblurnet import looks_like_spkdeblurnet

START = datetime(2024, 2, 28, 23, 0)


def stamp(moment):
    return f"{moment:%y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"


def test_steps_losses_and_scores(read):
    at, lines = START, []
    for step in range(100, 2001, 100):
        at += timedelta(seconds=140)
        lines.append(
            f"{stamp(at)} - INFO: <epoch:  0, iter:{step:8,d}, lr:1.000e-04> l_all: {10 / step:.1e} "
        )
        if step == 1000:
            at += timedelta(seconds=600)
            lines.append(f"{stamp(at)} - INFO: # Validation # PSNR: 3.1e+01. # SSIM: 9.0e-01.")
    log = read("\n".join(lines))
    assert (log.format, log.num_steps, log.damaged_lines) == ("spkdeblurnet", 2000, 0)
    known = log.steps[log.steps["wall_known"]]
    assert len(known) == 18  # not the first, nor the one in which the validation lies
    assert known["total_ms"].to_numpy() == pytest.approx(1400)
    assert log.scalars["loss"]["value"].iloc[0] == 0.1
    assert log.scalars["psnr_db"][["step", "value"]].to_numpy().tolist() == [[1000, 31]]
    assert log.scalars["ssim"]["value"].tolist() == [0.9]
    assert [(event.kind, event.step, event.seconds) for event in log.events] == [
        ("validation", 1000, pytest.approx(600))
    ]


def test_it_is_told_from_its_ancestor():
    assert looks_like_spkdeblurnet(
        b"24-01-31 10:00:01.123 - INFO: <epoch:  0, iter:     100, lr:1.000e-04> l_all: 1"
    )
    assert not looks_like_spkdeblurnet(
        b"24-01-31 10:00:01.123 : <epoch:  0, iter:     100, lr:1.000e-04> G_loss: 1"
    )
