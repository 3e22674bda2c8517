"""What a log gives reason to change: rules as data, two severities, and silence where evidence is lacking."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from deblurkit.analysis.partition import top_level
from deblurkit.analysis.statistics import module_table, phase_table
from deblurkit.timing.partition import role_of
from deblurkit.timing.records import UNACCOUNTED
from deblurkit.units import format_ms, format_share, plural

FEED = ("data",)
COMPUTE = ("forward", "loss", "backward")
_COMPUTE_BOUND = 0.8
_DATA_BOUND = 0.2
_BACKWARD_WITHOUT_RECOMPUTE = 2.0  # backward / forward of a network that keeps its activations
_STALL_FACTOR = 5.0
_RARE = 0.05  # stalls in more steps than this are how the run goes, and count in every figure
_MOST_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One thing to change.

    Attributes:
        id: stable name of the rule.
        severity: ``warning`` or ``critical``.
        title: a sentence.
        evidence: the figures it rests on.
        remedy: the configuration keys to turn, and what that can gain at most.
    """

    id: str
    severity: str
    title: str
    evidence: str
    remedy: str


@dataclass(frozen=True)
class Evidence:
    """What the rules look at: a log after repair and warm-up.

    Attributes:
        times: inclusive milliseconds per step and full name.
        step_ms: length of each step; same rows as ``times``.
        unaccounted_ms: time of each step that no phase covers; None where the log has no wall time.
        step_numbers: what the log calls these steps.
        num_steps: steps that the means stand for.
        is_summary: whether ``times`` holds means only, no single step.
        stalls_aside: stalled steps that were taken out.
    """

    times: pd.DataFrame
    step_ms: pd.Series[float]
    unaccounted_ms: pd.Series[float] | None
    step_numbers: pd.Series[int]
    num_steps: int
    is_summary: bool
    stalls_aside: int = 0

    @functools.cached_property
    def phases(self) -> pd.DataFrame:
        """As ``statistics.phase_table`` returns them."""
        return phase_table(self.times, self.step_ms, self.unaccounted_ms)

    @functools.cached_property
    def modules(self) -> pd.DataFrame:
        """As ``statistics.module_table`` returns them."""
        return module_table(self.times, self.step_ms)

    @property
    def wall_known(self) -> bool:
        """Whether shares are of wall time rather than of what was logged."""
        return self.unaccounted_ms is not None

    @property
    def basis(self) -> str:
        """How many steps the means stand for, in words."""
        aside = f", {plural(self.stalls_aside, 'stall')} aside" if self.stalls_aside else ""
        return f"{plural(self.num_steps, 'step')}{aside}"

    @property
    def mean_step_ms(self) -> float:
        """Mean length of a step."""
        return float(self.step_ms.mean())

    def has(self, role: str) -> bool:
        """Return whether a phase of this role was logged."""
        return any(role_of(str(name)) == role for name in self.phases.index)

    def share(self, *roles: str) -> float:
        """Return the share of the step that phases of these roles take together."""
        named = [role_of(str(name)) in roles for name in self.phases.index]
        return float(self.phases.loc[named, "share"].sum())

    def ms(self, *roles: str) -> float:
        """Return the mean milliseconds a step that phases of these roles take together."""
        return self.share(*roles) * self.mean_step_ms


@dataclass(frozen=True)
class Rule:
    """When to speak.

    Attributes:
        id: stable name.
        measure: the figure that is compared with the limits; None where it cannot be known.
        warning: above it the finding is a warning.
        critical: above it the finding is critical.
        fewest_steps: below this number of steps the rule is silent.
        title: a sentence.
        evidence: the figures in words.
        remedy: what to change, and the gain.
        stalls_aside: whether rare stalls are left out first, so that they do not speak twice.
    """

    id: str
    measure: Callable[[Evidence], float | None]
    warning: float
    critical: float
    fewest_steps: int
    title: str
    evidence: Callable[[Evidence], str]
    remedy: Callable[[Evidence], str]
    stalls_aside: bool = True

    def apply(self, evidence: Evidence) -> Finding | None:
        """Return the finding, or None where the figure is unknown, thinly founded or within its limits."""
        if evidence.num_steps < self.fewest_steps:
            return None
        value = self.measure(evidence)
        if value is None or value <= self.warning:
            return None
        severity = "critical" if value > self.critical else "warning"
        return Finding(self.id, severity, self.title, self.evidence(evidence), self.remedy(evidence))


