"""Why the device idled: for data, for a host that had waited for it, or for a host that was late anyway.

A gap on the device that lies in the data loader's call is for data, and one in a call that waits for the
device is for that wait. Of other gaps only those count whose next work was launched after the gap had begun;
where it was launched before, it was queued and the gap is the device's own. Had the host not been held up
while the device worked, all that it did later would have come earlier by as much: so late launches count for
data, then for waiting, until the time that the host lost in them is used up. Only what is left over is the
host's own slowness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deblurkit.analysis.trace_intervals import (
    Floats,
    length_before,
    length_within,
    overlap,
    union,
    without,
)
from deblurkit.analysis.trace_timeline import Flags, Timeline


@dataclass(frozen=True)
class Idle:
    """Microseconds of each step in which nothing ran on the device, by their cause; (S,) each.

    Attributes:
        whole: all of them.
        data: because the host is, or had been, in the data loader's call.
        waiting: because the host waits, or had waited, for the device.
        late: because the host launched work late, without having been held up.
    """

    whole: Floats
    data: Floats
    waiting: Floats
    late: Floats


def idle_causes(line: Timeline) -> Idle:
    """Return why the device idled in each step; where launches are not known nothing counts as late."""
    busy = union(line.kernels, line.copies)
    idle = without(line.steps, busy)
    waits = without(line.waits, line.data)
    rest = without(without(idle, line.data), waits)
    late = rest[_launched_late(line, rest, busy)]
    for_data = _repaid(line, overlap(line.data, busy), late, late[:, 1] - late[:, 0])
    for_waits = _repaid(line, overlap(waits, busy), late, late[:, 1] - late[:, 0] - for_data)
    return Idle(
        whole=length_within(idle, line.steps),
        data=length_within(overlap(idle, line.data), line.steps) + _in_steps(line, late, for_data),
        waiting=length_within(overlap(idle, waits), line.steps) + _in_steps(line, late, for_waits),
        late=length_within(late, line.steps) - _in_steps(line, late, for_data + for_waits),
    )


def _launched_late(line: Timeline, parts: Floats, busy: Floats) -> Flags:
    """Return for parts of gaps whether the next work was launched after the gap had begun.

    What came before a trace that marks no steps, and what came after it, is not known.
    """
    if not line.launches_known:
        return np.zeros(len(parts), dtype=bool)
    before, after = (line.steps[0, 0], np.inf) if line.annotated else (np.inf, np.nan)
    following = np.searchsorted(busy[:, 0], parts[:, 0], side="right")
    began = np.append(before, busy[:, 1])[following]
    starts = np.append(busy[:, 0], np.inf)[following]
    launched = np.append(line.launched, after)
    return launched[np.searchsorted(line.device[:, 0], starts)] > began


def _repaid(line: Timeline, lost: Floats, gaps: Floats, lengths: Floats) -> Floats:
    """Return how much of late gaps, of which ``lengths`` are left, the host owes to time it lost before them.

    No more than the mean step is owed at a time: a host does not run ahead of the device any further.
    """
    edges = np.append(line.steps[0, 0], gaps[:, 1])
    more = np.diff(length_before(lost, edges)).tolist()
    most = float(np.diff(line.steps).mean())
    owed = 0.0
    repaid = np.zeros(len(gaps))
    for index, length in enumerate(lengths.tolist()):
        owed = min(owed + more[index], most)
        repaid[index] = min(owed, length)
        owed -= repaid[index]
    return repaid


def _in_steps(line: Timeline, parts: Floats, values: Floats) -> Floats:
    """Return the sums of ``values`` over the parts that lie in each step."""
    step = np.searchsorted(line.steps[:, 0], parts[:, 0], side="right") - 1
    sums = np.zeros(len(line.steps))
    np.add.at(sums, step, values)
    return sums
