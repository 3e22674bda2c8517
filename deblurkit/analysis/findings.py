"""What a finding is, and a rule that finds it: limits, two severities, and silence without evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblurkit.analysis.bootstrap import Interval, interval, resample
from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.series import as_floats

_LEAST_LEFT = 1e-3  # of a step, however much of it is to be saved
_MOST_STEPS = 1_000


@dataclass(frozen=True)
class Gain:
    """How many times as fast training is to become, by Amdahl's law.

    Attributes:
        likely: the prediction.
        low, high: its interval.
        arithmetic: how it was worked out, as text.
    """

    likely: float
    low: float
    high: float
    arithmetic: str


@dataclass(frozen=True)
class Finding:
    """One thing to change.

    Attributes:
        id: stable name of the rule.
        severity: ``warning`` or ``critical``.
        title: a sentence.
        evidence: the figures it rests on.
        remedy: what to change.
        cause: why it happens, a sentence.
        keys: the configuration keys that the remedy names, the first one first.
        settings: those of them with a value to try, as ``KEY=value``.
        gain: what it is worth; None where that cannot be predicted, or is no matter of speed.
        steps: numbers of the steps that it is about; empty where it is about all.
        rank: that it is about; None for all, or unknown.
    """

    id: str
    severity: str
    title: str
    evidence: str
    remedy: str
    cause: str = ""
    keys: tuple[str, ...] = ()
    gain: Gain | None = None
    steps: tuple[int, ...] = ()
    rank: int | None = None
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What a rule has measured.

    Attributes:
        value: the figure that is compared with the limits.
        evidence: what it rests on, as text.
        saved: what there is to save, as milliseconds of each row of the evidence, or as a share of the step
            where only means are known; None where it is no matter of speed.
        advice: which of the rule's remedies applies; ``""`` is the usual one.
        steps: numbers of the steps that it is about.
        rank: that it is about.
    """

    value: float
    evidence: str
    saved: pd.Series[float] | float | None = None
    advice: str = ""
    steps: tuple[int, ...] = ()
    rank: int | None = None


@dataclass(frozen=True)
class Avoidable:
    """Which part of what a rule has found goes away when the remedy is followed.

    Attributes:
        low, likely, high: as shares of one.
        words: where these come from.
    """

    low: float
    likely: float
    high: float
    words: str


@dataclass(frozen=True)
class Remedy:
    """Why something happens and what helps.

    Attributes:
        cause: a sentence.
        advice: what to change, in sentences.
        settings: configuration keys, the first one first, as ``KEY=value`` where a value fits everybody.
        avoidable: how much of the measured time that may save; None where it saves none that is known.
    """

    cause: str
    advice: str
    settings: tuple[str, ...] = ()
    avoidable: Avoidable | None = None


@dataclass(frozen=True)
class Rule:
    """When to speak, and what to say.

    Attributes:
        id: stable name; rules that see the same fault in different logs share it.
        measure: the figure that is compared with the limits; None where it cannot be known.
        warning: above it the finding is a warning.
        critical: above it the finding is critical.
        source: where the limits come from.
        fewest_steps: below this number of steps the rule is silent.
        title: a sentence.
        remedies: by the ``advice`` that the measure asks for; the usual one under ``""``.
        stalls_aside: whether rare stalls are left out first, so that they do not speak twice.
    """

    id: str
    measure: Callable[[Evidence], Measured | None]
    warning: float
    critical: float
    source: str
    fewest_steps: int
    title: str
    remedies: Mapping[str, Remedy]
    stalls_aside: bool = True

    def apply(self, evidence: Evidence) -> Finding | None:
        """Return the finding, or None where the figure is unknown, thinly founded or within its limits."""
        if evidence.num_steps < self.fewest_steps:
            return None
        measured = self.measure(evidence)
        if measured is None or not measured.value > self.warning:
            return None
        return self.finding(measured, evidence)

    def finding(self, measured: Measured, evidence: Evidence) -> Finding:
        """Return what to say of a figure that is beyond the limits."""
        remedy = self.remedies.get(measured.advice, self.remedies[""])
        return Finding(
            id=self.id,
            severity="critical" if measured.value > self.critical else "warning",
            title=self.title,
            evidence=measured.evidence,
            remedy=remedy.advice,
            cause=remedy.cause,
            keys=tuple(setting.partition("=")[0] for setting in remedy.settings),
            gain=_gain(measured.saved, evidence, remedy.avoidable),
            steps=measured.steps[:_MOST_STEPS],
            rank=measured.rank,
            settings=tuple(setting for setting in remedy.settings if "=" in setting),
        )


def _gain(
    saved: pd.Series[float] | float | None, evidence: Evidence, avoidable: Avoidable | None
) -> Gain | None:
    if saved is None or avoidable is None:
        return None
    share = saved_share(saved, evidence)
    low = share.value if share.low is None else share.low
    high = share.value if share.high is None else share.high
    part = "" if avoidable.likely == 1 else f"{avoidable.likely:.2f} x "
    return Gain(
        likely=_speedup(avoidable.likely * share.value),
        low=_speedup(avoidable.low * low),
        high=_speedup(avoidable.high * high),
        arithmetic=f"1 / (1 - {part}{share.value:.3f}): {avoidable.words}",
    )


def saved_share(saved: pd.Series[float] | float, evidence: Evidence) -> Interval:
    """Return which share of all time the milliseconds of each step are, with its 95 % interval.

    Blocks of neighbouring steps are drawn, see `bootstrap.resample`. Without single steps there are no
    bounds.
    """
    if not isinstance(saved, pd.Series):
        return Interval(float(saved))
    columns = np.column_stack((as_floats(saved), as_floats(evidence.step_ms)))
    weights = None if evidence.weights is None else as_floats(evidence.weights)
    found = resample(columns, weights)
    value = float(found.means[0] / found.means[1])
    drawn = found.draws[found.draws[:, 1] > 0]
    if evidence.is_summary or len(columns) < 2 or not len(drawn):
        return Interval(value)
    bounds = interval(value, drawn[:, 0] / drawn[:, 1])
    return Interval(value, max(0.0, bounds.above), min(1.0, bounds.below))


def _speedup(share: float) -> float:
    """Return how many times as fast a step is without a share of it (Amdahl 1967)."""
    return 1 / max(1 - share, _LEAST_LEFT)