def find(evidence: Evidence) -> list[Finding]:
    """Return what the rules find, critical ones first; a healthy log gives an empty list."""
    steady = without_rare_stalls(evidence)
    results = [rule.apply(steady if rule.stalls_aside else evidence) for rule in RULES]
    found = [finding for finding in results if finding is not None]
    return sorted(found, key=lambda finding: finding.severity != "critical")


def verdict(evidence: Evidence) -> str:
    """Return in one line what a step is spent on, rare stalls aside, or why the log cannot tell."""
    evidence = without_rare_stalls(evidence)
    aside = f" ({plural(evidence.stalls_aside, 'stall')} aside)" if evidence.stalls_aside else ""
    step, feed = format_ms(evidence.mean_step_ms), _feed_share(evidence) or 0.0
    if feed > _DATA_BOUND:
        return f"data-bound: waiting for data is {format_share(feed)} of a {step} step{aside}"
    if not (evidence.has("forward") and evidence.has("backward")):
        return _verdict_of_a_part(evidence)
    whole = f"a {step} step{aside}" if evidence.wall_known else f"the {step} a step that the log lists{aside}"
    compute = evidence.share(*COMPUTE)
    if compute >= _COMPUTE_BOUND:
        named = " + ".join(role for role in COMPUTE if evidence.has(role))
        data = f"data {format_share(feed)}" if evidence.has("data") else "data was not logged"
        return f"compute-bound: {named} are {format_share(compute)} of {whole}; {data}"
    longest = [f"{name} {format_share(share)}" for name, share in evidence.phases["share"].head(3).items()]
    return f"mixed: no phase decides {whole}; the longest are {', '.join(longest)}"


def without_rare_stalls(evidence: Evidence) -> Evidence:
    """Return the evidence of the steps that did not stall, if at most one in twenty did; else all of it."""
    stalled = _stalled(evidence)
    if evidence.is_summary or not 0 < stalled.mean() <= _RARE:
        return evidence
    keep = ~stalled
    unaccounted = evidence.unaccounted_ms[keep] if evidence.unaccounted_ms is not None else None
    return Evidence(
        times=evidence.times[keep],
        step_ms=evidence.step_ms[keep],
        unaccounted_ms=unaccounted,
        step_numbers=evidence.step_numbers[keep],
        num_steps=int(keep.sum()),
        is_summary=False,
        stalls_aside=int(stalled.sum()),
    )


def _verdict_of_a_part(evidence: Evidence) -> str:
    missing = [role for role in ("data", "forward", "backward", "optimizer") if not evidence.has(role)]
    name, share = next(iter(evidence.phases["share"].items()))
    rows = " or ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
    return (
        f"undetermined: the log has no row for {rows};"
        f" {name} is {format_share(float(share))} of the {format_ms(evidence.mean_step_ms)} a step that it"
        f" {'covers' if evidence.wall_known else 'lists'}"
    )


def _amdahl(share: float) -> str:
    """Return the most that removing ``share`` of the step can gain, with the arithmetic."""
    return f"at most {1 / max(1 - share, 1e-3):.2f} times as fast (1 / (1 - {share:.3f}))"


def _feed_share(evidence: Evidence) -> float | None:
    whole_step = evidence.wall_known or (evidence.has("forward") and evidence.has("backward"))
    return evidence.share(*FEED) if whole_step and any(map(evidence.has, FEED)) else None


