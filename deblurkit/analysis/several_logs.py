"""Reports on several logs, with what only the logs of all ranks together can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deblurkit.analysis.diagnosis import by_severity
from deblurkit.analysis.evidence import evidence_of
from deblurkit.analysis.findings import Finding, Measured
from deblurkit.analysis.ranks import Straggler, by_rank, find_straggler
from deblurkit.analysis.report import Report, analyze
from deblurkit.analysis.rule_table import RULES, STRAGGLER
from deblurkit.analysis.rules.step_time import backward_ratio
from deblurkit.analysis.tables import RunLog
from deblurkit.timing.partition import role_of

_EXPLAINED = "communication"  # what the other ranks' logs show of a slow one
_OF_ALL = "recompute"  # a matter of the network, which is the same on every rank
_RECOMPUTE = next(rule for rule in RULES if rule.id == _OF_ALL)


def analyze_all(logs: Sequence[RunLog], *, warmup_steps: int | None = None) -> list[Report]:
    """Return a report on each log, in their order; logs of one folder that name their ranks are one run.

    A rank that holds the others up is a finding of its own log. The other ranks' logs say in a note that they
    wait for it, instead of a finding about communication. A backward pass that is too long for its forward
    pass on some ranks only waits for others, and recomputes nothing.

    Raises:
        DeblurkitError: as `analyze` does.
    """
    reports = [analyze(log, warmup_steps=warmup_steps) for log in logs]
    for folder, tables in by_rank(logs).items():
        shortest = _rank_without_recompute(reports, folder)
        if shortest is not None:
            reports = [
                _waiting_inside_backward(report, shortest) if _run_of(report) == folder else report
                for report in reports
            ]
        straggler = find_straggler(tables)
        if straggler is not None:
            reports = [
                _with_straggler(report, straggler) if _run_of(report) == folder else report
                for report in reports
            ]
    return reports


def _run_of(report: Report) -> str | None:
    return None if report.log.rank is None else str(Path(report.source).parent)


def _rank_without_recompute(reports: Sequence[Report], folder: str) -> int | None:
    """Return a rank of a run whose steps show that nothing is recomputed; None where there is none."""
    for report in reports:
        evidence = evidence_of(report.log, report.partition, report.rows).steady
        measured = backward_ratio(evidence) if evidence.num_steps >= _RECOMPUTE.fewest_steps else None
        if _run_of(report) == folder and measured is not None and measured.value <= _RECOMPUTE.warning:
            return report.log.rank
    return None


def _waiting_inside_backward(report: Report, shortest: int) -> Report:
    left = tuple(finding for finding in report.findings if finding.id != _OF_ALL)
    if len(left) == len(report.findings):
        return report
    note = (
        f"The backward pass is as long as if activations were computed again, but not on rank {shortest}: it"
        " waits there for other ranks."
    )
    return replace(report, findings=left, notes=(*report.notes, note))


def _with_straggler(report: Report, straggler: Straggler) -> Report:
    others = [finding for finding in report.findings if finding.id != _EXPLAINED]
    if report.log.rank != straggler.rank:
        note = f"The ranks wait for rank {straggler.rank}: {straggler.as_line()}."
        return replace(report, findings=tuple(others), notes=(note, *report.notes))
    return replace(report, findings=tuple(by_severity([_finding(straggler, report), *others])))


def _finding(straggler: Straggler, report: Report) -> Finding:
    line = straggler.as_line()
    measured = Measured(
        straggler.share,
        f"{line[:1].upper()}{line[1:]}.",
        straggler.share,
        advice="data" if role_of(straggler.phase) == "data" else "",
        rank=straggler.rank,
    )
    return STRAGGLER.finding(measured, evidence_of(report.log, report.partition, report.rows))
