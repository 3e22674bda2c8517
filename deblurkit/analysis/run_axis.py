"""Where the lines of a log stand along its run, also where its step numbers begin again."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deblurkit.analysis.series import Floats

Ints = npt.NDArray[np.int64]

_MOSTLY = 0.5  # of the lines that need a number of their own for the numbers to be an axis


@dataclass(frozen=True)
class RunAxis:
    """Places along a run.

    Attributes:
        numbers: of the steps, as the log counts them.
        positions: where they are drawn: never going back.
        by_number: whether the positions are the numbers.
    """

    numbers: Ints
    positions: Floats
    by_number: bool

    def position_of(self, step: int) -> float | None:
        """Return where a step is drawn, the last time that it was done; None where the log has no such step.

        Where the positions are the numbers, every step has one, whether it has a line of its own or not.
        """
        return float(step) if self.by_number else self._places.get(step)

    @functools.cached_property
    def _places(self) -> dict[int, float]:
        return dict(zip(self.numbers.tolist(), self.positions.tolist(), strict=True))


def run_axis(numbers: Ints, counts: Ints | None = None) -> RunAxis:
    """Return the places of the lines of a log.

    Args:
        numbers: of the steps, in the order of the log. They are the axis where they never go back and most
            lines have one of their own; else the steps are counted in the order of the log, from 1.
        counts: steps that each line stands for; 1 each if None.
    """
    gaps = np.diff(numbers)
    own = len(gaps) == 0 or (gaps > 0).mean() > _MOSTLY
    if (gaps >= 0).all() and own:
        return RunAxis(numbers, numbers.astype(np.float64), by_number=True)
    passed = np.ones(len(numbers)) if counts is None else counts.astype(np.float64)
    return RunAxis(numbers, np.cumsum(passed), by_number=False)
