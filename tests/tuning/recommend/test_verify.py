import math

import pytest

from deblurkit.config.load import load_config
from deblurkit.errors import DeblurkitError
from deblurkit.tuning.recommend.records import Candidate, Trial
from deblurkit.tuning.recommend.verify import interval_of, verify


@pytest.fixture
def pair():
    """A start of 2 clips a step, and one of 6."""
    configs = [
        load_config("quickstart", None, [f"TRAIN.BATCH_SIZE={size}"], warn=lambda text: None)
        for size in (2, 6)
    ]
    return Candidate({}, configs[0], {}), Candidate({"TRAIN.BATCH_SIZE": 6}, configs[1], {})


class Runner:
    """Trials whose steps take what is given, turn by turn; notes who was run."""

    def __init__(self, seconds):
        self._seconds = {key: iter(times) for key, times in seconds.items()}
        self.order = []

    def __call__(self, candidate):
        self.order.append(candidate.key)
        middle = next(self._seconds[candidate.key])
        return Trial(candidate.key, "measured", "", 9.0, (middle, 0.5 * middle, 3 * middle))


def test_the_gain_is_the_median_of_ratios_of_clips_a_second(pair):
    start, best = pair
    accumulation = start.accumulation
    assert best.effective_batch == 3 * start.effective_batch == 6 * accumulation
    run = Runner({start.key: [1.0, 1.2, 1.0], best.key: [1.5, 1.5, 2.0]})
    seen = []
    found = verify(start, best, promised=(2.0, 1.8, 2.2), run=run, on_progress=lambda *n: seen.append(n))
    # by hand: 3 x 1.0 / 1.5, 3 x 1.2 / 1.5 and 3 x 1.0 / 2.0 times as many clips a second
    assert found.measured == pytest.approx(2.0)
    assert found.low <= 1.5 and found.high >= 2.4
    assert (found.rounds, found.promised, found.keeps) == (3, (2.0, 1.8, 2.2), True)
    assert seen == [(number, 6) for number in range(1, 7)]


def test_they_take_the_lead_by_turns_so_that_a_machine_that_slows_down_favours_neither(pair):
    start, best = pair
    # each trial takes 10 % longer than the one before, and both are truly as fast by the step
    drift = [1.1**number for number in range(4)]
    run = Runner({start.key: [drift[0], drift[3]], best.key: [drift[1], drift[2]]})
    found = verify(start, best, promised=(3.0, 2.9, 3.1), run=run, rounds=2)
    assert run.order == [start.key, best.key, best.key, start.key]
    assert found.measured == pytest.approx(3.0, rel=0.01) and found.keeps


def test_a_promise_beyond_all_that_was_measured_is_not_kept(pair):
    start, best = pair
    run = Runner({start.key: [1.0, 1.01, 0.99], best.key: [3.0, 3.01, 3.02]})
    found = verify(start, best, promised=(7.2, 6.0, 8.0), run=run)
    assert found.measured == pytest.approx(1.0, rel=0.02) and not found.keeps


def test_a_trial_without_figures_ends_it_with_who_and_why(pair):
    start, best = pair

    def run(candidate):
        if candidate is start:
            return Trial(candidate.key, "measured", "", 9.0, (1.0,))
        return Trial(candidate.key, "killed", "by SIGKILL", 9.0)

    with pytest.raises(DeblurkitError, match=r"recommended configuration .*\(killed: by SIGKILL\)"):
        verify(start, best, promised=(1.0, 1.0, 1.0), run=run)


def test_one_round_is_refused(pair):
    with pytest.raises(ValueError, match="at least 2 rounds"):
        verify(*pair, promised=(1.0, 1.0, 1.0), run=Runner({}), rounds=1)


def test_the_interval_is_students_of_the_logarithms():
    # logarithms -0.1, 0, 0.1: deviation 0.1, error 0.1 / sqrt 3, and t of 2 degrees at 90 % is 2.920
    reach = 2.920 * 0.1 / math.sqrt(3)
    low, high = interval_of([math.exp(-0.1), 1.0, math.exp(0.1)])
    assert (math.log(low), math.log(high)) == pytest.approx((-reach, reach), abs=1e-4)


def test_the_interval_holds_every_ratio_of_many():
    ratios = [1.0] * 50 + [2.0]
    low, high = interval_of(ratios)
    assert low <= 1.0 and high == 2.0
