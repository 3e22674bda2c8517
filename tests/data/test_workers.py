"""Numbers of the seeds' examples: 40 cores with 3 GPUs, 64 cores with 4."""

import pytest

from deblurkit.config.sections.data import DataLoaderSection
from deblurkit.data.workers import available_cpus, plan_workers


def plan(cpus, gpus, **keys):
    return plan_workers(DataLoaderSection.model_validate(keys), gpus=gpus, cpus=cpus)


@pytest.mark.parametrize(
    ("cpus", "gpus", "total", "train", "val"),
    [(40, 3, 32, 10, 5), (64, 4, 51, 12, 6)],
)
def test_auto_is_as_in_the_seeds(cpus, gpus, total, train, val):
    got = plan(cpus, gpus, TOTAL_WORKERS="auto")
    assert (got.total, got.train, got.val) == (total, train, val)


def test_a_share_of_the_cpus():
    assert plan(40, 1, TOTAL_WORKERS="cpu*0.9").total == 36
    assert plan(40, 1, TOTAL_WORKERS="cpu*0.7").total == 28  # 27.999… in floating point


def test_a_number_is_shared_out_evenly():
    assert plan(40, 3, TOTAL_WORKERS=24).train == 8
    assert plan(40, 3, TOTAL_WORKERS=0).train == 0


@pytest.mark.parametrize(("cpus", "gpus", "train"), [(16, 4, 4), (8, 4, 2), (2, 1, 2), (2, 4, 1)])
def test_auto_gives_at_least_four_but_never_more_than_there_are_cpus_for(cpus, gpus, train):
    assert plan(cpus, gpus, TOTAL_WORKERS="auto").train == train


def test_workers_of_one_kind_can_be_set_alone():
    got = plan(40, 3, TRAIN_WORKERS=7, VAL_WORKERS=1)
    assert (got.train, got.val) == (7, 1)


def cgroup(tmp_path, line, files):
    membership = tmp_path / "membership"
    membership.write_text(line)
    root = tmp_path / "cgroup"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return {"cgroup_root": root, "membership": membership}


@pytest.fixture
def sixteen_cpus(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)


@pytest.mark.usefixtures("sixteen_cpus")
class TestAvailableCpus:
    def test_affinity_counts_where_no_cgroup_says_less(self, tmp_path):
        assert available_cpus(cgroup_root=tmp_path, membership=tmp_path / "none") == 16

    def test_the_smallest_quota_up_the_tree_counts(self, tmp_path):
        files = {
            "cpu.max": "max 100000\n",
            "user/cpu.max": "350000 100000\n",
            "user/job/cpu.max": "800000 100000\n",
        }
        assert available_cpus(**cgroup(tmp_path, "0::/user/job\n", files)) == 4  # 3.5, rounded up

    def test_version_1_quotas_count_too(self, tmp_path):
        files = {"cpu/docker/x/cpu.cfs_quota_us": "200000", "cpu/docker/x/cpu.cfs_period_us": "100000"}
        assert available_cpus(**cgroup(tmp_path, "4:cpu,cpuacct:/docker/x\n", files)) == 2

    def test_no_quota_is_no_limit(self, tmp_path):
        files = {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}
        assert available_cpus(**cgroup(tmp_path, "4:cpu:/a\n", files)) == 16