def _feed_evidence(evidence: Evidence) -> str:
    share = format_share(evidence.share(*FEED))
    parts = [
        f"{name} takes {format_ms(row.mean_ms)} on average, {format_ms(row.p50_ms)} in the median and"
        f" {format_ms(row.p95_ms)} at the 95th percentile"
        if not evidence.is_summary
        else f"{name} takes {format_ms(row.mean_ms)} on average"
        for name, row in _rows_of(evidence, FEED)
    ]
    return f"{share} of a {format_ms(evidence.mean_step_ms)} step over {evidence.basis}: {'; '.join(parts)}."


def _feed_remedy(evidence: Evidence) -> str:
    return (
        "Raise DATALOADER.TOTAL_WORKERS or DATALOADER.TRAIN_PREFETCH_FACTOR, keep"
        " DATALOADER.PIN_MEMORY on, and keep the data on a"
        " fast local disk. Hiding all of it makes training"
        f" {_amdahl(evidence.share(*FEED))}."
    )


def _rows_of(evidence: Evidence, roles: Sequence[str]) -> Iterator[tuple[str, pd.Series[float]]]:
    for name, row in evidence.phases.iterrows():
        if (role_of(str(name)) or "") in roles:
            yield str(name), row


def _backward_ratio(evidence: Evidence) -> float | None:
    forward = evidence.ms("forward")
    return evidence.ms("backward") / forward if forward > 0 and evidence.has("backward") else None


def _recomputed_ms(evidence: Evidence) -> tuple[float, bool]:
    """Return the milliseconds a step spent computing activations again, and whether they were measured."""
    names = {"recompute", "重计算", "recomputation"}
    paths = [path for path in evidence.modules.index if str(path).rpartition("/")[2].casefold() in names]
    if paths:
        return float(evidence.modules.loc[paths, "inclusive_ms"].sum()), True
    return evidence.ms("backward") - _BACKWARD_WITHOUT_RECOMPUTE * evidence.ms("forward"), False


def _recompute_evidence(evidence: Evidence) -> str:
    spent, measured = _recomputed_ms(evidence)
    how = "measured" if measured else f"backward less {_BACKWARD_WITHOUT_RECOMPUTE:.0f} x forward"
    backward, forward = format_ms(evidence.ms("backward")), format_ms(evidence.ms("forward"))
    return (
        f"backward takes {backward} and forward {forward}, a ratio of {_backward_ratio(evidence) or 0:.2f}"
        f" over {evidence.basis}; without recomputation it is near 2. About {format_ms(spent)} a step ({how})"
        " goes into computing activations again, less what waits for other ranks inside backward."
    )


def _recompute_remedy(evidence: Evidence) -> str:
    spent, _ = _recomputed_ms(evidence)
    return (
        "Set MODEL.VRT.USE_CHECKPOINT_FFN to false, then MODEL.VRT.USE_CHECKPOINT_ATTN, as far as memory"
        " allows; TRAIN.OPTIM.TYPE adamw8bit or a smaller TRAIN.BATCH_SIZE makes room. Without recomputation"
        f" training is {_amdahl(spent / evidence.mean_step_ms)}."
    )


def _unaccounted_share(evidence: Evidence) -> float | None:
    share = evidence.phases["share"].get(UNACCOUNTED)
    return float(share) if evidence.wall_known and share is not None else None


def _unaccounted_evidence(evidence: Evidence) -> str:
    share = _unaccounted_share(evidence) or 0.0
    return (
        f"{format_ms(share * evidence.mean_step_ms)} of a {format_ms(evidence.mean_step_ms)} step"
        f" ({format_share(share)}) lie in no phase, over {evidence.basis}."
    )


def _unaccounted_remedy(evidence: Evidence) -> str:
    return (
        "Time what is missing: put `timing.scope(...)` around validation, saving and logging; if a gap"
        " remains after each epoch, set DATALOADER.PERSISTENT_WORKERS to true. Were all of it avoidable,"
        f" training would be {_amdahl(_unaccounted_share(evidence) or 0.0)}."
    )


