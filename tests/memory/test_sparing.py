from dataclasses import replace

import pytest

from deblurkit.memory.processes import Process, holders, process_tree
from deblurkit.memory.sparing import OneLook, Sparing


def process(pid, *, started_at=0.0, rss=10):
    return Process(pid, 1, 1000, "alice", "python", ("x",), started_at, rss)


class Reader:
    """Processes whose PSS is the number of the look; to look closely takes as long as is said."""

    def __init__(self, *found, seconds=0.0):
        self.found, self.seconds, self.now = list(found), seconds, 100.0
        self.looks, self.closely_at = 0, []

    def clock(self):
        return self.now

    def processes(self):
        self.looks += 1
        return self.found

    def closely(self, process):
        self.now += self.seconds
        self.closely_at.append(process.pid)
        return replace(process, pss_bytes=self.looks)


def test_in_one_look_each_process_is_looked_at_once():
    """The largest are members of the tree as well."""
    reader = Reader(process(1), process(2), process(3))
    one = OneLook(reader)
    assert len(holders(one).largest) == 3
    assert process_tree(one, 1).total.pss_bytes == 1 + 1 + 1
    assert (reader.looks, sorted(reader.closely_at)) == (1, [1, 2, 3])


@pytest.mark.parametrize(("period", "expected"), [(1.0, 13), (8.0, 101), (16.0, 101), (0.25, 4)])
def test_close_looks_take_no_more_than_their_share_of_the_time(period, expected):
    """A sixteenth, of half a second each: one in 8 s, where there are looks as often."""
    reader = Reader(process(1), seconds=0.5)
    sparing = Sparing(reader, share=1 / 16, clock=reader.clock)
    began = reader.now
    for number in range(101):
        reader.now = began + number * period
        sparing.processes()
        sparing.closely(reader.found[0])
    assert len(reader.closely_at) == expected


def test_in_between_a_process_has_its_rss_of_now_and_its_pss_of_then():
    reader = Reader(process(1), seconds=1.0)
    sparing = Sparing(reader, clock=reader.clock)
    for rss in (10, 20):
        (found,) = sparing.processes()
        seen = sparing.closely(replace(found, rss_bytes=rss))
    assert (seen.rss_bytes, seen.pss_bytes, reader.looks) == (20, 1, 2)


def test_a_new_process_is_looked_at_in_any_case_also_under_the_number_of_one_that_is_gone():
    reader = Reader(process(1), seconds=1.0)
    sparing = Sparing(reader, clock=reader.clock)
    for found in ([process(1)], [process(1), process(2)], [process(1, started_at=5.0), process(2)]):
        reader.found = found
        seen = [sparing.closely(each) for each in sparing.processes()]
    assert reader.closely_at == [1, 2, 1]
    assert [each.pss_bytes for each in seen] == [3, 2]
