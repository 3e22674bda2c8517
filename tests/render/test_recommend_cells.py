from dataclasses import replace

from deblurkit.render import recommend_cells as cells
from deblurkit.tuning.recommend.records import Trial


def test_what_is_known_is_shown_with_its_unit(recommendation):
    best = recommendation().best
    shown = (
        cells.size_cell(best.peak_bytes),
        cells.ms_cell(1.2),
        cells.duration_cell(240),
        cells.gain_cell(2),
    )
    assert shown == ("24.00 GiB", "1,200 ms", "4 min 00 s", "2.00 x")
    assert (cells.rate_cell(best), cells.interval_cell(best)) == ("5.00", "4.00 to 6.25")
    assert (cells.source_cell(best), cells.effect_cell(best.candidate)) == ("measured", "rounding")


def test_what_is_not_known_is_a_dash(recommendation):
    unknown = replace(recommendation().best, estimate=None)
    takers = (cells.size_cell, cells.ms_cell, cells.duration_cell, cells.gain_cell)
    assert [taker(None) for taker in takers] == ["-"] * 4
    assert (cells.rate_cell(unknown), cells.interval_cell(unknown), cells.source_cell(unknown)) == ("-",) * 3


def test_a_trial_that_failed_says_why():
    assert cells.outcome_cell(Trial("k", "killed", "SIGKILL", 1.0)) == "killed: SIGKILL"
    assert cells.outcome_cell(Trial("k", "measured", "", 1.0)) == "measured"


def test_titles_are_in_the_language_and_other_words_stay():
    assert cells.said("Single changes", "zh") == "预期性能对比"
    assert cells.said("Single changes", "en") == "Single changes"
    assert cells.said("batch 3 x 2", "zh") == "batch 3 x 2"
