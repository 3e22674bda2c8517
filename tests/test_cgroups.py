from deblurkit.cgroups import Cgroup, GroupMemory, group_memory, own_cgroups, read_fields, read_number


def groups(tmp_path, lines, controller="memory"):
    membership = tmp_path / "membership"
    membership.write_text(lines)
    return list(own_cgroups(controller, root=tmp_path / "cgroup", membership=membership))


def test_version_2_groups_come_from_the_innermost_to_the_root(tmp_path):
    root = tmp_path / "cgroup"
    expected = [Cgroup(root / "user/job", 2), Cgroup(root / "user", 2), Cgroup(root, 2)]
    assert groups(tmp_path, "0::/user/job\n") == expected


def test_of_version_1_only_the_controllers_own_hierarchy_counts(tmp_path):
    root = tmp_path / "cgroup/memory"
    lines = "4:memory:/docker/x\n3:cpu,cpuacct:/elsewhere\n1:name=systemd:/\n"
    assert groups(tmp_path, lines) == [
        Cgroup(root / "docker/x", 1),
        Cgroup(root / "docker", 1),
        Cgroup(root, 1),
    ]


def test_a_controller_that_shares_its_hierarchy_is_found(tmp_path):
    found = groups(tmp_path, "4:cpu,cpuacct:/a\n", controller="cpu")
    assert [group.folder for group in found] == [tmp_path / "cgroup/cpu/a", tmp_path / "cgroup/cpu"]


def test_a_path_that_leads_out_of_the_tree_leaves_the_root(tmp_path):
    assert groups(tmp_path, "0::/../../other\n")[-1] == Cgroup(tmp_path / "cgroup", 2)


def test_without_cgroups_there_are_none(tmp_path):
    assert list(own_cgroups("memory", root=tmp_path, membership=tmp_path / "none")) == []


def memory_of(folder, version, files):
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")
    return group_memory(Cgroup(folder, version))


def test_memory_of_a_version_2_group(tmp_path):
    files = {
        "memory.max": 1000,
        "memory.high": "max",
        "memory.swap.max": 0,
        "memory.current": 700,
        "memory.stat": "anon 1\ninactive_file 20\nactive_file 30\nshmem 4",
    }
    expected = GroupMemory({"memory.max": 1000, "memory.swap.max": 0}, 700, 50, 4)
    assert memory_of(tmp_path, 2, files) == expected


def test_memory_of_a_version_1_group_has_its_descendants_in_it(tmp_path):
    files = {
        "memory.limit_in_bytes": 1000,
        "memory.memsw.limit_in_bytes": 9223372036854771712,  # 2^63 less a page: none
        "memory.usage_in_bytes": 700,
        "memory.stat": "inactive_file 1\ntotal_inactive_file 20\ntotal_active_file 30\ntotal_shmem 4",
    }
    assert memory_of(tmp_path, 1, files) == GroupMemory({"memory.limit_in_bytes": 1000}, 700, 50, 4)


def test_a_group_that_is_not_there_tells_nothing(tmp_path):
    assert group_memory(Cgroup(tmp_path / "none", 2)) == GroupMemory({}, None, 0, None)


def test_files_that_hold_something_else_are_as_if_they_were_not_there(tmp_path):
    (tmp_path / "file").write_text("max\nMemTotal: 5 kB\nname -3\nlonely\n")
    assert read_number(tmp_path / "file") is None
    assert read_fields(tmp_path / "file") == {"MemTotal:": 5}
    assert read_fields(tmp_path) == {}
