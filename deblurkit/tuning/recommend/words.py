"""Candidates in words: what they choose, in which keys they differ, and why each key was changed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from deblurkit.config.changed import as_assignments
from deblurkit.config.schema import Config, flat_values
from deblurkit.tuning.recommend.records import Candidate, Recommendation, Row
from deblurkit.units import format_rate

START = "start"


def name_of(start: Candidate, candidate: Candidate) -> str:
    """Return what a candidate chooses that the start does not, in words."""
    return change_words(start, candidate) or START


def choice_words(candidate: Candidate) -> str:
    """Return all that a candidate chooses, in words; for where there is no start to compare it with."""
    return "; ".join(f"{axis} {choice}" for axis, choice in candidate.choices.items()) or START


def change_words(before: Candidate, after: Candidate) -> str:
    """Return in words what changes from one candidate to another; empty where nothing does."""
    axes = changed_axes(before, after)
    if axes:
        return "; ".join(f"{axis} {after.choices[axis]}" for axis in axes)
    changed = changed_keys(before.config, after.config)
    return ", ".join(as_assignments({key: value for key, (_, value) in changed.items()}))


def changed_axes(before: Candidate, after: Candidate) -> list[str]:
    """Return the axes of the space on which two candidates choose otherwise."""
    return [axis for axis, choice in after.choices.items() if before.choices.get(axis) != choice]


def changed_keys(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """Return the keys in which two configurations differ, each with its two values."""
    old, new = flat_values(before), flat_values(after)
    return {key: (old[key], value) for key, value in new.items() if old[key] != value}


def recommended_config(found: Recommendation) -> Config | None:
    """Return the configuration to train with; None where nothing fits."""
    if found.best is None:
        return None
    return found.recommended or found.best.candidate.config


def recommended_settings(found: Recommendation) -> tuple[str, ...]:
    """Return ``KEY=VALUE`` of each key that is recommended to change, as ``--set`` takes it."""
    config = recommended_config(found)
    if config is None:
        return ()
    changed = changed_keys(found.start.candidate.config, config)
    return as_assignments(
        {key: value for key, (_, value) in changed.items() if not key.startswith("PROMISE.")}
    )


def reasons(found: Recommendation) -> dict[str, str]:
    """Return for each key that is recommended to change what it was, and what the change brings."""
    config = recommended_config(found)
    if config is None:
        return {}
    changed = changed_keys(found.start.candidate.config, config)
    brings = {key: "for loading" for key in found.loading_settings}
    for before, row in pairwise(found.path):
        words = _step_words(before, row)
        brings |= dict.fromkeys(changed_keys(before.candidate.config, row.candidate.config), words)
    return {key: f"was {_value(was)}; {brings.get(key, 'recommended')}" for key, (was, _) in changed.items()}


def gain_words(gain: float) -> str:
    """Return how many times as fast: ``1.59 x``."""
    return f"{gain:.2f} x"


def gain_arithmetic(rate: float, base: float) -> str:
    """Return how a gain comes about: ``6.50 / 4.10 = 1.59 x``."""
    return f"{format_rate(rate)} / {format_rate(base)} = {gain_words(rate / base)}"


def _step_words(before: Row, row: Row) -> str:
    words = change_words(before.candidate, row.candidate)
    base, rate = before.samples_per_second, row.samples_per_second
    return f"{words}: {gain_arithmetic(rate, base)} as fast" if base and rate else words


def _value(value: Any) -> str:
    (said,) = as_assignments({"": value})
    return said.removeprefix("=")
