from deblurkit.cgroups import Cgroup, own_cgroups


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
