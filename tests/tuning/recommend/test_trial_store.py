import json

import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning.recommend.records import Budget, Candidate, Trial
from deblurkit.tuning.recommend.trial_store import TrialStore, step_values

GIB = 2**30
CPU = "2 x CPU, 24.00 GiB"


@pytest.fixture
def candidate():
    """Return a function that makes a candidate of quickstart_vrt with other values."""

    def make(*overrides, **settings):
        config = load_config("quickstart_vrt", None, overrides, warn=lambda text: None)
        return Candidate(settings, config, {})

    return make


def measured(key="1 {}", **more):
    return Trial(
        key,
        "measured",
        "",
        9.0,
        (0.1, 0.2, 0.30000000000000004),
        {"forward": 0.05},
        **({"peak_bytes": 3 * GIB, "host_bytes": 5 * GIB} | more),
    )


def test_a_trial_is_found_again_by_another_search(candidate, tmp_path):
    path = tmp_path / "trials.jsonl"
    TrialStore(path).add(candidate(), CPU, measured())
    again = candidate(**{"TRAIN.BATCH_SIZE": 2})  # the same configuration, come to from another start
    found = TrialStore(path).find(again, CPU)
    assert found == measured(again.key, is_cached=True)


def test_without_a_file_it_is_found_as_long_as_the_store_lives(candidate):
    store = TrialStore(None)
    store.add(candidate(), CPU, measured())
    assert store.find(candidate(), CPU) is not None
    assert TrialStore(None).find(candidate(), CPU) is None


def test_the_newest_one_counts(candidate, tmp_path):
    store = TrialStore(tmp_path / "trials.jsonl")
    store.add(candidate(), CPU, measured())
    store.add(candidate(), CPU, measured(peak_bytes=1))
    assert store.find(candidate(), CPU).peak_bytes == 1


@pytest.mark.parametrize(
    "override",
    [
        "TRAIN.BATCH_SIZE=1",
        "TRAIN.OPTIM.TYPE=adamw8bit",
        "MODEL.VRT.USE_CHECKPOINT_ATTN=true",
        "DATA.CROP_SIZE=64",
        "TRAIN.EMA_DECAY=0.999",
        "TRAIN.AMP_ENABLED=true",
    ],
)
def test_what_a_step_depends_on_tells_trials_apart(candidate, override):
    store = TrialStore(None)
    store.add(candidate(), CPU, measured())
    assert store.find(candidate(override), CPU) is None


@pytest.mark.parametrize(
    "override",
    [
        "TRAIN.EPOCHS=7",
        "LOG.SAVE_DIR=elsewhere",
        "TEST.NUM_WORKERS=0",
        "TRAIN.OPTIM.LR=0.001",
        "SEED=1",
        "DATALOADER.TRAIN_WORKERS=3",
        "DATA.ROOT=elsewhere",
    ],
)
def test_what_it_does_not_depend_on_does_not(candidate, override):
    store = TrialStore(None)
    store.add(candidate(), CPU, measured())
    assert store.find(candidate(override), CPU) is not None


def test_with_the_runs_own_data_loading_counts(candidate):
    store = TrialStore(None, use_data=True)
    store.add(candidate(), CPU, measured())
    assert store.find(candidate("LOG.SAVE_DIR=elsewhere"), CPU) is not None
    for override in ("DATALOADER.TRAIN_WORKERS=3", "DATA.ROOT=elsewhere", "DATA.USE_RAM_CACHE=true"):
        assert store.find(candidate(override), CPU) is None


def test_random_clips_and_data_are_apart(candidate, tmp_path):
    path = tmp_path / "trials.jsonl"
    TrialStore(path).add(candidate(), CPU, measured())
    assert TrialStore(path, use_data=True).find(candidate(), CPU) is None


