"""What a log reader returns: one row per step, one column per name, and how far the log can be trusted."""

from __future__ import annotations

import math
import mmap
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
import pandas as pd

from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import Beside

Floats: TypeAlias = npt.NDArray[np.float64]

MOST_NAMES = 5_000
_RESERVED = 1 << 20
_MANY_VALUES = 1 << 20
_MOST_VALUES = 1 << 28
LONGEST_MS = 1e12
LARGEST_STEP = 10**15


@dataclass(frozen=True)
class Event:
    """Something that a log tells besides steps and numbers.

    Attributes:
        kind: ``oom`` (CUDA out of memory), ``killed`` (a process ended by a signal, or by the kernel for
            memory), ``watchdog`` (a collective that timed out), ``nonfinite`` (a loss or gradient that is
            NaN or infinite), ``error`` (a traceback), ``memory-warning``, ``leak`` (memory that
            grows with the steps, as the run itself has found), ``validation``, ``checkpoint``, ``epoch``,
            ``resume`` or ``start``.
        text: the line that says it, at most 300 characters.
        step: the last step before it; None unknown.
        unix_s: when; None unknown.
        seconds: how long it took; None unknown.
    """

    kind: str
    text: str
    step: int | None = None
    unix_s: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class TraceFigures:
    """Where the device and the host were in the steps of a profiler's trace; microseconds a step, means.

    A moment counts once, for the first of these that covers it: kernels, copies, collectives called on the
    host, calls of the runtime, the data loader's call, operators.

    Attributes:
        steps: steps that the figures are means of.
        step_us: length of a step.
        kernel_us: covered by kernels of the device, of communication too (union of intervals).
        communication_us: covered by communication kernels.
        exposed_communication_us: of these, what no other work of the device covers.
        copy_us: covered by copies and fills on the device and by nothing above.
        data_us: in the data loader's call, and in nothing above.
        runtime_us: in calls of the device's runtime, and in nothing above.
        operator_us: in operators and annotations on the host, and in nothing above.
        busy_share: share of the step in which any kernel runs; None without a device.
        launch_gap_us: idle time of the device before work whose launch began after the work before had
            ended, without the host having waited for data or for the device: the host was late.
        sync_us: in runtime calls that wait for the device (synchronise, blocking copies), on the host.
        overlap_share: share of communication that other work of the device covers; None without any.
        has_device: whether the trace holds kernels at all.
        kernels: time by kernel name, (name, microseconds a step, launches a step), longest first, at most 20.
        waits: the calls that wait, (name, microseconds a step, calls a step), longest first, at most 10.
        collective_us: in collectives called on the host (broadcast, all-reduce …), and in nothing above them.
        idle_us: in which nothing runs on the device, no kernel and no copy.
        data_gap_us: of these, because the host is, or had been, in the data loader's call.
        sync_gap_us: of these, because the host waits, or had waited, for the device.
        launches_known: whether the trace tells which call launched what; else the three gaps are only data's.
        is_whole: whether nothing of the trace was cut off: else work of any step may be missing.
        each: milliseconds of each step, with the index of ``RunLog.steps``: ``step``, ``data_gap``,
            ``sync_gap``, ``launch_gap``, ``exposed_communication``.
    """

    steps: int
    step_us: float
    kernel_us: float
    communication_us: float
    exposed_communication_us: float
    copy_us: float
    data_us: float
    runtime_us: float
    operator_us: float
    busy_share: float | None
    launch_gap_us: float
    sync_us: float
    overlap_share: float | None
    has_device: bool
    kernels: tuple[tuple[str, float, float], ...] = ()
    waits: tuple[tuple[str, float, float], ...] = ()
    collective_us: float = 0.0
    idle_us: float = 0.0
    data_gap_us: float = 0.0
    sync_gap_us: float = 0.0
    launches_known: bool = False
    is_whole: bool = True
    each: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class RunLog:
    """One log as it was read, before any repair.

    Attributes:
        source: the file, as it was named.
        format: ``timing-text``, ``timing-text-seed`` (no header, no wall time), ``timing-summary`` (only
            the closing table was there), ``timing-jsonl``, ``torch-trace``, ``basicsr``, ``lightning`` …:
            the stable id of the format.
        steps: one row per step in the order of the file, or per line that stands for several; columns
            ``step`` (number), ``total_ms`` (what the log calls the total, or the wall time that its
            timestamps give; NaN where neither is there), ``wall_known`` (whether that total is the step's
            wall time, not a sum of rows), ``unix_s`` (seconds on a wall clock at its end, of local time
            where the log has no zone; NaN unknown), ``count`` (steps that the row is the mean of, 1
            for a single step) and ``epoch`` (NaN unknown). May be empty: a log of events or losses only.
        times: the same rows; one column per full name, inclusive milliseconds; NaN is "not measured in
            this step". ``parent/child`` lies inside ``parent``. Of a summary: one row, the means per step.
            float64, or float32 in a log of more than a million values.
        num_steps: steps that the rows stand for; more than the rows where a summary was read, or lines that
            are the mean of several.
        samples_per_step: samples that all ranks took in one step, if the log says.
        damaged_lines: lines that should have been understood and were not.
        notes: what the reader has to say about the file, a sentence each.
        rank: the process that wrote it, if the log says.
        beside: what was done beside the steps.
        scalars: other numbers by name, each a frame of ``step`` (NaN unknown), ``unix_s`` (NaN unknown) and
            ``value``. Names that the rules know: ``loss``, ``learning_rate``, ``psnr_db``, ``ssim``,
            ``lpips``, ``grad_norm``, ``samples_per_second``, ``printed_ms`` (a step's time as the log prints
            it), ``data_ms``, ``host_memory_share`` (of the machine, 0 to 1), ``process_memory_bytes`` (with
            ``/main`` and ``/workers`` of it), ``cuda_reserved_bytes``, ``cuda_allocated_bytes``,
            ``cache_hit_rate`` (0 to 1), ``gpu_utilisation`` (0 to 1), ``cpu_utilisation`` (0 to 1). Parts
            follow a slash: ``loss/vgg``.
        events: what happened, in the order of the file.
        trace: what a profiler's trace tells beyond times, if the log is one.
        world_size: ranks of the run, if the log says.
    """

    source: str
    format: str
    steps: pd.DataFrame
    times: pd.DataFrame
    num_steps: int
    samples_per_step: int | None = None
    damaged_lines: int = 0
    notes: tuple[str, ...] = ()
    rank: int | None = None
    beside: tuple[Beside, ...] = ()
    scalars: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    trace: TraceFigures | None = None
    world_size: int | None = None

    @property
    def is_summary(self) -> bool:
        """Whether only means are known, no single step."""
        is_one_mean = len(self.steps) == 1 and int(self.steps["count"].iloc[0]) > 1
        return self.format == "timing-summary" or is_one_mean


