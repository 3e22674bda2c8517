import numpy as np
import pytest

from deblurkit.analysis.rules.learning import diverging_loss, no_progress, nonfinite_steps
from deblurkit.analysis.tables import Event

STEPS = 30_000
AT = np.arange(1, 1_001) * 30.0


def noise(seed, deviation=0.2, size=1_000):
    return np.exp(np.random.default_rng(seed).normal(0, deviation, size))


def with_loss(evidence, loss, rate=None, **more):
    scalars = {"loss": loss} | ({} if rate is None else {"learning_rate": rate})
    return evidence(steps=STEPS, scalars=scalars, **more)


@pytest.mark.parametrize("deviation", [0.02, 0.2, 0.6])
def test_losses_that_fall_or_stay_do_not_diverge(evidence, deviation):
    for seed in range(15):
        for size in (150, 1_000):
            course = 0.02 + np.linspace(1, 10, size) ** -1.0
            for loss in (course * noise(seed, deviation, size), noise(seed, deviation, size)):
                measured = diverging_loss(with_loss(evidence, loss))
                assert measured is None or measured.value <= 2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("place", "factor"), [(600, 3.0), (300, 50.0), (850, 8.0)])
def test_a_jump_to_another_level_is_found_at_its_step(evidence, seed, place, factor):
    loss = 0.05 * noise(seed)
    loss[place:] *= factor
    measured = diverging_loss(with_loss(evidence, loss))
    assert measured.value == pytest.approx(factor, rel=0.3)
    assert abs(measured.steps[0] - AT[place]) <= 5 * 30


def test_a_loss_that_comes_back_did_not_diverge(evidence):
    loss = 0.05 * noise(0)
    loss[500:600] *= 20
    assert diverging_loss(with_loss(evidence, loss)) is None


def test_a_loss_below_zero_diverges_where_all_progress_is_lost(evidence):
    course = np.concatenate([np.linspace(-20, -30, 600), np.linspace(-30, -12, 400)])  # minus PSNR
    measured = diverging_loss(with_loss(evidence, course + np.random.default_rng(0).normal(0, 0.3, 1_000)))
    assert measured.value == pytest.approx(1 + 18 / 10, rel=0.15)
    assert abs(measured.steps[0] - 21_000) <= 600  # a quarter of the way from step 18,000 to 30,000
    fine = np.linspace(-20, -30, 1_000) + np.random.default_rng(0).normal(0, 0.3, 1_000)
    assert diverging_loss(with_loss(evidence, fine)) is None


def test_a_loss_that_is_lost_is_told_with_its_first_step(evidence):
    loss = 0.05 * noise(0)
    loss[400] = np.nan
    loss[900:] = [np.nan, np.inf] * 50
    measured = diverging_loss(with_loss(evidence, loss))
    assert measured.value == np.inf
    assert measured.steps == (int(AT[900]),)


def test_two_losses_at_the_end_are_no_proof(evidence):
    loss = 0.05 * noise(0)
    loss[998:] = np.nan
    assert diverging_loss(with_loss(evidence, loss)) is None


def test_steps_that_were_no_numbers_now_and_then(evidence):
    loss = 0.05 * noise(0)
    loss[100:400:10] = np.nan
    measured = nonfinite_steps(with_loss(evidence, loss, total=100.0))
    assert measured.value == pytest.approx(30 / STEPS)
    assert measured.steps[0] == AT[100]
    events = [Event("nonfinite", "gradient is NaN", 10 * n) for n in range(1, 601)]
    assert nonfinite_steps(evidence(steps=STEPS, total=100.0, events=events)).value == pytest.approx(0.02)
    assert nonfinite_steps(evidence(steps=STEPS, total=100.0, events=events[:2])) is None


FLAT = np.full(1_000, 2e-4)


def test_a_plateau(evidence):
    loss = 0.05 * (1 + np.exp(-AT / 2_000)) * noise(0, 0.05)
    measured = no_progress(with_loss(evidence, loss, FLAT))
    assert measured.value == 1
    assert abs(measured.steps[0] - 20_000) < 100


@pytest.mark.parametrize(
    ("loss", "rate"),
    [
        (0.05 * np.exp(-AT / 60_000), FLAT),  # falls on, if slowly
        (np.full(1_000, 0.05), None),  # the rate is not known
        (np.full(1_000, 0.05), 1e-4 * (1 + np.cos(np.pi * AT / 30_000))),  # it has decayed
        (
            np.full(1_000, 0.05) * np.exp(np.random.default_rng(1).normal(0, 2, 1_000)),
            FLAT,
        ),  # noise hides all
    ],
)
def test_what_is_no_plateau(evidence, loss, rate):
    assert no_progress(with_loss(evidence, loss * noise(0, 0.05), rate)) is None


def test_scores_that_still_improve_and_short_runs_are_no_plateau(evidence):
    loss = 0.05 * noise(0, 0.05)
    scores = {"loss": loss, "learning_rate": FLAT, "psnr_db": np.linspace(25, 30, 30)}
    assert no_progress(evidence(steps=STEPS, scalars=scores)) is None
    assert no_progress(evidence(steps=10_000, scalars={"loss": loss, "learning_rate": FLAT})) is None
