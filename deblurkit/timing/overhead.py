"""What timing itself costs: counted with every step, and held against a budget."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from deblurkit.timing.clock import Clock
from deblurkit.timing.scopes import Recorder, Scope

WINDOW = 50
_FEWEST_STEPS = 10
_ROUNDS, _SCOPES_PER_ROUND = 4, 16
_ROUNDS_OF_HOOKS = 24


@dataclass(frozen=True)
class OwnCost:
    """What timing has cost a run, on the host.

    Attributes:
        us_per_step: microseconds.
        percent_of_step: of the steps' wall time.
        marks_dropped: marks whose times are lost, as the device was too far behind or a scope was left in
            another order than it was entered.
        steps_on_host_clock: steps that were reported on the host's clock, though the log's is another.
    """

    us_per_step: float
    percent_of_step: float
    marks_dropped: int
    steps_on_host_clock: int

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name, rounded for a file."""
        return {
            "us_per_step": round(self.us_per_step, 3),
            "percent_of_step": round(self.percent_of_step, 4),
            "marks_dropped": self.marks_dropped,
            "steps_on_host_clock": self.steps_on_host_clock,
        }

    def as_line(self) -> str:
        """Return the figures as a line of a summary."""
        host = f", {self.steps_on_host_clock} steps on the host clock" if self.steps_on_host_clock else ""
        return (
            f"timing itself: {self.us_per_step:.1f} us a step ({self.percent_of_step:.2f} %),"
            f" {self.marks_dropped} marks dropped{host}"
        )


class Overhead:
    """Adds up what timing costs, step by step, and says when it passes its budget.

    Args:
        budget_percent: of the wall time, over the last `WINDOW` steps (at least 10); None for no budget.
        on_over_budget: called with the percentage whenever it is passed, over at least 10 further steps.

    Attributes:
        is_over: whether the budget has been passed at some time.
        marks_dropped, steps_on_host_clock: as in `OwnCost`, counted by whoever drops and reports them.
    """

    def __init__(
        self, *, budget_percent: float | None = None, on_over_budget: Callable[[float], None] | None = None
    ) -> None:
        self.is_over = False
        self.marks_dropped = self.steps_on_host_clock = 0
        self._elsewhere = 0.0
        self._budget = budget_percent
        self._tell = on_over_budget
        self._recent: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._recent_own = self._recent_wall = 0.0
        self._own = self._wall = 0.0
        self._steps = 0

    def add(self, microseconds: float) -> None:
        """Count a cost to the current step that `add_step` is not told of."""
        self._elsewhere += microseconds

    def add_step(self, own_us: float, wall_us: float) -> None:
        """Take the cost and the wall time of one step in, on the host's clock."""
        own_us += self._elsewhere
        self._elsewhere = 0.0
        if len(self._recent) == WINDOW:
            own, wall = self._recent[0]
            self._recent_own -= own
            self._recent_wall -= wall
        self._recent.append((own_us, wall_us))
        self._recent_own += own_us
        self._recent_wall += wall_us
        self._own += own_us
        self._wall += wall_us
        self._steps += 1
        if self._budget is not None and len(self._recent) >= _FEWEST_STEPS:
            self._check(self._budget)

    def report(self) -> OwnCost:
        """Return what timing has cost so far."""
        own = self._own + self._elsewhere
        share = own / self._wall if self._wall > 0 else 0.0
        per_step = own / self._steps if self._steps else 0.0
        return OwnCost(per_step, 100 * share, self.marks_dropped, self.steps_on_host_clock)

    def _check(self, budget: float) -> None:
        percent = 100 * self._recent_own / self._recent_wall if self._recent_wall > 0 else 0.0
        if percent > budget:
            self.is_over = True
            self._recent.clear()  # what is done about it has to show before it is said again
            self._recent_own = self._recent_wall = 0.0
            if self._tell is not None:
                self._tell(percent)


def scope_cost_us(clock: Clock) -> float:
    """Return the microseconds that a scope costs on this clock, measured now: the least of a few rounds."""
    recorder = Recorder(clock.mark)
    scope = Scope(recorder, "calibration")
    least = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter_ns()
        for _ in range(_SCOPES_PER_ROUND):
            with scope:
                pass
        least = min(least, (time.perf_counter_ns() - began) / _SCOPES_PER_ROUND)
        clock.release([mark for _, noted in recorder.take() for _, *marks in noted for mark in marks])
    return least / 1000


def hook_mark_cost_us(clock: Clock) -> float:
    """Return the microseconds that each mark of `ModuleTimes` costs, hooks and tensor hooks with it.

    Measured now, in a few milliseconds, on a module of one number with a backward pass.
    """
    import torch

    from deblurkit.timing.module_times import ModuleTimes

    module = torch.nn.utils.skip_init(torch.nn.Linear, 1, 1)  # draws nothing from the run's random state

    def least_ns(times: ModuleTimes | None = None) -> int:
        taken = []
        for _ in range(_ROUNDS_OF_HOOKS):
            number = torch.zeros(1, 1, requires_grad=True)  # a fresh one: hooks stay with a tensor
            began = time.perf_counter_ns()
            if times is not None:
                times.begin()
            module(number).backward()
            spans = times.take() if times is not None else []
            taken.append(time.perf_counter_ns() - began)
            clock.release({id(mark): mark for span in spans for mark in (span.start, span.end)}.values())
        return min(taken)

    least_ns()
    without = least_ns()
    times = ModuleTimes({module: "calibration"}, clock)
    hooked = least_ns(times)
    marks_per_call = times.marks / _ROUNDS_OF_HOOKS
    times.remove()
    return max(0.0, (hooked - without) / max(marks_per_call, 1.0) / 1000)