def test_other_hardware_versions_or_threads_have_trials_of_their_own(candidate, monkeypatch):
    store = TrialStore(None)
    store.add(candidate(), CPU, measured())
    assert store.find(candidate(), "NVIDIA RTX A6000, 48.00 GiB; " + CPU) is None
    for name, value in (
        ("torch.__version__", "9.9"),
        ("deblurkit.tuning.recommend.trial_store.__version__", "9.9"),
        ("platform.python_version", lambda: "9.9"),
        ("torch.get_num_threads", lambda: 99),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            assert store.find(candidate(), CPU) is None
    assert store.find(candidate(), CPU) is not None


def found_with(path, candidate, **budget):
    return TrialStore(path, budget=Budget(**budget)).find(candidate, CPU) is not None


def test_what_was_measured_counts_where_it_fits(candidate, tmp_path):
    path = tmp_path / "trials.jsonl"
    TrialStore(path, budget=Budget(device_bytes=24 * GIB)).add(candidate(), CPU, measured())
    assert found_with(path, candidate())
    assert found_with(path, candidate(), device_bytes=3 * GIB, host_bytes=5 * GIB)
    assert not found_with(path, candidate(), device_bytes=3 * GIB - 1)
    assert not found_with(path, candidate(), host_bytes=5 * GIB - 1)


@pytest.mark.parametrize("outcome", ["out of memory", "killed"])
def test_out_of_memory_counts_where_there_is_no_more_of_it(candidate, tmp_path, outcome):
    path = tmp_path / "trials.jsonl"
    store = TrialStore(path, budget=Budget(device_bytes=24 * GIB, host_bytes=64 * GIB))
    store.add(candidate(), CPU, Trial("1 {}", outcome, "asked for 2 GiB", 4.0, ran_out="host"))
    assert found_with(path, candidate(), device_bytes=24 * GIB, host_bytes=64 * GIB)
    assert found_with(path, candidate(), device_bytes=24 * GIB + 2**20, host_bytes=64 * GIB + 2**20)
    assert found_with(path, candidate(), device_bytes=16 * GIB, host_bytes=32 * GIB)
    assert not found_with(path, candidate(), device_bytes=25 * GIB, host_bytes=64 * GIB)
    assert not found_with(path, candidate(), device_bytes=24 * GIB)


@pytest.mark.parametrize("outcome", ["failed", "timed out", "killed"])
def test_what_may_go_well_tomorrow_is_not_kept(candidate, tmp_path, outcome):
    path = tmp_path / "trials.jsonl"
    store = TrialStore(path)
    store.add(candidate(), CPU, Trial("1 {}", outcome, "on a busy machine", 4.0))
    assert store.find(candidate(), CPU) is None and not path.exists()


@pytest.mark.parametrize("outcome", ["timed out", "killed"])
def test_nor_does_it_count_where_an_earlier_version_has_kept_it(candidate, tmp_path, outcome):
    path = tmp_path / "trials.jsonl"
    TrialStore(path).add(candidate(), CPU, measured())
    line = json.loads(path.read_text())
    path.write_text(json.dumps({**line, "trial": {**line["trial"], "outcome": outcome, "step_seconds": []}}))
    assert TrialStore(path).find(candidate(), CPU) is None


def test_trials_that_were_kept_already_are_not_kept(candidate, tmp_path):
    store = TrialStore(tmp_path / "trials.jsonl")
    store.add(candidate(), CPU, measured(is_cached=True))
    assert store.find(candidate(), CPU) is None and not (tmp_path / "trials.jsonl").exists()


def test_where_the_peak_is_asked_for_a_trial_without_it_does_not_do(candidate, tmp_path):
    path = tmp_path / "trials.jsonl"
    TrialStore(path).add(candidate(), CPU, measured(peak_bytes=None))
    assert TrialStore(path).find(candidate(), CPU) is not None
    assert TrialStore(path, follow_memory=True).find(candidate(), CPU) is None


def test_lines_of_another_version_or_damaged_ones_are_passed_over(candidate, tmp_path):
    path = tmp_path / "trials.jsonl"
    TrialStore(path).add(candidate(), CPU, measured())
    line = json.loads(path.read_text())
    more = [
        {**line, "trial": {**line["trial"], "colour": "blue"}},
        {**line, "trial": {**line["trial"], "step_seconds": []}},
        {**line, "trial": {**line["trial"], "step_seconds": ["fast"]}},
        {**line, "trial": None},
        {**line, "key": 7},
        {"key": line["key"]},
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in [line, *more]) + '{"torn')
    assert TrialStore(path).find(candidate(), CPU) == measured(candidate().key, is_cached=True)


def test_what_counts_of_a_configuration_is_named(candidate):
    values = step_values(candidate().config, use_data=False)
    assert values["TRAIN.BATCH_SIZE"] == 2 and values["MODEL.VRT.NUM_HEADS"] == 2
    assert not [key for key in values if key.startswith(("LOG.", "TEST.", "DATALOADER.", "TRAIN.SCHED."))]
    with_data = step_values(candidate("DATA.ROOT=there").config, use_data=True)
    assert with_data["DATA.ROOT"].startswith("/") and with_data["DATALOADER.TRAIN_WORKERS"] == 1