class StepRows:
    """Gathers steps as they are read, names in the order of their first appearance.

    A value takes 8 bytes; 4 in a log of more than a million values, which leaves 7 digits of each.
    """

    def __init__(self) -> None:
        self._numbers = _Growing(np.int64)
        self._total_ms = _Growing(np.float64)
        self._wall_known = _Growing(np.bool_)
        self._unix_s = _Columns(["unix_s"])
        self._columns_of: dict[str, _Columns] = {}
        self._is_large = False

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def last_step(self) -> int:
        """The number of the newest step; 0 before the first."""
        return int(self._numbers.values[-1]) if len(self) else 0

    def add(
        self,
        step: int,
        total_ms: float,
        values: Mapping[str, float],
        *,
        wall_known: bool,
        unix_s: float = math.nan,
    ) -> None:
        """Append one step; names it does not mention count as not measured.

        Raises:
            DeblurkitError: if the log has more names than any network has modules.
        """
        for columns in self._columns(values):
            columns.append([values.get(name, math.nan) for name in columns.names], at=len(self))
        if not math.isnan(unix_s):
            self._unix_s.append([unix_s], at=len(self))
        self._numbers.append([step])
        self._total_ms.append([total_ms])
        self._wall_known.append([wall_known])
        self._keep_small()

    def add_many(
        self,
        numbers: npt.NDArray[np.int64],
        total_ms: Floats,
        values: Mapping[str, Floats],
        *,
        wall_known: npt.NDArray[np.bool_],
        unix_s: Floats | None = None,
    ) -> None:
        """Append steps that follow each other; arrays of one value a step, NaN where it was not measured.

        Raises:
            DeblurkitError: as `add` does.
        """
        missing = np.full(len(numbers), math.nan)
        for columns in self._columns(values):
            columns.append_rows([values.get(name, missing) for name in columns.names], at=len(self))
        if unix_s is not None:
            self._unix_s.append_rows([unix_s], at=len(self))
        self._numbers.append(numbers)
        self._total_ms.append(total_ms)
        self._wall_known.append(wall_known)
        self._keep_small()

    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return ``steps`` and ``times`` as ``RunLog`` describes them.

        Those of a large log are not copied: they cannot be written to, and no step can be added any more.
        """
        done = len(self)
        unknown = np.broadcast_to(np.float64(math.nan), done)
        steps: dict[str, npt.NDArray[Any]] = {
            "step": self._numbers.values,
            "total_ms": self._total_ms.values,
            "wall_known": self._wall_known.values,
            "unix_s": self._unix_s.table(done)[:, 0] if len(self._unix_s) else unknown,
            "count": np.broadcast_to(np.int64(1), done),
            "epoch": unknown,
        }
        index, copy = pd.RangeIndex(done), not self._is_large
        times = [
            pd.DataFrame(columns.table(done), index=index, columns=columns.names, copy=copy)
            for columns in dict.fromkeys(self._columns_of.values())
        ]
        empty = pd.DataFrame(index=index, dtype="float64")
        return (
            pd.DataFrame(steps, index=index, copy=copy),
            times[0] if len(times) == 1 else pd.concat([empty, *times], axis=1),
        )

    def _columns(self, names: Collection[str]) -> Collection[_Columns]:
        """Return the columns in which some names are; those of new names are begun."""
        new = [name for name in names if name not in self._columns_of]
        if new:
            self._begin(new)
        return dict.fromkeys([self._columns_of[name] for name in names])

    def _begin(self, names: list[str]) -> None:
        count = len(self._columns_of) + len(names)
        if count > MOST_NAMES or count * len(self) > _MOST_VALUES:
            raise DeblurkitError(
                f"more than {count - 1:,} different row names, the last one {names[-1][:60]!r}; expected the"
                " same few names in every step: keep what changes, such as step numbers or paths, out of the"
                " names"
            )
        columns = _Columns(names)
        if self._is_large:
            columns.halve()
        self._columns_of |= dict.fromkeys(names, columns)

    def _keep_small(self) -> None:
        if not self._is_large and len(self) * len(self._columns_of) > _MANY_VALUES:
            self._is_large = True
            for columns in dict.fromkeys(self._columns_of.values()):
                columns.halve()


class _Growing:
    """An array that grows at its end; what is reserved and not used yet takes no memory."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype = np.dtype(dtype)
        self._reserved = self._reserve(_RESERVED)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    @property
    def values(self) -> npt.NDArray[Any]:
        """What was appended, not copied."""
        return self._reserved[: self._used]

    def append(self, values: Sequence[float] | npt.NDArray[Any]) -> None:
        """Append values."""
        end = self._used + len(values)
        if end > len(self._reserved):
            wider = self._reserve(2 * end)
            wider[: self._used] = self.values
            self._reserved = wider
        self._reserved[self._used : end] = values
        self._used = end

    def _reserve(self, count: int) -> npt.NDArray[Any]:
        """Return an array in pages of its own; those of `numpy.empty` may be of 2 MB, filled or not."""
        return np.frombuffer(mmap.mmap(-1, count * self._dtype.itemsize), dtype=self._dtype)


