import numpy as np
import pytest

from deblurkit.render.scores import scores_as_dict, scores_as_text, spike_effect_as_text
from deblurkit.training.validate import FramePair, Score, Validation

FRAME = np.zeros((2, 2, 3), np.uint8)
PAIR = FramePair("森林", 0, FRAME, FRAME, FRAME)
REAL = Validation("vrt", Score(28.0, 0.9, 24.0, 0.7), {"森林": Score(28.0, 0.9, 24.0, 0.7)}, PAIR)
ZEROED = Validation("vrt", Score(23.5, 0.6, 24.0, 0.7), {"森林": Score(23.5, 0.6, 24.0, 0.7)}, PAIR)


def test_the_table_sets_blurry_against_restored_with_the_gain_and_the_protocol():
    text = scores_as_text({"restored": REAL, "spikes zeroed": ZEROED})
    row = next(line for line in text.splitlines() if "森林" in line)
    assert row.split() == ["森林", "24.00", "0.7000", "28.00", "0.9000", "23.50", "0.6000", "+4.00"]
    assert "Protocol vrt: RGB" in text
    assert max(len(line) for line in text.splitlines()) <= 105


def test_the_worth_of_the_spikes_is_the_difference():
    assert "4.50 dB behind" in spike_effect_as_text(REAL, ZEROED)


def scored(psnr_db):
    return Validation("vrt", Score(psnr_db, 0.9, 24.0, 0.7), {}, PAIR)


def test_spikes_that_make_no_difference_are_said_to():
    line = "Spikes: zeroing them all makes no difference to this network\n"
    assert spike_effect_as_text(scored(28.0), scored(28.004)) == line
    assert spike_effect_as_text(scored(float("inf")), scored(float("inf"))) == line
    assert "comes 0.30 dB ahead" in spike_effect_as_text(scored(28.0), scored(28.3))


def test_plain_values_hold_everything():
    plain = scores_as_dict({"restored": REAL})["restored"]
    assert plain["protocol"] == "vrt" and plain["psnr_db"] == 28.0
    assert plain["sequences"]["森林"]["ssim_blurry"] == pytest.approx(0.7)