def _stalled(evidence: Evidence) -> pd.Series[bool]:
    return evidence.step_ms > _STALL_FACTOR * evidence.step_ms.median()


def _stall_share(evidence: Evidence) -> float | None:
    """Return the share of all time that stalled steps took beyond a median step."""
    if evidence.is_summary:
        return None
    beyond = (evidence.step_ms - evidence.step_ms.median())[_stalled(evidence)]
    return float(beyond.sum() / evidence.step_ms.sum())


def _stall_cause(evidence: Evidence) -> tuple[str, float]:
    """Return the phase that grew most in the stalled steps, and by how many milliseconds on average."""
    phases = top_level(evidence.times).fillna(0.0)
    phases = phases.assign(**{UNACCOUNTED: (evidence.step_ms - phases.sum(axis=1)).clip(lower=0.0)})
    grown = (phases[_stalled(evidence)] - phases.median()).mean()
    return str(grown.idxmax()), float(grown.max())


def _stall_evidence(evidence: Evidence) -> str:
    stalled = _stalled(evidence)
    numbers, lengths = evidence.step_numbers[stalled], evidence.step_ms[stalled]
    named = ", ".join(
        f"{number} ({format_ms(ms)})"
        for number, ms in zip(numbers.iloc[:_MOST_NAMED], lengths.iloc[:_MOST_NAMED], strict=True)
    )
    more = f" and {len(numbers) - _MOST_NAMED:,} more" if len(numbers) > _MOST_NAMED else ""
    cause, grown = _stall_cause(evidence)
    usual = format_ms(float(evidence.step_ms.median()))
    return (
        f"{'Step' if len(numbers) == 1 else 'Steps'} {named}{more}, against a median of {usual} over"
        f" {plural(evidence.num_steps, 'step')}; {cause} grew most, by {format_ms(grown)} on average."
    )


_STALL_REMEDIES = {
    "data": "The loader ran dry: raise DATALOADER.TRAIN_PREFETCH_FACTOR and DATALOADER.TOTAL_WORKERS, and"
    " see that an epoch does not begin with new workers (DATALOADER.PERSISTENT_WORKERS in older trainers).",
    "all_reduce": "One rank waited for another: compare the .jsonl files of the ranks at these steps.",
    None: "Look at what happened at these steps: a checkpoint, a validation, another program on the server"
    " (`ps aux --sort=-%cpu`), memory that ran short (`free -h`).",
}


def _stall_remedy(evidence: Evidence) -> str:
    role = role_of(_stall_cause(evidence)[0])
    advice = _STALL_REMEDIES.get(role, _STALL_REMEDIES[None])
    return f"{advice} Without the stalls training is {_amdahl(_stall_share(evidence) or 0.0)}."


RULES = (
    Rule(  # the limits of TraceML: warn at 10 %, critical at 20 %, after 20 steps
        id="data-bound",
        measure=_feed_share,
        warning=0.10,
        critical=0.20,
        fewest_steps=20,
        title="Training waits for data.",
        evidence=_feed_evidence,
        remedy=_feed_remedy,
    ),
    Rule(
        id="recompute",
        measure=_backward_ratio,
        warning=2.7,
        critical=float("inf"),
        fewest_steps=10,
        title="The backward pass computes activations a second time.",
        evidence=_recompute_evidence,
        remedy=_recompute_remedy,
    ),
    Rule(
        id="unaccounted-time",
        measure=_unaccounted_share,
        warning=0.10,
        critical=0.30,
        fewest_steps=10,
        title="A good part of the step is not timed.",
        evidence=_unaccounted_evidence,
        remedy=_unaccounted_remedy,
    ),
    Rule(
        id="stall",
        measure=_stall_share,
        warning=0.0,
        critical=0.20,
        fewest_steps=20,
        title="Some steps took more than five times as long as the median.",
        evidence=_stall_evidence,
        remedy=_stall_remedy,
        stalls_aside=False,
    ),
)
