from dataclasses import replace

import pytest

from deblurkit.tuning.host_memory import CODE
from deblurkit.tuning.host_rows import HostRow
from deblurkit.tuning.verdicts import THRESHOLDS, failing, judge, largest_process, narrowest

GIB = 2**30


@pytest.fixture
def verdict_of(host_of, limit_of):
    """Return a function that gives the verdict on a limit, of a run that needs 3 GiB, 2 of them shared."""

    def judged(*args, **options):
        (found,) = judge(None, host_of(), limits=[limit_of(*args, **options)], gpus=[])
        return found

    return judged


@pytest.mark.parametrize(
    ("available", "verdict", "margin"),
    [(64, "fits", 61), (3.5, "fits", 0.5), (3.3, "tight", 0.3), (3, "tight", 0), (2.5, "does not fit", -0.5)],
)
def test_less_than_a_tenth_left_is_tight_and_less_than_nothing_does_not_fit(
    verdict_of, available, verdict, margin
):
    found = verdict_of("ram", available)
    assert (found.verdict, found.predicted_bytes) == (verdict, 3 * GIB)
    assert found.margin_bytes == pytest.approx(margin * GIB, abs=2)


def test_what_is_missing_and_what_then_happens_is_said(verdict_of):
    assert verdict_of("ram", 2.5).why == "512.0 MiB too much: it is killed"


def test_page_cache_takes_nothing_from_a_group(verdict_of):
    found = verdict_of("cgroup", 4, name="cgroup memory.max", source="/sys/fs/cgroup/job/memory.max")
    assert (found.name, found.verdict) == ("cgroup memory.max of /job", "fits")


def test_a_group_that_is_only_slowed_down_is_tight(verdict_of):
    found = verdict_of("cgroup", 1, name="cgroup memory.high", source="/sys/fs/cgroup/job/memory.high")
    assert (found.verdict, found.margin_bytes) == ("tight", -2 * GIB)


