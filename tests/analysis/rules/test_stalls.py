import dataclasses

import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.rules.stalls import stalled_steps
from deblurkit.analysis.tables import Event

PHASES = {"data": 2.0, "forward": 100.0, "backward": 200.0}


def stalled(evidence, every=100, events=(), steps=500):
    total = np.where(np.arange(1, steps + 1) % every == 0, 3_000.0, 310.0)
    return stalled_steps(evidence(PHASES, total=total, steps=steps, events=events))


def test_share_period_and_steps_by_hand(evidence):
    measured = stalled(evidence)
    assert measured.steps == (100, 200, 300, 400, 500)
    assert measured.value == pytest.approx(5 * 2_690 / (5 * 3_000 + 495 * 310))
    assert "They come every 100 steps." in measured.evidence
    assert "time in no phase grew most, by 2,69" in measured.evidence


@pytest.mark.parametrize(
    ("kind", "words"), [("checkpoint", "with a checkpoint"), ("epoch", "with a new epoch")]
)
def test_what_the_stalls_come_with_is_named(evidence, kind, words):
    events = [Event(kind, "so it says", step) for step in (99, 199, 299, 399, 499)]
    measured = stalled(evidence, events=events)
    assert measured.advice == kind
    assert words in measured.evidence


def test_events_elsewhere_explain_nothing(evidence):
    events = [Event("checkpoint", "saved", step) for step in (50, 150, 250)]
    assert stalled(evidence, events=events).advice == ""


def test_a_run_without_stalls_and_one_of_means(evidence):
    assert stalled_steps(evidence(PHASES, total=310.0)) is None
    assert stalled_steps(evidence(PHASES, total=310.0, steps=1)) is None


def test_a_line_that_stands_for_several_steps_is_told_as_their_mean(evidence):
    single = evidence(PHASES, total=np.where(np.arange(1, 501) % 100 == 0, 3_000.0, 310.0), steps=500)
    of_ten = dataclasses.replace(single, weights=pd.Series(10.0, index=single.step_ms.index))
    words = "each the mean of the steps of a line"
    assert words in stalled_steps(of_ten).evidence
    assert words not in stalled_steps(single).evidence
