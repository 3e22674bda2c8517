from dataclasses import replace

from deblurkit.tuning.recommend.no_answer import why_no_answer
from deblurkit.tuning.recommend.records import INTERRUPTED, Trial


def test_an_answer_needs_no_reason(recommendation):
    assert why_no_answer(recommendation(stopped=INTERRUPTED)) == ""


def test_that_nothing_fits_is_told_by_the_tables(recommendation):
    assert why_no_answer(recommendation(best=None)) == ""


def test_what_was_interrupted_and_has_no_answer_has_the_reason_of_any_other(recommendation):
    found = recommendation(best=None, stopped=INTERRUPTED, unpredicted="its process was killed")
    assert why_no_answer(found) == (
        "of none of 6 configurations could memory be told: its process was killed"
    )


def test_predictions_that_failed_are_told_with_their_reason(recommendation):
    found = recommendation(best=None, unpredicted="its process was killed")
    assert why_no_answer(found) == (
        "of none of 6 configurations could memory be told: its process was killed"
    )


def test_trials_that_all_failed_are_told_by_what_most_of_them_have(recommendation):
    bad, worse = Trial("a", "failed", "no CUDA", 1.0), Trial("b", "timed out", "", 1.0)
    found = recommendation(best=None, trials=(bad, worse, replace(bad, key="c")))
    assert why_no_answer(found) == "none of 3 trials gave figures; 2 of them: failed: no CUDA"
    measured = Trial("d", "measured", "", 1.0, (0.1,))
    assert why_no_answer(replace(found, trials=(bad, measured))) == ""


def test_work_that_could_not_be_counted_is_told(recommendation):
    found = recommendation(best=None, trials=())
    rows = tuple(replace(row, estimate=None) for row in found.rows)
    assert why_no_answer(replace(found, rows=rows)) == (
        "5 of 6 fit, and of none could the work of a step be counted"
    )
