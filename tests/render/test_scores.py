import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deblurkit.render.scores import (
    evaluation_as_dict,
    evaluation_as_text,
    held_out_as_text,
    scores_as_dict,
    scores_as_text,
    spike_effect_as_text,
)
from deblurkit.training.evaluate import Evaluation
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


def test_shuffled_spikes_have_a_line_of_their_own():
    first, second = spike_effect_as_text(scored(28.0), scored(23.5), scored(27.0)).splitlines()
    assert first == "Spikes: without them (all zero) the same network falls 4.50 dB behind"
    assert second == (
        "Spikes: with those of another moment of the clip (shuffled) the same network falls 1.00 dB behind"
    )
    same = spike_effect_as_text(scored(28.0), scored(23.5), scored(28.0)).splitlines()[1]
    assert same == "Spikes: shuffling them in time makes no difference to this network"


def test_three_ways_of_restoring_fit_a_terminal_and_lpips_has_a_line():
    measured = replace(REAL, score=replace(REAL.score, lpips=0.1, lpips_blurry=0.25), lpips_net="alex")
    text = scores_as_text({"restored": measured, "spikes zeroed": measured, "spikes shuffled": measured})
    assert max(len(line) for line in text.splitlines()) <= 105
    assert (
        "LPIPS alex (less is better): blurry 0.2500, restored 0.1000, spikes zeroed 0.1000,"
        " spikes shuffled 0.1000\n"
    ) in text
    assert scores_as_dict({"restored": measured})["restored"]["lpips_net"] == "alex"
    assert "LPIPS" not in scores_as_text({"restored": REAL})


def test_the_stamp_says_the_protocol_and_whether_it_was_a_quick_look():
    quick = scores_as_text({"restored": replace(REAL, protocol="pooled", split_sequences=11)})
    assert "A quick look: 1 of 11 sequences\n" in quick
    assert "Protocol pooled: RGB" in quick and "mean of all frames" in quick
    assert "quick" not in scores_as_text({"restored": REAL})
    plain = scores_as_dict({"restored": replace(REAL, split_sequences=11)})["restored"]
    assert (plain["split_sequences"], len(plain["sequences"])) == (11, 1)


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


def evaluated(**results):
    named = {name.replace("_", " "): result for name, result in results.items()}
    return Evaluation(Path("outputs/run"), 120, Path("data/gopro"), "test", named)


def test_an_evaluation_says_what_was_scored():
    tiled = replace(REAL, tile=(18, 192, 192), tile_overlap=(2, 20, 20))
    text = evaluation_as_text(evaluated(restored=tiled))
    assert text.startswith("Step 120 on split test of data/gopro\n")
    assert "Tiles of 18 x 192 x 192, overlapping by 2 x 20 x 20;" in text and "Spikes" not in text
    plain = evaluation_as_dict(evaluated(restored=tiled))["restored"]
    assert (plain["checkpoint"], plain["step"]) == ("outputs/run", 120)
    assert (plain["data"], plain["split"]) == ("data/gopro", "test")
    assert json.loads(json.dumps(plain))["tile"] == [18, 192, 192]
    assert "tile" not in evaluation_as_dict(evaluated(restored=REAL))["restored"]


def test_an_ablation_has_a_line_for_each_way_that_was_scored():
    both = evaluation_as_text(evaluated(restored=REAL, spikes_zeroed=ZEROED, spikes_shuffled=REAL))
    assert both.count("\nSpikes: ") == 2 and "shuffling them in time makes no difference" in both
    one = evaluation_as_text(evaluated(restored=REAL, spikes_zeroed=ZEROED))
    assert one.count("\nSpikes: ") == 1 and "shuffl" not in one


def test_scores_that_are_no_numbers_are_explained():
    nan = float("nan")
    broken = replace(REAL, score=Score(nan, nan, 24.0, 0.7), frames_not_finite=3)
    text = scores_as_text({"restored": broken})
    assert "\nrestored: 3 frames came out NaN or infinite" in text
    assert "zeroed: 3 frames came out" in scores_as_text({"restored": REAL, "spikes zeroed": broken})
    assert "cannot be told" in spike_effect_as_text(broken, ZEROED)
    plain = scores_as_dict({"restored": broken})["restored"]
    assert (plain["psnr_db"], plain["frames_not_finite"]) == (None, 3)


def test_the_last_line_of_a_training_has_the_protocol_and_tells_nan_from_infinity():
    assert held_out_as_text(REAL.as_dict()) == (
        "held-out PSNR 28.00 dB, +4.00 dB against the blurry input (protocol vrt)"
    )
    tiled = replace(REAL, protocol="y", tile=(64, 64), tile_overlap=(0, 8, 8))
    assert held_out_as_text(tiled.as_dict()).endswith("(protocol y, tiles of 64 x 64)")
    perfect = replace(REAL, score=Score(float("inf"), 1.0, 24.0, 0.7))
    assert "equal to their sharp ones" in held_out_as_text(perfect.as_dict())
    broken = replace(REAL, score=Score(float("nan"), float("nan"), 24.0, 0.7), frames_not_finite=1)
    assert held_out_as_text(broken.as_dict()) == (
        "held-out PSNR: 1 frame came out NaN or infinite, so it is no number"
    )
