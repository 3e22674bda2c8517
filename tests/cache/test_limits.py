import re
from types import SimpleNamespace

import pytest

from deblurkit.cache.limits import Limit, check_budget, node_limits
from deblurkit.errors import DataError

GIB = 1024**3


@pytest.fixture
def limits_of(tmp_path, monkeypatch):
    """Return a function that gives the limits of a machine of 64 GiB shared memory and 100 GiB RAM."""
    shared = SimpleNamespace(f_blocks=1, f_bavail=64 * GIB // 4096, f_frsize=4096)
    monkeypatch.setattr("os.statvfs", lambda path: shared)

    def limits(membership, files):
        (tmp_path / "membership").write_text(membership)
        (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:  {100 * GIB // 1024} kB\n")
        for name, text in files.items():
            (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cgroup" / name).write_text(f"{text}\n")
        found = node_limits(
            tmp_path / "shm",
            meminfo=tmp_path / "meminfo",
            cgroup_root=tmp_path / "cgroup",
            membership=tmp_path / "membership",
        )
        return {limit.where.removeprefix(f"the cgroup {tmp_path}/"): limit.free_bytes for limit in found}

    return limits


def test_file_system_and_ram_bound_a_machine_without_cgroups(limits_of, tmp_path):
    assert limits_of("", {}) == {str(tmp_path / "shm"): 64 * GIB, "RAM": 100 * GIB}


def test_every_version_2_group_up_the_tree_bounds_it_and_page_cache_is_free(limits_of):
    files = {
        "user/memory.max": 30 * GIB,
        "user/memory.high": "max",
        "user/memory.current": 20 * GIB,
        "user/memory.stat": f"anon 5\nfile {19 * GIB}\ninactive_file {3 * GIB}\nactive_file {GIB}",
        "user/job/memory.max": "max",
        "user/job/memory.high": 12 * GIB,
        "user/job/memory.current": 2 * GIB,
        "memory.current": 90 * GIB,
    }
    found = limits_of("0::/user/job\n", files)
    assert found["cgroup/user (30.00 GiB)"] == 14 * GIB  # 30 - (20 - 3 - 1): "file" has shared memory in it
    assert found["cgroup/user/job (12.00 GiB)"] == 10 * GIB
    assert len(found) == 4


def test_version_1_limits_count_too(limits_of):
    files = {
        "memory/docker/x/memory.limit_in_bytes": 8 * GIB,
        "memory/docker/x/memory.usage_in_bytes": 5 * GIB,
        "memory/docker/x/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}\ntotal_active_file 0",
    }
    assert limits_of("4:memory:/docker/x\n", files)["cgroup/memory/docker/x (8.00 GiB)"] == 4 * GIB


def test_a_group_over_its_limit_has_nothing_free(limits_of):
    files = {"memory.high": GIB, "memory.current": 2 * GIB}
    assert limits_of("0::/\n", files)["cgroup (1.00 GiB)"] == 0


def test_a_tmpfs_without_a_size_is_no_limit(limits_of, monkeypatch):
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_blocks=0, f_bavail=0, f_frsize=4096))
    assert list(limits_of("", {})) == ["RAM"]


def test_the_message_names_the_tightest_limit_and_what_fits():
    limits = [Limit("RAM", 100 * GIB), Limit("/dev/shm", int(12.3 * GIB))]
    with pytest.raises(DataError) as caught:
        check_budget(50 * GIB, limits)
    assert str(caught.value) == (
        "DATA.CACHE_SIZE_GB: 50.00 GiB do not fit: /dev/shm has 12.30 GiB free; "
        "use --set DATA.CACHE_SIZE_GB=11.0"
    )


@pytest.mark.parametrize("free", [64 * 1024**2, GIB // 3, GIB, 7 * GIB + 1, 900 * GIB])
def test_the_proposed_budget_is_accepted(free):
    with pytest.raises(DataError) as caught:
        check_budget(free, [Limit("/dev/shm", free)])
    proposed = float(re.search(r"CACHE_SIZE_GB=([\d.]+)$", str(caught.value))[1])
    assert 0 < proposed * GIB < free
    check_budget(int(proposed * GIB), [Limit("/dev/shm", free)])


def test_where_next_to_nothing_is_free_the_cache_is_to_be_left_off():
    with pytest.raises(DataError, match=r"--set DATA.USE_RAM_CACHE=false$"):
        check_budget(GIB, [Limit("/dev/shm", 1024**2)])


def test_without_limits_any_budget_fits():
    check_budget(GIB, [])
