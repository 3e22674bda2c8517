"""Reports on logs as JSON; the schema is in docs/analyze-log.md."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from deblurkit.analysis.findings import Finding
from deblurkit.analysis.report import Report
from deblurkit.analysis.tables import TraceFigures

_SPREAD = ("p50", "p95", "p99", "min", "max")


def reports_as_json(reports: Sequence[Report]) -> str:
    """Return one JSON object for a single report, a list of them for several."""
    documents = [report_as_dict(report) for report in reports]
    return json.dumps(documents[0] if len(documents) == 1 else documents, ensure_ascii=False, indent=2)


def report_as_dict(report: Report) -> dict[str, Any]:
    """Return the report's JSON object: milliseconds to 4 decimals, shares as fractions of one."""
    return {
        "format": report.format,
        "files": [report.source],
        "rank": report.log.rank,
        "world_size": report.log.world_size,
        "steps": report.steps,
        "warmup_steps": report.warmup_steps,
        "step_ms": _step_ms(report),
        "steps_per_second": _number(report.steps_per_second),
        "samples_per_second": _number(report.samples_per_second),
        "phases": [_phase(str(name), row, report) for name, row in report.phases.iterrows()],
        "modules": [_module(str(path), row) for path, row in report.modules.iterrows()],
        "findings": [_finding(finding) for finding in report.findings],
        "verdict": report.verdict,
        "notes": list(report.notes),
        "damaged_lines": report.damaged_lines,
        "beside": [
            {"name": part.name, "seconds": part.seconds, "count": part.count} for part in report.beside
        ],
        "trend": None if report.trend is None else _numbers(asdict(report.trend)),
        "changes": [_numbers(asdict(change)) for change in report.changes],
        "outliers": [_numbers(asdict(outlier)) for outlier in report.outliers],
        "epochs": [
            {"epoch": _number(epoch), **_numbers(row.to_dict())} for epoch, row in report.epochs.iterrows()
        ],
        "scalars": {
            str(name): {key: _exact(value) for key, value in row.items()}
            for name, row in report.scalars.iterrows()
        },
        "events": dict(Counter(event.kind for event in report.log.events)),
        "trace": None if report.log.trace is None else _trace(report.log.trace),
    }


def _step_ms(report: Report) -> dict[str, float | None] | None:
    if not report.step_ms:
        return None
    known = _SPREAD if report.has_percentiles else ()
    return {
        "mean": _number(report.step_ms["mean"]),
        **{key: _number(report.step_ms[key]) if key in known else None for key in _SPREAD},
    }


def _phase(name: str, row: pd.Series[float], report: Report) -> dict[str, Any]:
    spread = {f"{key}_ms": _number(row[f"{key}_ms"]) if report.has_percentiles else None for key in _SPREAD}
    return {"name": name, "mean_ms": _number(row["mean_ms"]), **spread, "share": float(row["share"])}


def _module(path: str, row: pd.Series[float]) -> dict[str, Any]:
    return {
        "path": path,
        "inclusive_ms": _number(row["inclusive_ms"]),
        "exclusive_ms": _number(row["exclusive_ms"]),
        "share": float(row["share"]),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    gain = None if finding.gain is None else _numbers(asdict(finding.gain))
    return {**vars(finding), "gain": gain}


def _trace(trace: TraceFigures) -> dict[str, Any]:
    return {key: value for key, value in vars(trace).items() if not isinstance(value, pd.DataFrame)}


def _numbers(values: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): _number(value) if isinstance(value, float) else value for key, value in values.items()}


def _number(value: Any) -> float | None:
    """Return a number to 4 decimals; None for what is not known, which JSON has no number for."""
    return None if value is None or not math.isfinite(value) else round(float(value), 4)


def _exact(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 2**53 else float(value)
