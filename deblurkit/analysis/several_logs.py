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
from deblurkit.analysis.rule_table import STRAGGLER
from deblurkit.analysis.tables import RunLog
from deblurkit.timing.partition import role_of

_EXPLAINED = "communication"  # what the other ranks' logs show of a slow one


def analyze_all(logs: Sequence[RunLog], *, warmup_steps: int | None = None) -> list[Report]:
    """Return a report on each log, in their order; logs of one folder that name their ranks are one run.

    A rank that holds the others up is a finding of its own log. The other ranks' logs say in a note that they
    wait for it, instead of a finding about communication.

    Raises:
        DeblurkitError: as `analyze` does.
    """
    reports = [analyze(log, warmup_steps=warmup_steps) for log in logs]
    for folder, tables in by_rank(logs).items():
        straggler = find_straggler(tables)
        if straggler is not None:
            reports = [
                _with_straggler(report, straggler) if _run_of(report) == folder else report
                for report in reports
            ]
    return reports


def _run_of(report: Report) -> str | None:
    return None if report.log.rank is None else str(Path(report.source).parent)


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
