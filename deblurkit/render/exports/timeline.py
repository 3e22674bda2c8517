"""When the steps of a log were, as far as it tells."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from deblurkit.analysis.report import Report

Floats = npt.NDArray[np.float64]


class Timeline:
    """Steps one after another: each ends at its wall time, or where it fits after the one before.

    Attributes:
        starts_s, ends_s: of every row of the log, in seconds: since 1970 where the log tells a wall time at
            all, else since its first step began. A step for which there is too little room begins where the
            one before has ended, so that none overlap.
        lengths_s: of every row, all the steps that it stands for; 0 where that is not known.
        unix_s: the log's own wall time of each row's end; NaN unknown.
    """

    def __init__(self, report: Report) -> None:
        steps = report.log.steps
        lengths_s = report.partition.step_ms.to_numpy(dtype=np.float64) * steps["count"].to_numpy() / 1e3
        self.lengths_s: Floats = np.nan_to_num(lengths_s, nan=0.0)
        self.unix_s: Floats = steps["unix_s"].to_numpy(dtype=np.float64)
        self.starts_s, self.ends_s = _placed(self.lengths_s, self.unix_s)
        self._numbers = steps["step"]

    def moment(self, step: float | None, unix_s: float | None) -> float | None:
        """Return when something with this step or time was noted; None where neither tells."""
        if unix_s is not None and not math.isnan(unix_s):
            return float(unix_s)
        return self._end_of.get(step) if step is not None else None

    @functools.cached_property
    def _end_of(self) -> dict[float, float]:
        return dict(zip(self._numbers.tolist(), self.ends_s.tolist(), strict=True))


def _placed(lengths_s: Floats, unix_s: Floats) -> tuple[Floats, Floats]:
    """Return where steps of these lengths begin and end."""
    known = np.flatnonzero(~np.isnan(unix_s))
    end = float(unix_s[known[0]] - lengths_s[: known[0] + 1].sum()) if len(known) else 0.0
    starts = np.empty_like(lengths_s)
    for at, (length, unix) in enumerate(zip(lengths_s.tolist(), unix_s.tolist(), strict=True)):
        starts[at] = end if math.isnan(unix) else max(end, unix - length)
        end = starts[at] + length
    return starts, starts + lengths_s
