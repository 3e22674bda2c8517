import pytest

from deblurkit.memory.limits import host_limits, tightest

GIB = 1024**3
MEMINFO = f"""MemTotal:       {256 * 2**20} kB
MemFree:        {20 * 2**20} kB
MemAvailable:   {100 * 2**20} kB
SwapTotal:      {8 * 2**20} kB
SwapFree:       {5 * 2**20} kB
CommitLimit:    {136 * 2**20} kB
Committed_AS:   {130 * 2**20} kB"""
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max data size             unlimited            unlimited            bytes
Max resident set          1073741824           unlimited            bytes
Max locked memory         8388608              8388608              bytes
Max address space         68719476736          unlimited            bytes"""
STATUS = "Name:\tpython\nVmSize:\t  4194304 kB\nVmRSS:\t 524288 kB\nVmLck:\t       4 kB\nVmData:\t 1 kB"


@pytest.fixture
def rows(machine_of, tmp_path):
    """Return a function that gives the rows of a machine as ``(kind, folder or name): row``."""

    def found(files, **options):
        resources = host_limits(machine_of(files, **options))
        named = {
            str(row.source.relative_to(tmp_path)) if row.kind.startswith("cgroup") else row.name: row
            for row in resources
        }
        assert len(named) == len(resources)
        return named

    return found


def figures(row):
    return row.limit_bytes, row.used_bytes, row.available_bytes


def test_ram_and_swap(rows, tmp_path):
    found = rows({"proc/meminfo": MEMINFO})
    assert figures(found["RAM"]) == (256 * GIB, 236 * GIB, 100 * GIB)  # page cache is used and available
    assert figures(found["swap"]) == (8 * GIB, 3 * GIB, 5 * GIB)
    assert found["RAM"].source == tmp_path / "proc/meminfo"
    assert set(found) == {"RAM", "swap", str(tmp_path / "shm")}


@pytest.mark.parametrize(("mode", "counts"), [("0", False), ("1", False), ("2", True)])
def test_the_commit_limit_counts_where_the_kernel_heeds_it(rows, mode, counts):
    found = rows({"proc/meminfo": MEMINFO, "proc/sys/vm/overcommit_memory": mode})
    assert ("commit limit" in found) is counts
    if counts:
        assert figures(found["commit limit"]) == (136 * GIB, 130 * GIB, 6 * GIB)


def test_every_limit_of_version_2_up_the_tree_is_a_row(rows):
    found = rows(
        {
            "proc/self/cgroup": "0::/user/job",
            "cgroup/user/job/memory.max": "max",
            "cgroup/user/job/memory.high": 12 * GIB,
            "cgroup/user/job/memory.current": 11 * GIB,
            "cgroup/user/job/memory.stat": f"anon 5\ninactive_file {3 * GIB}\nactive_file {GIB}\nshmem {GIB}",
            "cgroup/user/memory.max": 30 * GIB,
            "cgroup/user/memory.high": "max",
            "cgroup/user/memory.current": 33 * GIB,
            "cgroup/user/memory.swap.max": 4 * GIB,
            "cgroup/user/memory.swap.current": GIB,
            "cgroup/memory.stat": "anon 5",
        }
    )
    assert figures(found["cgroup/user/job/memory.high"]) == (12 * GIB, 11 * GIB, 5 * GIB)  # 12 - (11 - 3 - 1)
    assert figures(found["cgroup/user/memory.max"]) == (30 * GIB, 33 * GIB, 0)
    assert figures(found["cgroup/user/memory.swap.max"]) == (4 * GIB, GIB, 3 * GIB)
    assert "slows" in found["cgroup/user/job/memory.high"].beyond
    assert "kills" in found["cgroup/user/memory.max"].beyond
    assert len([row for row in found.values() if row.kind.startswith("cgroup")]) == 3
    assert all(row.unseen == "" for row in found.values() if row.kind == "cgroup")


def test_a_group_without_a_limit_says_so(rows):
    files = {"proc/self/cgroup": "0::/job", "cgroup/job/memory.max": "max", "cgroup/job/memory.current": GIB}
    row = rows(files)["cgroup/job/memory.max"]
    assert (figures(row), row.beyond) == ((None, GIB, None), "no limit is set")


def test_version_1_has_limits_of_memory_and_of_memory_with_swap(rows):
    group = "cgroup/memory/slurm/job"
    found = rows(
        {
            "proc/self/cgroup": "4:memory:/slurm/job",
            f"{group}/memory.limit_in_bytes": 8 * GIB,
            f"{group}/memory.usage_in_bytes": 5 * GIB,
            f"{group}/memory.memsw.limit_in_bytes": 9 * GIB,
            f"{group}/memory.memsw.usage_in_bytes": 6 * GIB,
            f"{group}/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}\ntotal_active_file 0",
            "cgroup/memory/memory.limit_in_bytes": 9223372036854771712,  # the kernel's word for none
            "cgroup/memory/memory.usage_in_bytes": 90 * GIB,
        }
    )
    assert figures(found[f"{group}/memory.limit_in_bytes"]) == (8 * GIB, 5 * GIB, 4 * GIB)
    assert figures(found[f"{group}/memory.memsw.limit_in_bytes"]) == (9 * GIB, 6 * GIB, 3 * GIB)
    assert figures(found["cgroup/memory/memory.limit_in_bytes"]) == (None, 90 * GIB, None)


def test_a_container_of_version_2_does_not_see_the_groups_above(rows):
    files = {"proc/self/cgroup": "0::/", "cgroup/memory.max": 8 * GIB, "cgroup/memory.current": GIB}
    row = rows(files)["cgroup/memory.max"]
    assert figures(row) == (8 * GIB, GIB, 7 * GIB)
    assert "above" in row.unseen


def test_a_container_of_version_1_does_not_see_the_groups_above(rows):
    files = {
        "proc/self/cgroup": "4:memory:/docker/0123abcd",
        "cgroup/memory/memory.limit_in_bytes": 8 * GIB,
        "cgroup/memory/memory.usage_in_bytes": GIB,
    }
    row = rows(files)["cgroup/memory/memory.limit_in_bytes"]
    assert row.available_bytes == 7 * GIB
    assert "above" in row.unseen


def test_groups_whose_files_are_not_mounted_have_a_row_that_says_so(rows):
    row = rows({"proc/self/cgroup": "0::/a/b"})["cgroup/a/b"]
    assert figures(row) == (None, None, None)
    assert "not seen" in row.unseen


def test_ulimits_are_the_soft_ones_and_of_one_process(rows):
    found = rows({"proc/self/limits": LIMITS, "proc/self/status": STATUS})
    assert figures(found["ulimit -v"]) == (64 * GIB, 4 * GIB, 60 * GIB)
    assert figures(found["ulimit -l"]) == (8 * 2**20, 4096, 8 * 2**20 - 4096)
    assert figures(found["ulimit -d"]) == (None, 1024, None)
    assert figures(found["ulimit -m"]) == (GIB, GIB // 2, GIB // 2)
    assert "does not heed" in found["ulimit -m"].beyond
    assert "each process" in found["ulimit -v"].unseen


def test_limits_of_another_process_are_its_own(machine_of):
    machine = machine_of({"proc/7/limits": LIMITS, "proc/7/status": STATUS, "proc/7/cgroup": "0::/x"})
    names = [row.name for row in host_limits(machine, pid=7)]
    assert "ulimit -v" in names
    assert not [row.name for row in host_limits(machine) if row.kind == "ulimit"]


def test_shared_memory_has_a_size_of_its_own(rows, tmp_path):
    shm = str(tmp_path / "shm")
    row = rows({}, shm=(64 * 2**20, 2**20))[shm]  # as in a container by default
    assert figures(row) == (64 * 2**20, 63 * 2**20, 2**20)
    assert "bus error" in row.beyond
    assert figures(rows({}, shm=(0, 0))[shm]) == (None, None, None)
    missing = rows({}, shm=None)[shm]
    assert (figures(missing), missing.unseen) == (
        (None, None, None),
        "cannot be looked at: No such file or directory",
    )


def test_the_tightest_of_ram_and_groups_bounds_what_a_run_may_hold(machine_of):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/job",
        "cgroup/job/memory.max": 40 * GIB,
        "cgroup/job/memory.current": GIB,
    }
    found = host_limits(machine_of(files))
    assert tightest(found).name == "cgroup memory.max"
    assert tightest(found, kinds=("shm",)).available_bytes == 60 * GIB
    assert tightest([]) is None
