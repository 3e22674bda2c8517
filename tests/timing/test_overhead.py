import pytest

from deblurkit.timing import overhead
from deblurkit.timing.clock import HostClock
from deblurkit.timing.overhead import Overhead, hook_mark_cost_us, scope_cost_us


def test_the_report_is_cost_over_steps_and_over_their_time():
    own = Overhead()
    own.add_step(10.0, 1000.0)
    own.add_step(30.0, 3000.0)
    own.marks_dropped, own.steps_on_host_clock = 4, 1
    cost = own.report()
    assert (cost.us_per_step, cost.percent_of_step) == (20.0, 1.0)
    assert (
        cost.as_line() == "timing itself: 20.0 us a step (1.00 %), 4 marks dropped, 1 steps on the host clock"
    )


def test_a_cost_from_elsewhere_counts_in_its_step_alone():
    own = Overhead()
    own.add(5.0)
    own.add_step(10.0, 1000.0)
    own.add_step(10.0, 1000.0)
    assert own.report().us_per_step == 12.5


def test_the_budget_is_told_of_once_and_not_before_ten_steps():
    told = []
    own = Overhead(budget_percent=1.0, on_over_budget=told.append)
    for _ in range(9):
        own.add_step(20.0, 1000.0)
    assert not own.is_over
    for _ in range(9):
        own.add_step(20.0, 1000.0)
    assert own.is_over
    assert told == [pytest.approx(2.0)]


def test_the_budget_looks_at_the_last_fifty_steps_alone():
    own = Overhead(budget_percent=1.0)
    for _ in range(1000):
        own.add_step(1.0, 1000.0)
    for _ in range(20):  # over the window 0.46 %, over the run next to nothing
        own.add_step(10.0, 1000.0)
    assert not own.is_over
    for _ in range(10):
        own.add_step(40.0, 1000.0)
    assert own.is_over


class Stepping:
    """A clock of which each mark is an object that has to come back."""

    name = "stepping"

    def __init__(self):
        self.given, self.back = [], []

    def mark(self):
        self.given.append(object())
        return self.given[-1]

    def release(self, marks):
        self.back += marks


def test_calibration_gives_all_its_marks_back():
    clock = Stepping()
    assert scope_cost_us(clock) > 0
    assert set(map(id, clock.given)) == set(map(id, clock.back))


def test_a_scope_costs_what_a_slower_clock_says(monkeypatch):
    ticks = iter(range(0, 10**9, 32_000))  # each look at the clock 32 us later
    monkeypatch.setattr(overhead.time, "perf_counter_ns", lambda: next(ticks))
    assert scope_cost_us(Stepping()) == 2.0  # 32 us over 16 scopes


def test_hooks_of_modules_have_a_cost_and_are_gone_afterwards():
    assert 0 <= hook_mark_cost_us(HostClock()) < 10_000
