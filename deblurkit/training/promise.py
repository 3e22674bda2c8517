"""Whether a run is what `recommend-config` has promised: its first steady steps beside PROMISE."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deblurkit.config.sections.run import PromiseSection
from deblurkit.timing.clock import Clock, Mark
from deblurkit.units import format_bytes, format_rate, plural

WARMUP_STEPS = 10
STEPS = 50  # that are timed; a shorter run is judged by what it has
FEWEST_STEPS = 8
PEAK_TOLERANCE = 0.03  # as exact as the prediction of memory is asked to be

_BLOCK = 10  # workers hand clips over in bursts: single steps are fast and slow, ten in a row are not


@dataclass(frozen=True)
class PromiseOutcome:
    """A promise, and what the run gave; None for what it does not tell.

    Attributes:
        promised: section of the configuration.
        steps: that were timed.
        samples_per_second: of all ranks: the median over blocks of steps.
        peak_bytes: most that the device has held.
        hardware: that the run is on, in words.
    """

    promised: PromiseSection
    steps: int
    samples_per_second: float | None
    peak_bytes: int | None
    hardware: str | None

    @property
    def rate_is_kept(self) -> bool | None:
        """Whether the run is at least as fast as the lower end of what was promised."""
        low = self.promised.low
        return None if low is None or self.samples_per_second is None else self.samples_per_second >= low

    @property
    def peak_is_kept(self) -> bool | None:
        """Whether the device has held no more than was promised."""
        share = self.peak_share
        return None if share is None else share <= 1 + PEAK_TOLERANCE

    @property
    def peak_share(self) -> float | None:
        """What the device has held, as a share of what was promised."""
        most = self.promised.peak_bytes
        return None if most is None or self.peak_bytes is None else self.peak_bytes / most

    @property
    def is_kept(self) -> bool | None:
        """Whether all is kept that the run tells of; None where it tells nothing."""
        known = [kept for kept in (self.rate_is_kept, self.peak_is_kept) if kept is not None]
        return all(known) if known else None

    def as_line(self) -> str:
        """Return the promise, what was measured, and whether it is kept, for a log."""
        told = [text for text in (self._rate(), self._peak()) if text]
        if not told:
            return f"recommend-config's promise: unknown, {self.why_unknown}"
        return f"recommend-config promised {'; '.join(told)}{self._other_hardware()}"

    @property
    def why_unknown(self) -> str:
        """Why there is no rate to compare, in words."""
        if self.promised.low is None:
            return "no rate was promised, and memory is not counted on a CPU"
        return f"{plural(self.steps, 'step')} timed after the warm-up, {FEWEST_STEPS} needed"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values: ``promised``, ``measured`` and whether it is ``kept``."""
        measured = {
            "steps": self.steps,
            "samples_per_second": self.samples_per_second,
            "peak_bytes": self.peak_bytes,
            "hardware": self.hardware,
        }
        return {"promised": self.promised.model_dump(), "measured": measured, "kept": self.is_kept}

    def _rate(self) -> str:
        low, high, rate = self.promised.low, self.promised.high, self.samples_per_second
        if low is None or high is None or rate is None:
            return ""
        verdict = "missed" if rate < low else "kept" if rate <= high else "kept, and faster"
        ends = f"{format_rate(low)} to {format_rate(high)} samples/s"
        return f"{ends}, measured {format_rate(rate)}: {verdict}"

    def _peak(self) -> str:
        most, peak = self.promised.peak_bytes, self.peak_bytes
        if most is None or peak is None:
            return ""
        verdict = "kept" if self.peak_is_kept else "missed"
        return f"{format_bytes(most)} of GPU memory, measured {format_bytes(peak)}: {verdict}"

    def _other_hardware(self) -> str:
        before, now = self.promised.hardware, self.hardware
        if self.is_kept or before is None or now is None or before == now:
            return ""
        return f"; hardware is {now} now, was {before}"


class PromiseWatch:
    """Times the first steps of a run after a warm-up, without waiting for the device.

    Args:
        promised: section of the configuration.
        clock: that steps are timed by.
        samples_per_step: of all ranks.
        peak_bytes: gives the most that the device has held so far; None where it does not count.
        hardware: that the run is on, in words.
        tell: takes the outcome, once, as soon as it is known.
    """

    def __init__(
        self,
        promised: PromiseSection,
        *,
        clock: Clock,
        samples_per_step: int,
        peak_bytes: Callable[[], int] | None,
        hardware: str | None,
        tell: Callable[[PromiseOutcome], None],
    ) -> None:
        self._promised, self._clock, self._samples = promised, clock, samples_per_step
        self._peak_bytes, self._hardware, self._tell = peak_bytes, hardware, tell
        self._last: Mark | None = None
        self._passed = 0
        self._unread: deque[tuple[Mark, Mark]] = deque()  # of steps that the device may be at work on
        self._seconds: list[float] = []
        self._peak: int | None = None
        self._outcome: PromiseOutcome | None = None

    def begin(self) -> None:
        """Begin the next step now."""
        self._last = self._clock.mark()

    def pause(self) -> None:
        """Leave out the time until the next `begin`, and what is held in it."""
        self._last = None
        if self._passed:
            self._note_peak()

    def after_step(self) -> None:
        """End a step; the next one begins."""
        if self._outcome is not None:
            return
        before, self._last = self._last, self._clock.mark()
        self._passed += 1
        is_timed = len(self._unread) + len(self._seconds) < STEPS
        if before is not None and self._passed > WARMUP_STEPS and is_timed:
            self._unread.append((before, self._last))
        self._read()
        if len(self._seconds) == STEPS:
            self._settle()

    def end(self) -> PromiseOutcome:
        """Return the outcome, of what has been timed where the run was short."""
        if self._outcome is None:
            self._clock.wait()
            self._read()
        return self._outcome or self._settle()

    def _read(self) -> None:
        while self._unread:
            seconds = self._clock.elapsed(*self._unread[0])
            if seconds is None:
                return
            self._seconds.append(seconds)
            self._unread.popleft()

    def _note_peak(self) -> None:
        if self._peak is None and self._peak_bytes is not None:
            self._peak = self._peak_bytes()

    def _settle(self) -> PromiseOutcome:
        self._note_peak()
        is_enough = len(self._seconds) >= FEWEST_STEPS
        outcome = PromiseOutcome(
            self._promised,
            steps=len(self._seconds),
            samples_per_second=median_rate(self._seconds, samples_per_step=self._samples)
            if is_enough
            else None,
            peak_bytes=self._peak,
            hardware=self._hardware,
        )
        self._outcome = outcome
        self._tell(outcome)
        return outcome


def median_rate(seconds: Sequence[float], *, samples_per_step: int) -> float:
    """Return samples a second: the median of whole blocks of ten steps, or of all where there is no such one.

    Args:
        seconds: of each step.
        samples_per_step: of all ranks.
    """
    whole = [seconds[at : at + _BLOCK] for at in range(0, len(seconds) - _BLOCK + 1, _BLOCK)]
    return statistics.median(
        samples_per_step * len(block) / max(sum(block), 1e-9) for block in whole or [seconds]
    )