@pytest.mark.parametrize(("available", "verdict"), [(2.8, "tight"), (2.6, "does not fit")])
def test_code_that_is_read_again_makes_a_run_slow_not_impossible(host_of, limit_of, available, verdict):
    host = host_of()
    code = HostRow(CODE, GIB // 4, 1, "private", "of this test")
    rows = tuple(
        replace(row, each_bytes=row.each_bytes - GIB // 4) if number == 0 else row
        for number, row in enumerate(host.rows)
    )
    host = replace(host, rows=(*rows, code))
    assert host.needed_bytes == 3 * GIB
    (found,) = judge(None, host, limits=[limit_of("cgroup", available)], gpus=[])
    assert found.verdict == verdict


def test_shared_memory_has_to_hold_what_is_shared(verdict_of):
    assert verdict_of("shm", 64 / 1024).verdict == "does not fit"
    assert verdict_of("shm", 2.5).verdict == "fits"
    assert verdict_of("shm", None, limit=None).verdict == "fits"  # a tmpfs without a size
    unseen = verdict_of("shm", None, limit=None, unseen="cannot be looked at: No such file")
    assert (unseen.verdict, unseen.why) == ("cannot know", "cannot be looked at: No such file")


def test_without_anything_shared_no_shared_memory_is_needed(host_of, limit_of):
    limit = limit_of("shm", None, limit=None, unseen="cannot be looked at")
    (found,) = judge(None, host_of(shared=0), limits=[limit], gpus=[])
    assert found.verdict == "fits"


def test_address_space_is_too_little_or_not_known(verdict_of):
    assert verdict_of("ulimit", 64, name="ulimit -v").verdict == "cannot know"
    assert verdict_of("commit", 64).verdict == "cannot know"
    found = verdict_of("commit", 2)
    assert (found.verdict, found.predicted_bytes) == ("does not fit", 3 * GIB)


def test_a_ulimit_counts_each_process_alone(host_of, limit_of):
    host = host_of(ranks=4)
    assert largest_process(host) == GIB
    limit = limit_of(
        "ulimit", 0.1, name="ulimit -v", limit=2
    )  # of another process 0.1 GiB is left, not of one
    (found,) = judge(None, host, limits=[limit], gpus=[])
    assert (found.verdict, found.available_bytes) == ("cannot know", 2 * GIB)


def test_what_does_not_bound_a_run_has_no_verdict(host_of, limit_of):
    limits = [
        limit_of("swap", 1),
        limit_of("ulimit", 0, name="ulimit -l"),
        limit_of("ulimit", None, name="ulimit -v", limit=None),
        limit_of("cgroup", None, limit=None),
    ]
    assert judge(None, host_of(), limits=limits, gpus=[]) == []


def test_a_group_that_cannot_be_read_is_not_known(verdict_of):
    found = verdict_of("cgroup", None, limit=None, unseen="not seen from here")
    assert (found.verdict, found.margin_bytes, found.why) == ("cannot know", None, "not seen from here")


def test_every_rank_needs_a_gpu_with_the_step_and_its_overheads(step_of, host_of, gpu_of):
    gpus = [gpu_of(0, 7), gpu_of(1, 23), gpu_of(2, 40), gpu_of(3, None)]
    found = judge(step_of(), host_of(ranks=3), limits=[], gpus=gpus)
    assert [(each.name, each.verdict) for each in found] == [
        ("GPU 0", "does not fit"),
        ("GPU 1", "tight"),
        ("GPU 2", "fits"),
    ]
    assert {each.predicted_bytes for each in found} == {21 * GIB}
    assert judge(step_of(), host_of(ranks=4), limits=[], gpus=gpus)[3].verdict == "cannot know"


def test_too_few_gpus_do_not_fit_and_none_is_not_known(step_of, host_of, gpu_of):
    *_, last = judge(step_of(), host_of(ranks=2), limits=[], gpus=[gpu_of(0, 48)])
    assert (last.verdict, last.why) == ("does not fit", "2 ranks need as many, 1 GPU may be used")
    (found,) = judge(step_of(), host_of(), limits=[], gpus=[])
    assert (found.verdict, found.why) == ("cannot know", "no GPU is seen from here")


def test_a_step_on_a_cpu_asks_no_gpu(step_of, host_of, gpu_of):
    assert judge(step_of("cpu"), host_of(), limits=[], gpus=[gpu_of(0, 1)]) == []


def test_the_narrowest_takes_the_largest_share(step_of, host_of, gpu_of, limit_of):
    limits = [limit_of("ram", 30), limit_of("shm", 4)]
    found = judge(step_of(), host_of(), limits=limits, gpus=[gpu_of(0, 40)])
    assert narrowest(found).name == "GPU 0"  # 21 of 40, 3 of 30, 2 of 4
    assert narrowest(judge(step_of(), host_of(), limits=limits, gpus=[gpu_of(0, 48)])).name == "shm"
    assert narrowest([]) is None


def test_limits_on_address_space_are_never_the_narrowest(host_of, limit_of):
    """Of 1.5 GiB a process takes 1, of 3.1 all of them 3: but what they count is not memory."""
    limits = [
        limit_of("ram", 30),
        limit_of("ulimit", 0.1, name="ulimit -v", limit=1.5),
        limit_of("commit", 3.1),
    ]
    assert narrowest(judge(None, host_of(), limits=limits, gpus=[])).name == "ram"


def test_what_makes_a_check_fail(step_of, host_of, gpu_of, limit_of):
    tight = judge(step_of(), host_of(), limits=[], gpus=[gpu_of(0, 22)])
    unknown = judge(step_of(), host_of(), limits=[], gpus=[])
    short = judge(step_of(), host_of(), limits=[], gpus=[gpu_of(0, 2)])
    fine = judge(step_of(), host_of(), limits=[], gpus=[gpu_of(0, 48)])
    outcome = {
        name: [bool(failing(each, name)) for each in (fine, tight, unknown, short)] for name in THRESHOLDS
    }
    assert outcome == {
        "tight": [False, True, False, True],
        "cannot-know": [False, False, True, True],
        "does-not-fit": [False, False, False, True],
    }
