import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.rules.learning_rate import (
    blows_up_at_peak,
    loss_spikes,
    rate_at_zero,
    rate_jumps_at_resume,
)
from deblurkit.analysis.tables import Event

AT = np.arange(1, 1_001) * 10.0
WARMUP = 2e-4 * np.minimum(1, AT / 2_000)


def noise(seed, deviation=0.2):
    return np.exp(np.random.default_rng(seed).normal(0, deviation, 1_000))


def made(evidence, loss=None, rate=None, **more):
    scalars = {
        name: values for name, values in (("loss", loss), ("learning_rate", rate)) if values is not None
    }
    return evidence(steps=10_000, scalars=scalars, **more)


def test_a_rate_of_zero(evidence):
    measured = rate_at_zero(made(evidence, rate=np.where(AT > 4_000, 0.0, 1e-4)))
    assert measured.value == pytest.approx(500 / 800)  # of the reports between steps 1,000 and 9,000
    assert measured.steps == (4_010,)
    assert rate_at_zero(made(evidence, rate=WARMUP)).value == 0


def test_a_loss_that_blows_up_as_the_rate_peaks(evidence):
    loss = 0.1 * noise(0)
    loss[AT >= 2_200] *= 30
    measured = blows_up_at_peak(made(evidence, loss, WARMUP))
    assert measured.value == pytest.approx(30, rel=0.3)
    assert abs(measured.steps[0] - 2_200) <= 50


@pytest.mark.parametrize("rate", [None, np.full(1_000, 2e-4)])
def test_without_a_warmup_the_rate_is_not_blamed(evidence, rate):
    loss = 0.1 * noise(0)
    loss[AT >= 2_200] *= 30
    assert blows_up_at_peak(made(evidence, loss, rate)) is None


def test_a_loss_that_blows_up_long_after_is_not_blamed_on_the_peak(evidence):
    loss = 0.1 * noise(0)
    loss[AT >= 7_000] *= 30
    assert blows_up_at_peak(made(evidence, loss, WARMUP)) is None


def test_a_schedule_that_began_anew_at_a_resume(evidence):
    rate = 2e-4 * np.minimum(1, np.where(AT > 5_000, AT - 5_000, AT) / 1_000)
    resumed = [Event("resume", "resumed from step 5000", 5_000)]
    measured = rate_jumps_at_resume(made(evidence, rate=rate, events=resumed))
    assert measured.value == pytest.approx(100)  # 2e-4 before, 10 of 1,000 steps after
    assert rate_jumps_at_resume(made(evidence, rate=rate)) is None  # a restart may be meant
    assert rate_jumps_at_resume(made(evidence, rate=WARMUP, events=resumed)).value == pytest.approx(1)


def test_steps_that_go_back_are_a_resume(evidence):
    log = made(evidence, rate=np.r_[np.full(500, 1e-4), np.full(500, 5e-4)])
    frame = log.log.scalars["learning_rate"]
    frame.loc[500:, "step"] -= 2_000.0
    assert isinstance(frame, pd.DataFrame)
    assert rate_jumps_at_resume(log).value == pytest.approx(5)


def test_spikes_that_come_back_are_counted(evidence):
    loss = 0.1 * noise(0)
    for start in (300, 500, 700, 850):
        loss[start : start + 60] *= 6
    measured = loss_spikes(made(evidence, loss))
    assert measured.value == 4
    assert [
        abs(step - AT[start]) <= 300 for step, start in zip(measured.steps, (300, 500, 700, 850), strict=True)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_noise_and_falling_losses_have_no_spikes(evidence, seed):
    for loss in (noise(seed, 0.5), (0.02 + (AT / 100) ** -0.7) * noise(seed, 0.3)):
        measured = loss_spikes(made(evidence, loss))
        assert measured is None or measured.value <= 2
