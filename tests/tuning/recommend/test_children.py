"""Child processes that do as they are told, that fail, and that are killed."""

import os
import signal

import pytest

from deblurkit.config.load import load_config
from deblurkit.errors import DeblurkitError
from deblurkit.tuning.recommend.children import children_for, in_children


def halved(job):
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job % 2:
        raise ValueError(f"{job} is odd\nand so is this")
    return job // 2, os.getpid()


def outcomes(jobs, *, workers):
    waiting, found = iter(jobs), []
    in_children(
        halved,
        next_job=lambda: next(waiting, None),
        take=lambda job, outcome: found.append((job, outcome)),
        workers=workers,
    )
    return dict(found)


def test_without_children_work_is_done_here_and_an_error_is_an_outcome():
    found = outcomes([4, 3, 8], workers=0)
    assert (found[4], found[8]) == ((2, os.getpid()), (4, os.getpid()))
    assert isinstance(found[3], DeblurkitError) and str(found[3]) == "3 is odd"


def test_a_child_that_is_killed_takes_nothing_with_it_but_its_own_job():
    found = outcomes([4, "die", 3, 8], workers=1)
    assert str(found["die"]) == "its process was killed by SIGKILL: out of memory, perhaps"
    assert (found[4][0], found[8][0]) == (2, 4)
    assert found[4][1] != found[8][1] and os.getpid() not in (found[4][1], found[8][1])
    assert str(found[3]) == "3 is odd"
    for _, pid in (found[4], found[8]):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_interruption_here_ends_the_children_too():
    children = []

    def interrupted(job, outcome):
        children.append(outcome[1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_children(halved, next_job=lambda: 4, take=interrupted, workers=1)
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_a_light_network_needs_no_children_and_vrt_no_more_than_there_are_jobs():
    vrt, light = (load_config(name, None, (), warn=print) for name in ("quickstart_vrt", "quickstart"))
    assert children_for(100, light) == 0
    assert children_for(1, vrt) == 1 and 1 <= children_for(100, vrt) <= 8
