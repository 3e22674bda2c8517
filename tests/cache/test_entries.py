"""Steps of which a process may be killed between any two: what it leaves is put right by the others."""

import numpy as np
import pytest

from deblurkit.cache import entries
from deblurkit.cache.entries import Claim
from deblurkit.cache.index import Index, make_index

PAGE = 4096
DEAD = "1:0"  # process 1 did not start at tick 0 before it was process 1


@pytest.fixture
def step(tmp_path):
    """Return a function that does one step in a transaction."""
    make_index(tmp_path / "index.sqlite", max_bytes=3 * PAGE)
    index = Index(tmp_path / "index.sqlite")

    def do(name, *arguments, **options):
        with index.transaction() as connection:
            if name in ("mark_ready", "read_stats"):
                return getattr(entries, name)(connection, *arguments)
            return getattr(entries, name)(connection, tmp_path, *arguments, **options)

    def die():
        with index.transaction() as connection:
            connection.execute("UPDATE entries SET owner = ? WHERE owner IS NOT NULL", (DEAD,))

    do.die = die
    yield do
    index.close()


def files(folder):
    return sorted(path.name for path in folder.glob("*.u8"))


def add(step, folder, key, pages=1):
    claimed = step("claim", key)
    assert step("reserve", claimed, num_bytes=pages * PAGE, shape=(pages, PAGE))
    entries.write_array(entries.file_of(folder, claimed.id), np.zeros((pages, PAGE), np.uint8))
    assert step("mark_ready", claimed)
    return claimed


@pytest.mark.parametrize(("count", "charged"), [(0, 0), (1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE)])
def test_an_entry_is_charged_with_whole_pages(count, charged):
    assert entries.charged_bytes(count) == charged


def test_an_entry_that_another_process_makes_is_waited_for_and_not_found(step):
    assert isinstance(step("look_up_or_claim", "a"), Claim)
    assert step("look_up_or_claim", "a") == "wait"
    assert step("claim", "a") is False
    assert step("look_up", "a") is None


@pytest.mark.parametrize("again", ["claim", "look_up_or_claim"])
def test_what_a_dead_process_began_is_taken_over(step, tmp_path, again):
    first = step("claim", "a")
    step("reserve", first, num_bytes=PAGE, shape=(PAGE,))
    entries.file_of(tmp_path, first.id).write_bytes(b"half")
    step.die()
    second = step(again, "a")
    assert second.id != first.id
    assert files(tmp_path) == []
    assert step("read_stats").bytes == 0


def test_the_dead_are_dropped_when_their_bytes_are_needed(step, tmp_path):
    for key in "abc":
        step("reserve", step("claim", key), num_bytes=PAGE, shape=(PAGE,))
    step.die()
    add(step, tmp_path, "d", pages=3)
    assert step("read_stats").bytes == 3 * PAGE


def test_the_dead_are_dropped_after_a_thousand_reads(step, tmp_path):
    step("claim", "a")
    step.die()
    for _ in range(1000):
        step("look_up", "none")
    add(step, tmp_path, "b")
    assert isinstance(step("claim", "a"), Claim)


def test_nothing_is_evicted_for_what_cannot_fit(step, tmp_path):
    add(step, tmp_path, "a")
    living = step("claim", "b")
    assert step("reserve", living, num_bytes=2 * PAGE, shape=(2 * PAGE,))
    assert not step("reserve", step("claim", "c"), num_bytes=2 * PAGE, shape=(2 * PAGE,))
    assert not step("reserve", step("claim", "d"), num_bytes=4 * PAGE, shape=(4 * PAGE,))
    assert step("look_up", "a") is not None
    assert step("read_stats").evictions == 0


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_an_entry_whose_file_is_not_whole_is_a_miss_and_dropped(step, tmp_path, damage):
    path = entries.file_of(tmp_path, add(step, tmp_path, "a").id)
    path.unlink()
    if damage == "short":
        path.write_bytes(b"short")
    assert step("look_up", "a") is None
    stats = step("read_stats")
    assert (stats.items, stats.bytes, stats.misses) == (0, 0, 1)
    assert files(tmp_path) == []


def test_a_claim_that_was_given_up_can_neither_reserve_nor_be_ready(step, tmp_path):
    claimed = step("claim", "a")
    step("give_up", claimed)
    assert not step("reserve", claimed, num_bytes=1, shape=(1,))
    assert not step("mark_ready", claimed)
    assert step("read_stats").bytes == 0