class _Columns:
    """The values of names that appeared together, step after step; growing does not copy what is there.

    Args:
        names: of the columns.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._cells: array[float] = array("d")

    def __len__(self) -> int:
        return len(self._cells) // len(self.names)

    def append(self, row: list[float], *, at: int) -> None:
        """Append the values of step ``at``; in those left out before it, nothing was measured."""
        self._fill_up(at)
        self._cells.extend(row)

    def append_rows(self, columns: Sequence[Floats], *, at: int) -> None:
        """Append the values of steps from ``at`` on, an array a name."""
        self._fill_up(at)
        rows = np.stack(columns, axis=1, dtype=self._cells.typecode, casting="same_kind")
        self._cells.frombytes(rows.tobytes())

    def table(self, steps: int) -> npt.NDArray[Any]:
        """Return the values (steps, names), not copied."""
        self._fill_up(steps)
        return np.asarray(self._cells).reshape(steps, len(self.names))

    def halve(self) -> None:
        """Keep single precision from now on."""
        self._cells = array("f", self._cells)

    def _fill_up(self, steps: int) -> None:
        if (missing := steps - len(self)) > 0:
            self._cells.extend(array(self._cells.typecode, [math.nan]) * (missing * len(self.names)))


def is_duration(value: object) -> TypeGuard[float]:
    """Return whether ``value`` can be a measured time: a finite number of milliseconds, not negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value < LONGEST_MS


def is_step(value: object) -> TypeGuard[int]:
    """Return whether ``value`` can be the number of a step."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_STEP
