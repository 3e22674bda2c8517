from dataclasses import replace

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deblurkit.training.journal import Journal
from deblurkit.training.validate import FramePair, Score, Validation

FRAME = np.zeros((16, 16, 3), np.uint8)
RESULT = Validation("vrt", Score(28.0, 0.9, 24.0, 0.7), {}, FramePair("s", 0, FRAME, FRAME, FRAME))


def test_lines_carry_the_time_of_day_and_are_readable_at_once(tmp_path):
    journal = Journal(tmp_path, tensorboard=False)
    journal.line("一\ntwo")
    journal.validation(7, RESULT)
    (path,) = tmp_path.glob("train_*.log")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line[20:] for line in lines[:2]] == ["一", "two"]
    assert "validation after step 7 (vrt): PSNR 28.00 dB (blurry 24.00)" in lines[2]
    journal.close()
    journal.close()


def test_lpips_and_tiles_are_in_the_line_where_they_were(tmp_path):
    journal = Journal(tmp_path, tensorboard=False)
    score = Score(28.0, 0.9, 24.0, 0.7, 0.125, 0.25)
    journal.validation(
        7, replace(RESULT, score=score, lpips_net="alex", tile=(64, 64), tile_overlap=(0, 8, 8))
    )
    journal.close()
    (path,) = tmp_path.glob("train_*.log")
    assert path.read_text()[20:].rstrip() == (
        "validation after step 7 (vrt, tiles of 64 x 64): PSNR 28.00 dB (blurry 24.00),"
        " SSIM 0.9000 (blurry 0.7000), LPIPS alex 0.1250 (blurry 0.2500)"
    )


def test_tensorboard_gets_the_known_numbers_and_the_picture(tmp_path):
    journal = Journal(tmp_path, tensorboard=True)
    journal.scalars(3, {"train/loss": 0.5, "train/data_ms": None})
    journal.validation(3, RESULT)
    journal.picture(3, FRAME)
    journal.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(3, 0.5)]
    assert "train/data_ms" not in events.Tags()["scalars"]
    assert "validation/psnr_db" in events.Tags()["scalars"]
    assert events.Tags()["images"] == ["validation/blurry-restored-sharp"]
