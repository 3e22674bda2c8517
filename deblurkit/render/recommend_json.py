"""A recommendation as one JSON document; docs/recommend-config.md names its fields."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from deblurkit.config.schema import as_values
from deblurkit.tuning.recommend.no_answer import why_no_answer
from deblurkit.tuning.recommend.promised import promised_values
from deblurkit.tuning.recommend.records import Recommendation, Row, Trial
from deblurkit.tuning.recommend.tables import Line, choices, comparison, median_step, steps_table
from deblurkit.tuning.recommend.words import name_of, recommended_settings

SCHEMA = "deblurkit-recommend-config/1"


def recommendation_as_json(found: Recommendation) -> str:
    """Return the document: sizes in bytes, times in seconds, null for what is not known."""
    return json.dumps(recommendation_as_dict(found), ensure_ascii=False, indent=2, allow_nan=False)


def recommendation_as_dict(found: Recommendation) -> dict[str, Any]:
    """Return the document's object."""
    return {
        "schema": SCHEMA,
        "hardware": found.hardware,
        "is_prediction": found.is_prediction,
        "budget": asdict(found.budget),
        "best": _best(found),
        "no_answer": why_no_answer(found) or None,
        "start": {**_row(found, found.start), "config": as_values(found.start.candidate.config)},
        "rows": [_row(found, row) for row in found.rows],
        "front": [_row(found, row) for row in found.front],
        "trials": [_trial(trial) for trial in found.trials],
        "tables": {
            "steps": [_line(line) for line in steps_table(found)],
            "comparison": [_line(line) for line in comparison(found)],
            "choices": {reason: _line(line) for reason, line in choices(found).items()},
        },
        "verification_error": found.verification_error or None,
        "verification": None if found.verification is None else asdict(found.verification),
        "samples_per_epoch": found.samples_per_epoch,
        "epochs": found.epochs,
        "learning_rate": found.learning_rate,
        "loading": {"settings": dict(found.loading_settings), "words": list(found.loading_words)},
        "stopped": found.stopped,
        "is_stopgap": found.is_stopgap,
        "notes": list(found.notes),
    }


def _best(found: Recommendation) -> dict[str, Any] | None:
    if found.best is None:
        return None
    settings = list(recommended_settings(found))
    return {**_row(found, found.best), "config": promised_values(found), "set": settings}


def _row(found: Recommendation, row: Row) -> dict[str, Any]:
    candidate, estimate = row.candidate, row.estimate
    return {
        "name": name_of(found.start.candidate, candidate),
        "key": candidate.key,
        "settings": dict(candidate.settings),
        "choices": dict(candidate.choices),
        "effect": candidate.effect,
        "devices": candidate.devices,
        "fits": row.fits,
        "peak_bytes": row.peak_bytes,
        "host_bytes": row.host_bytes,
        "samples_per_second": row.samples_per_second,
        "interval": None if row.interval is None else list(row.interval),
        "step_seconds": None if estimate is None else estimate.seconds,
        "phases": None if estimate is None else dict(estimate.phases),
        "is_measured": estimate is not None and estimate.is_measured,
        "verdict": row.verdict,
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {**asdict(trial), "median_step_seconds": median_step(trial)}


def _line(line: Line) -> dict[str, Any]:
    return {
        "name": line.name,
        "key": line.row.candidate.key,
        "gain": line.gain,
        "forward_seconds": line.forward_seconds,
        "epoch_seconds": line.epoch_seconds,
        "total_seconds": line.total_seconds,
        "arithmetic": list(line.arithmetic),
    }
