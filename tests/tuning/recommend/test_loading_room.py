"""Plans held against a machine on which a worker takes 10 bytes, a batch ahead 1 each, and a cache 50."""

import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning.recommend.loading_plan import LoadingPlan
from deblurkit.tuning.recommend.loading_room import within_host
from deblurkit.tuning.recommend.records import Candidate
from deblurkit.tuning.recommend.space_memory import CandidateMemory


def held_by(config):
    loader = config.dataloader
    return loader.train_workers * (10 + loader.train_prefetch_factor) + 50 * config.data.use_ram_cache


def predict(candidates):
    return {each.key: CandidateMemory(1, 1, held_by(each.config)) for each in candidates}


@pytest.fixture
def within():
    """Return a function that holds a plan of workers against a bound; the start has one, with 4 batches."""
    keys = ["DATALOADER.TRAIN_WORKERS=1", "DATALOADER.TRAIN_PREFETCH_FACTOR=4"]
    config = load_config("quickstart", None, keys, warn=lambda text: None)

    def make(host_bytes, *, predict=predict, **settings):
        plan = LoadingPlan(settings, 16, ("the plan",), ())
        return within_host(plan, Candidate({}, config, {}), host_bytes=host_bytes, predict=predict)

    return make


WORKERS, PREFETCH, CACHE = (
    "DATALOADER.TRAIN_WORKERS",
    "DATALOADER.TRAIN_PREFETCH_FACTOR",
    "DATA.USE_RAM_CACHE",
)


@pytest.mark.parametrize("there", [None, 16 * 14])
def test_a_plan_that_fits_stays(within, there):
    found = within(there, **{WORKERS: 16})
    assert (found.plan.settings, found.plan.words) == ({WORKERS: 16}, ("the plan",))
    assert found.host_bytes == 16 * 14


def test_workers_are_fewer_until_they_fit(within):
    found = within(100, **{WORKERS: 16})
    assert found.plan.settings == {WORKERS: 6}  # by eighths of 16: 6 x 14 = 84, and 8 x 14 = 112
    assert found.host_bytes == 84
    assert found.plan.words[1] == (
        "with 16 workers the run would hold 224 B of the machine, 100 B are there;"
        " with 6 workers it holds 84 B"
    )


def test_few_workers_are_fewer_one_by_one(within):
    assert [within(14 * most, **{WORKERS: 4}).plan.settings[WORKERS] for most in (4, 3, 2, 1)] == [4, 3, 2, 1]


def test_then_fewer_batches_wait(within):
    found = within(12, **{WORKERS: 3})
    assert found.plan.settings == {WORKERS: 1, PREFETCH: 2}
    assert found.plan.words[1].endswith("with 1 worker, 2 batches ahead, it holds 12 B")


def test_without_room_for_the_planned_cache_loading_stays_as_it_is(within):
    found = within(20, **{WORKERS: 3, CACHE: True})
    assert (found.plan.settings, found.host_bytes) == ({}, 14)
    assert found.plan.words[1].endswith("with loading as it is it holds 14 B")


def test_what_is_not_known_is_not_taken(within):
    def unknown(candidates):
        return {each.key: CandidateMemory(None, None, None, "no prediction") for each in candidates}

    assert within(10**6, predict=unknown, **{WORKERS: 3}).plan.settings == {}
    assert within(None, predict=unknown, **{WORKERS: 3}).plan.settings == {WORKERS: 3}
