"""Why each row lost, in words whose figures are worked out by hand."""

import pytest

from deblurkit.tuning.recommend.records import Budget, Candidate, Estimate, Row, Trial
from deblurkit.tuning.recommend.verdict_words import best_verdict, verdict_of

GIB = 2**30


@pytest.fixture
def row(space):
    config = next(each for each in space if each.effective_batch == 8).config

    def make(name, gib=1.0, *, rate=None, interval=(), trial=None, fits=True, host=None):
        candidate = Candidate({"name": name}, config, {})
        estimate = None
        if rate:
            estimate = Estimate(8 / rate, 8 / interval[1], 8 / interval[0], trial is not None)
        peak = None if gib is None else int(gib * GIB)
        return Row(candidate, peak, None if host is None else int(host * GIB), fits, estimate, trial)

    return make


@pytest.fixture
def best(row):
    return row("best", 10, rate=2.0, interval=(1.9, 2.1), trial=Trial("", "measured", "", 1.0))


def said(row, best, *, is_bound=False, refused=None, unknown="", **budget):
    given = {"is_bound": is_bound, "refused": refused or {}, "unknown": unknown}
    return verdict_of(row, best, budget=Budget(**budget), **given)


def test_what_does_not_fit_says_by_how_much(row, best):
    large = row("large", 31.2, fits=False)
    assert said(large, best, device_bytes=24 * GIB) == "needs 31.20 GiB, 24.00 GiB are there"
    assert said(large, best, device_bytes=24 * GIB, is_bound=True).startswith("needs at least 31.20 GiB")
    hungry = row("hungry", 1, host=40, fits=False)
    expected = "needs 40.00 GiB of host memory, 32.00 GiB are there"
    assert said(hungry, best, host_bytes=32 * GIB) == expected
    assert said(row("unknown", None, fits=False), best) == "its memory is not known"


def test_one_that_needs_as_much_as_one_that_ran_out_does_not_fit(row, best):
    verdict = said(row("same", 5, fits=False), best, device_bytes=24 * GIB, refused={"device": 4 * GIB})
    assert verdict == "needs 5.00 GiB, and one that needs 4.00 GiB was out of memory when tried"
    hungry = row("hungry", 5, host=40, fits=False)
    assert said(hungry, best, refused={"host": 32 * GIB}) == (
        "needs 40.00 GiB of host memory, and one that needs 32.00 GiB was out of memory when tried"
    )


@pytest.mark.parametrize("outcome", ["out of memory", "timed out", "killed", "failed"])
def test_a_trial_that_failed_says_how(row, best, outcome):
    failed = row("failed", trial=Trial("", outcome, "by SIGKILL", 1.0))
    assert said(failed, best) == f"{outcome} when tried: by SIGKILL"


def test_what_is_slower_says_by_how_much(row, best):
    slow = row("slow", 8, rate=1.32, interval=(1.24, 1.4))
    assert said(slow, best) == (
        "1 - 1.32 / 2.00 = 34 % behind (90 % interval 30 to 38 %); needs 2.00 GiB less"
    )


def test_what_may_be_as_fast_is_not_told_apart(row, best):
    near = row("near", 12.5, rate=1.95, interval=(1.8, 2.05))
    assert said(near, best) == ("not told apart from the best: may reach 2.05 samples/s; needs 2.50 GiB more")


def test_nothing_known(row, best):
    assert said(row("unknown"), best) == "nothing is known of its step"


def test_the_best_says_of_how_many(best):
    assert best_verdict(best, 12, 48) == (
        "the fastest of 12 that fit of 48 candidates: 2.00 samples/s measured, 90 % interval 1.90 to 2.10"
    )
    assert best_verdict(best, 12, 48, within=0.02).startswith(
        "as fast as any of 12 that fit of 48 candidates, to 2.0 %, and nearest to the start: 2.00 samples/s"
    )


def test_why_nothing_was_predicted_is_said(row, best):
    why = "its process was killed by SIGKILL"
    expected = "its memory is not known: its process was killed by SIGKILL"
    assert said(row("unknown", None, fits=False), best, unknown=why) == expected
    expected = "nothing is known of its step, nor of its memory: its process was killed by SIGKILL"
    assert said(row("unknown", None), best, unknown=why) == expected


def test_what_could_run_where_no_trial_went_well_says_so(row):
    able = row("able", 1, rate=2.0, interval=(1.0, 4.0))
    assert said(able, None) == (
        "no trial gave figures, so that nothing is recommended:"
        " 2.00 samples/s predicted, 90 % interval 1.00 to 4.00"
    )
