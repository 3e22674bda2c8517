import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.findings import Avoidable, Measured, Remedy, Rule, saved_share

STEP = Avoidable(0.5, 1.0, 1.0, "all of it")
RULE = Rule(
    id="slow",
    measure=lambda evidence: Measured(0.15, "Fifteen percent.", steps=(3,)),
    warning=0.10,
    critical=0.20,
    source="a guess",
    fewest_steps=10,
    title="It is slow.",
    remedies={
        "": Remedy("It waits.", "Wait less.", ("TRAIN.BATCH_SIZE", "TRAIN.AMP_ENABLED=true"), STEP),
        "other": Remedy("It waits elsewhere.", "Go there."),
    },
)


def evidence_of(step_ms, *, weights=None, num_steps=None, is_summary=False):
    lengths = pd.Series(step_ms, dtype="float64")
    counts = None if weights is None else pd.Series(weights, dtype="float64")
    numbers = pd.Series(range(1, len(lengths) + 1))
    return Evidence(
        pd.DataFrame({"a": lengths}),
        lengths,
        None,
        numbers,
        num_steps or len(lengths),
        is_summary,
        weights=counts,
    )


def measuring(value, **more):
    return dataclasses.replace(RULE, measure=lambda evidence: Measured(value, "", **more))


def test_a_finding_says_what_the_rule_and_its_measure_know():
    finding = RULE.apply(evidence_of([100.0] * 10))
    assert (finding.id, finding.severity, finding.title) == ("slow", "warning", "It is slow.")
    assert (finding.evidence, finding.cause, finding.remedy) == (
        "Fifteen percent.",
        "It waits.",
        "Wait less.",
    )
    assert finding.keys == ("TRAIN.BATCH_SIZE", "TRAIN.AMP_ENABLED")
    assert finding.settings == ("TRAIN.AMP_ENABLED=true",)
    assert (finding.steps, finding.rank, finding.gain) == ((3,), None, None)


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        (0.10, None),
        (0.11, "warning"),
        (0.20, "warning"),
        (0.21, "critical"),
        (math.nan, None),
        (math.inf, "critical"),
    ],
)
def test_the_limits_are_exceeded_not_met(value, severity):
    finding = measuring(value).apply(evidence_of([100.0] * 10))
    assert (finding.severity if finding else None) == severity


def test_too_few_steps_and_unknown_figures_are_met_with_silence():
    assert RULE.apply(evidence_of([100.0] * 9)) is None
    assert RULE.apply(evidence_of([100.0], num_steps=10)) is not None  # one mean of ten steps
    silent = dataclasses.replace(RULE, measure=lambda evidence: None)
    assert silent.apply(evidence_of([100.0] * 10)) is None


def test_the_measure_chooses_the_remedy_and_the_usual_one_stands_in():
    assert measuring(1.0, advice="other").apply(evidence_of([1.0] * 10)).cause == "It waits elsewhere."
    assert measuring(1.0, advice="unheard of").apply(evidence_of([1.0] * 10)).cause == "It waits."


def test_the_gain_is_amdahls():
    saved = pd.Series([20.0] * 10)
    gain = measuring(1.0, saved=saved).apply(evidence_of([100.0] * 10)).gain
    # by hand: a fifth of every step saved makes 1 / 0.8, a tenth 1 / 0.9; equal steps leave no doubt
    assert (gain.low, gain.likely, gain.high) == pytest.approx((1 / 0.9, 1 / 0.8, 1 / 0.8))
    assert gain.arithmetic == "1 / (1 - 0.200): all of it"
    assert measuring(1.0, saved=saved, advice="other").apply(evidence_of([100.0] * 10)).gain is None


def test_a_known_share_of_a_summary_has_no_doubt_of_its_own():
    gain = measuring(1.0, saved=0.2).apply(evidence_of([100.0], num_steps=10, is_summary=True)).gain
    assert (gain.low, gain.likely, gain.high) == pytest.approx((1 / 0.9, 1 / 0.8, 1 / 0.8))


def test_saving_everything_is_not_infinite():
    gain = measuring(1.0, saved=pd.Series([100.0] * 10)).apply(evidence_of([100.0] * 10)).gain
    assert gain.high == pytest.approx(1_000)


def test_the_interval_of_a_share_covers_it_as_often_as_it_says():
    """Steps of 100 ms that save 20 ms on average: 95 of 100 intervals should hold 0.2, 87 must."""
    held = 0
    for seed in range(100):
        saved = pd.Series(np.random.default_rng(seed).exponential(20, 400))
        share = saved_share(saved, evidence_of(80 + np.zeros(400) + saved - saved.mean() + 20))
        held += share.low <= saved.mean() / 100 <= share.high and abs(share.value - 0.2) < 0.05
    assert held >= 87


def test_rows_of_many_steps_weigh_more():
    share = saved_share(pd.Series([50.0, 0.0]), evidence_of([100.0, 100.0], weights=[3, 1]))
    assert share.value == pytest.approx(0.375)  # (3 x 50 + 0) / 400
