import itertools

import numpy as np
import pytest

from deblurkit.memory.leaks import Growth, LeakWatch, Owner, Slope, robust_slope, steady_growth

MIB = 2**20
MAIN = Owner("main", 42)
FIRST, SECOND = Owner("worker", 51, 0), Owner("worker", 52, 1)


def samples(values, *, every=5):
    return [(every * (number + 1), round(value * MIB)) for number, value in enumerate(values)]


def test_the_slope_of_a_line_with_an_outlier_is_the_lines():
    """Of the ten pairs of five points, six are of the line: the median is one of them."""
    assert robust_slope([(0, 0), (1, 2), (2, 4), (3, 6), (4, 800)]).per_step == 2
    assert robust_slope([(step, 7 * step) for step in range(20)]) == Slope(7, 7, 7)


def test_the_interval_covers_the_slope_as_often_as_it_says():
    """400 series of 16 points with a slope of 3 and noise; 95 % of 400 is 380, its standard deviation 4.4."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        slope = robust_slope([(step, 3 * step + rng.normal(0, 20)) for step in range(16)])
        covered += slope.low <= 3 <= slope.high
    assert 367 <= covered <= 400


def noise(count, size, seed=1):
    return np.random.default_rng(seed).normal(0, size, count)


STEPS = np.arange(40) * 5.0
TOOTH = 100 * ((STEPS / 100) % 1)


@pytest.mark.parametrize(
    ("values", "leaks"),
    [
        (600 + 1.0 * STEPS, True),
        (600 + 1.0 * STEPS + noise(40, 5), True),
        (600 + 0.3 * STEPS, False),  # 58 MiB, below the floor
        (600 + 0 * STEPS + noise(40, 30), False),
        (600 - 1.0 * STEPS, False),
        (600 + 300 * (1 - np.exp(-STEPS / 60)), False),  # fills, and levels off
        (np.where(STEPS < 100, 600.0, 900.0) + noise(40, 3), False),  # one jump
        (600 + 200 * (STEPS > 45) + 200 * (STEPS > 145) + noise(40, 3), False),  # two
        (600 + TOOTH, False),  # what a collector gives back
        (np.where(STEPS < 100, 600 + 2 * STEPS, 800.0), False),  # has ended
        (np.where(STEPS < 60, 600.0, 600.0 + 3 * (STEPS - 60)), False),  # may just fill, so far
    ],
)
def test_what_grows_along_a_line_leaks_and_nothing_else(values, leaks):
    assert (steady_growth(samples(values)) is not None) is leaks


def test_few_samples_are_no_evidence():
    line = samples(600 + 50.0 * np.arange(16))
    assert steady_growth(line[:15]) is None
    assert steady_growth(line).per_step == 10 * MIB


def named_at(course, *, until, first=20, owner=MAIN):
    """Return the step after which an owner's memory is said to leak; None if it never is."""
    watch = LeakWatch()
    for step in range(first, until + 1, 5):
        watch.add(step, {owner: round(course(step) * MIB)})
        if step % 20 == 0 and watch.growing():
            return step
    return None


def healthy(seed, *, until):
    """A run of a made-up network: warms up, wanders a little, spikes, and is higher after a validation."""
    rng = np.random.default_rng(seed)
    warm, time = rng.uniform(50, 400), rng.uniform(5, 25)
    wander = np.cumsum(rng.normal(0, 0.4, until + 1))
    spike = 300 * (rng.random(until + 1) < 0.05)
    validated, more = rng.integers(50, until), rng.uniform(0, 300)

    def course(step):
        level = 600 + warm * (1 - np.exp(-step / time)) + wander[step] + spike[step] + rng.normal(0, 3)
        return level + more * (step > validated)

    return course


@pytest.mark.parametrize("seed", range(40))
def test_a_healthy_run_is_not_warned_of(seed):
    assert named_at(healthy(seed, until=300), until=300) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_mebibyte_a_step_is_named_within_100_steps(seed):
    rng = np.random.default_rng(seed)
    watch = LeakWatch()
    for step in range(20, 101, 5):
        watch.add(step, {MAIN: round((700 + step + rng.normal(0, 3)) * MIB)})
    (growth,) = watch.growing()
    assert growth.owner == MAIN
    assert growth.slope.per_step == pytest.approx(MIB, rel=0.15)
    assert growth.grown_bytes == pytest.approx(80 * MIB, rel=0.15)


def test_a_slow_leak_is_named_in_a_long_run():
    """A tenth of a mebibyte a step: 64 MiB after 640 steps at the soonest."""
    found = named_at(lambda step: 700 + 0.1 * step + np.sin(step), until=5000)
    assert 640 <= found <= 1500


def test_a_leak_that_begins_late_is_named_soon_after():
    found = named_at(lambda step: 700 + np.sin(step) + max(0, step - 3000), until=5000)
    assert 3064 <= found <= 3300


def test_memory_that_was_held_before_is_no_growth():
    """A collector that is late: every 400 steps it gives back what has piled up since."""
    assert named_at(lambda step: 900 + (step + 200) % 400, until=100) == 100
    watch = LeakWatch()
    for step in range(5, 405, 5):
        watch.add(step, {MAIN: (900 + (step + 200) % 400) * MIB})
    later = itertools.count(405, 5)
    for step in itertools.islice(later, 60):
        watch.add(step, {MAIN: (900 + (step + 200) % 400) * MIB})
        assert not watch.growing()


@pytest.mark.parametrize("begun", [0, 20, 40, *range(45, 50), *range(55, 60), 70])
def test_what_is_given_back_once_is_no_leak(begun):
    """A collector that gives back all after every 75 steps, at least two samples after the first one.

    Sampled from step 20 on, the fall lies near an end of the samples up to step 100 where it has ``begun`` 45
    to 59 steps before; after a single sample (50 to 54) it might be a spike.
    """
    assert named_at(lambda step: 900 + 1.2 * ((step + begun) % 75), until=300) is None


@pytest.mark.parametrize("seed", range(20))
def test_spikes_hide_no_leak(seed):
    """A twentieth of the samples, each by itself, lies 300 MiB above the others."""
    rng = np.random.default_rng(seed)
    spikes = 300 * (rng.random(101) < 0.05) + rng.normal(0, 3, 101)
    assert named_at(lambda step: 700 + step + spikes[step], until=100) == 100


def test_the_worker_that_leaks_is_named_and_not_the_other():
    watch = LeakWatch()
    for step in range(5, 105, 5):
        watch.add(step, {MAIN: 900 * MIB, FIRST: 200 * MIB, SECOND: (200 + step) * MIB})
    (growth,) = watch.growing()
    assert growth == Growth(SECOND, Slope(MIB, MIB, MIB), 5, 100, 215 * MIB, 290 * MIB)
    assert growth.owner.name == "loader worker 1 (process 52)"
    assert (watch.rise(FIRST), watch.rise(SECOND)) == (0, 75 * MIB)


def test_who_has_ended_is_forgotten_and_a_second_look_adds_nothing():
    watch = LeakWatch()
    for step in range(5, 105, 5):
        watch.add(step, {FIRST: (200 + step) * MIB})
        watch.add(step, {FIRST: 0})
    assert len(watch.growing()) == 1
    watch.add(105, {})
    assert watch.growing() == []
    assert watch.rise(FIRST) == 0


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (MAIN, "the main process (process 42)"),
        (Owner("rank", 42, 3), "rank 3 (process 42)"),
        (Owner("cuda", 42), "PyTorch's memory on the GPU"),
    ],
)
def test_owners_have_names(owner, name):
    assert owner.name == name
