from dataclasses import replace

import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning.recommend.loading import Loading
from deblurkit.tuning.recommend.loading_plan import plan_loading

GIB = 2**30
PNG = Loading(
    seconds=0.25,
    cached_seconds=0.01,
    clips=8,
    num_clips=2000,
    storage="png",
    decoded_bytes=16 * GIB,
    packed_bytes=26 * GIB,
)


@pytest.fixture
def plan():
    """Return a function that plans for steps of 6 clips on a machine of 40 CPUs."""

    def make(*overrides, loading=PNG, **settings):
        config = load_config("baseline", None, overrides, warn=lambda text: None)
        usual = {"step_seconds": 1.0, "clips_per_step": 6, "devices": 1, "cpus": 40, "host_room": None}
        return plan_loading(config, loading, **(usual | settings))

    return make


def test_workers_keep_up_with_the_steps_with_a_quarter_to_spare(plan):
    found = plan()
    # 0.25 s x 6 clips/s x 1.25 = 1.875 cores
    assert found.settings == {"DATALOADER.TRAIN_WORKERS": 2} and found.workers_needed == 2
    (line,) = found.words
    assert "250 ms of a core for a clip (measured on 8 clips) x 6 clips/s of a device x 1.25 = 1.88" in line
    assert line.endswith("2 workers")


def test_several_devices_share_the_clips_and_the_cpus(plan):
    found = plan(clips_per_step=48, devices=4)
    assert found.workers_needed == 4  # 0.25 x 12 x 1.25 = 3.75
    assert plan(clips_per_step=480, devices=4, host_room=0).settings["DATALOADER.TRAIN_WORKERS"] == 8


def test_where_workers_do_not_suffice_frames_are_cached(plan):
    found = plan(step_seconds=0.05)  # 120 clips/s: 37.5 cores of 32; out of the cache 1.5
    assert found.settings == {
        "DATA.USE_RAM_CACHE": True,
        "DATA.CACHE_SIZE_GB": 16.0,
        "DATALOADER.TRAIN_WORKERS": 2,
    }
    assert "38 workers, and there are CPUs for 32 (80% of 40)" in found.words[0]
    assert "node cache of 16 GiB: 10.0 ms" in found.words[1] and len(found.words) == 2


def test_a_cache_takes_half_of_the_memory_at_most_and_then_helps_as_much_as_it_holds(plan):
    found = plan(step_seconds=0.05, host_room=16 * GIB)
    assert found.settings["DATA.CACHE_SIZE_GB"] == 8.0
    # half of the frames: (0.01 + 0.25) / 2 x 120 x 1.25 = 19.5
    assert found.workers_needed == found.settings["DATALOADER.TRAIN_WORKERS"] == 20
    row = next(row for row in found.rows if "node cache" in row.name)
    assert row.source == "predicted" and "50.0 % of the frames" in row.name


def test_without_memory_there_is_no_cache_and_what_is_lost_is_told(plan):
    found = plan(step_seconds=0.05, host_room=0)
    assert found.settings["DATALOADER.TRAIN_WORKERS"] == 32 and found.workers_needed == 38
    assert "DATA.USE_RAM_CACHE" not in found.settings
    packing = found.words[1]
    assert (
        "deblurkit prepare-data pack" in packing
        and "26.00 GiB on a disk" in packing
        and "2 workers" in packing
    )
    # at 120 clips/s 30 cores are just enough, and there are 32: nothing is lost yet
    assert len(found.words) == 2
    slow = plan(step_seconds=0.025, host_room=0)
    assert (
        slow.words[-1] == "loading holds the steps back: 53.3 % of the clips that they could take"
    )  # 32 / 60


def test_every_way_has_a_row_with_what_all_workers_of_the_machine_give(plan):
    png, cache, packed = plan(step_seconds=0.05).rows
    assert (png.name, png.workers, png.source, png.is_enough) == ("PNG files", 32, "measured", False)
    assert png.clips_per_second == pytest.approx(32 / 0.25)
    assert (cache.workers, cache.source, cache.is_enough) == (2, "measured", True)
    assert (packed.name, packed.source) == ("packed dataset", "predicted")
    assert packed.clips_per_second == pytest.approx(2 / 0.01)
    two = plan(step_seconds=0.05, devices=2).rows[0]
    assert (two.workers, two.clips_per_second) == (16, pytest.approx(2 * 16 / 0.25))


def test_a_packed_dataset_needs_no_cache(plan):
    packed = replace(PNG, storage="packed", seconds=0.001, cached_seconds=None)
    found = plan(loading=packed)
    assert found.settings == {"DATALOADER.TRAIN_WORKERS": 1}
    assert [row.name for row in found.rows] == ["packed dataset"] and found.rows[0].source == "measured"


def test_a_cache_that_the_user_has_set_stays_as_it_is(plan):
    found = plan("DATA.USE_RAM_CACHE=true", "DATA.CACHE_SIZE_GB=8", host_room=100 * GIB)
    assert found.settings == {"DATALOADER.TRAIN_WORKERS": 1}  # 0.13 x 6 x 1.25 = 0.975
    assert found.rows[0].name == "node cache of 8 GiB, 50.0 % of the frames"


def test_a_cache_that_could_not_be_measured_counts_as_empty(plan):
    found = plan("DATA.USE_RAM_CACHE=true", loading=replace(PNG, cached_seconds=None))
    assert found.settings == {"DATALOADER.TRAIN_WORKERS": 2}
    assert [row.name for row in found.rows] == ["PNG files, the cache still empty"]


def test_fewer_batches_wait_where_memory_is_short(plan):
    clip = ["DATA.CLIP_LEN=4", "DATA.CROP_SIZE=256", "DATA.NUM_VOXEL_BINS=32", "TRAIN.BATCH_SIZE=1"]
    clip += ["DATA.TRAIN_CROP_SIZE=null", "DATA.TRAIN_CLIP_LEN=null", "DATA.VOXELS_ON=worker"]
    # a clip: 4 frames x (2 x 3 x 256 x 256 + 4 x 32 x 128 x 128) bytes = 9.5 MiB
    size = 4 * (2 * 3 * 256**2 + 4 * 32 * 128**2)
    # 2 workers: 2 x 4 + 4 taken wait at factor 4, 2 x 2 + 4 at 2, 2 x 1 + 4 at 1; a quarter of what is there
    for waiting, factor in ((12, None), (8, 2), (6, 1), (3, 1)):
        found = plan(*clip, "DATALOADER.TRAIN_PREFETCH_FACTOR=4", host_room=4 * waiting * size)
        assert found.settings.get("DATALOADER.TRAIN_PREFETCH_FACTOR") == factor


def test_one_cpu_has_one_worker(plan):
    assert plan(cpus=1, step_seconds=10.0).settings["DATALOADER.TRAIN_WORKERS"] == 1
