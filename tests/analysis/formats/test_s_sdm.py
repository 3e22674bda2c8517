from datetime import datetime, timedelta

import pytest

from deblurkit.analysis.formats.s_sdm import looks_like_s_sdm
from deblurkit.errors import DeblurkitError

START = datetime(2024, 6, 30, 22, 0)


def line(epoch, text, *, minutes):
    at = START + timedelta(minutes=minutes)
    return f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03d} - INFO - EPOCH {epoch}/1001: {text}"


def test_epochs_have_losses_and_lengths_and_steps_are_not_made_up(read):
    lines = [line(epoch, f"Train Loss: {0.1 / epoch:.4f}", minutes=31 * epoch) for epoch in range(1, 11)]
    lines.insert(5, line(5, "Test PSNR: 30.50, SSIM: 0.9100", minutes=31 * 5 + 1))
    log = read("\n".join(lines))
    assert log.format == "s-sdm"
    assert log.steps.empty
    assert log.num_steps == 0
    assert log.scalars["loss"]["value"].tolist() == [round(0.1 / epoch, 4) for epoch in range(1, 11)]
    assert log.scalars["loss"]["step"].tolist() == list(range(1, 11))
    assert log.scalars["psnr_db"][["step", "value"]].to_numpy().tolist() == [[5, 30.5]]
    epochs = [event.seconds for event in log.events if event.kind == "epoch"]
    assert epochs == [None, *[pytest.approx(31 * 60)] * 9]
    assert "the length of a step is not known" in " ".join(log.notes)


def test_a_broken_line_is_counted_and_the_rest_is_read(read):
    lines = [
        line(1, "Train Loss: 0.1", minutes=0),
        line(2, "Train Lo", minutes=1),
        line(3, "Train Loss: nan", minutes=2),
    ]
    log = read("\n".join([*lines, "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"]))
    assert log.damaged_lines == 1
    assert [event.kind for event in log.events] == ["epoch", "epoch", "oom"]


def test_only_its_own_lines_are_recognised(read):
    assert looks_like_s_sdm(line(1, "Train Loss: 0.1", minutes=0).encode())
    assert not looks_like_s_sdm(b"EPOCH 3 begins")
    with pytest.raises(DeblurkitError):
        read("EPOCH 3 begins")
