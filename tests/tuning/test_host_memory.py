"""Predictions against sums by hand; against real runs see benchmarks/host_memory.py."""

import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning import host_memory
from deblurkit.tuning.host_memory import HostMemory, HostRow, predict_host
from deblurkit.tuning.overheads import MemoryRow
from deblurkit.tuning.step_memory import StepMemory
from deblurkit.units import GIB, MIB

# 4 clips of 3 frames: crops of 64 and their voxels, 9 bins at half the size; a clip of frames of 96 x 128.
CROPS = 4 * 3 * (2 * 3 * 64 * 64 + 4 * 9 * 32 * 32)
FRAMES = 3 * (2 * 3 * 96 * 128 + 4 * 9 * 48 * 64)
SHAPE = (96, 128)


def config(*overrides):
    return load_config("quickstart", None, list(overrides), warn=lambda text: None)


def workers(train, val=0, *, prefetch=2):
    return (
        f"DATALOADER.TRAIN_WORKERS={train}",
        f"DATALOADER.VAL_WORKERS={val}",
        f"DATALOADER.TRAIN_PREFETCH_FACTOR={prefetch}",
    )


def by_name(memory):
    return {row.name: row for row in memory.rows}


def step_of(*, validation=None, **held):
    """A step whose owners hold so many bytes at its peak."""
    rows = tuple(MemoryRow(name.replace("_", " "), count, "by hand") for name, count in held.items())
    phases = {"backward": sum(held.values())} | ({} if validation is None else {"validation": validation})
    return StepMemory("cpu", "by hand", (4, 3, 3, 64, 64), rows, (), phases, ())


def test_every_kind_of_memory_has_its_sum():
    rows = (
        HostRow("a", 10, 3, "private", ""),
        HostRow("b", 7, 2, "shared memory", ""),
        HostRow("c", 5, 1, "pinned", ""),
        HostRow("d", 100, 1, "page cache", ""),
    )
    memory = HostMemory(rows, world_size=1, workers=2)
    assert [row.bytes for row in rows] == [30, 14, 5, 100]
    assert memory.needed_bytes == 49
    assert (memory.shm_bytes, memory.pinned_bytes, memory.reclaimable_bytes) == (14, 5, 100)


@pytest.mark.parametrize("ranks", [1, 3])
def test_batches_wait_in_shared_memory_on_a_cpu(ranks):
    row = by_name(predict_host(config(*workers(3)), world_size=ranks))["training batches"]
    assert row.each_bytes == CROPS
    assert row.count == ranks * (3 * 2 + 2 + 2)  # ready; ahead of the step; in hand, and in the step
    assert row.kind == "shared memory"


def test_a_gpu_has_bits_pinned_in_powers_of_two():
    memory = predict_host(config(*workers(3)), device_kind="cuda")
    images, bits = 4 * 3 * 3 * 64 * 64, 4 * 3 * 72 * 32 * 5  # a row of 32 pixels may begin within a byte
    assert (images, bits) == (147_456, 138_240)
    pinned = by_name(memory)["training batches, pinned"]
    assert (pinned.each_bytes, pinned.count, pinned.kind) == (3 * 2**18, 3 * 2 + 1, "pinned")
    waiting = by_name(memory)["training batches"]
    assert (waiting.each_bytes, waiting.count) == (2 * images + bits, 3 + 1)
    assert memory.pinned_bytes == 7 * 3 * 2**18


def test_a_gpu_without_pinning_has_its_batches_in_shared_memory():
    chosen = config(*workers(3), "DATALOADER.PIN_MEMORY=false")
    memory = predict_host(chosen, device_kind="cuda")
    assert memory.pinned_bytes == 0 and by_name(memory)["training batches"].count == 3 * 2 + 1


def test_the_cache_is_there_once_and_the_seeds_count_it_for_every_worker():
    chosen = config(*workers(5, 2), "DATA.USE_RAM_CACHE=true", "DATA.CACHE_SIZE_GB=2.5")
    memory = predict_host(chosen, world_size=4)
    cache = by_name(memory)["node cache"]
    assert (cache.bytes, cache.count, cache.kind) == (2.5 * GIB, 1, "shared memory")
    assert memory.workers == 5  # the validation comes at the end, when those are gone
    assert memory.naive_bytes - memory.needed_bytes == (4 * 5 - 1) * 2.5 * GIB
    assert predict_host(config(*workers(5))).naive_bytes == predict_host(config(*workers(5))).needed_bytes


def test_the_seeds_worst_case():
    """290 GB in each of 108 workers are 31 TB."""
    settings = ("DATA.USE_RAM_CACHE=true", f"DATA.CACHE_SIZE_GB={290e9 / GIB}")
    memory = predict_host(config(*workers(36), *settings), world_size=3)
    assert memory.naive_bytes - memory.needed_bytes == pytest.approx(290e9 * 107, rel=1e-6)
    assert memory.naive_bytes == pytest.approx(31.3e12, rel=0.01)


def test_a_cache_takes_no_more_than_all_frames_in_whole_pages():
    chosen = config(*workers(1), "DATA.USE_RAM_CACHE=true")
    found = predict_host(chosen, frame_shape=(95, 127), num_frames=10)
    assert by_name(found)["node cache"].bytes == 2 * 10 * 9 * 4096  # 36,195 bytes a frame


def test_a_packed_dataset_is_page_cache_and_needs_no_other():
    chosen = config(*workers(1), "DATA.USE_RAM_CACHE=true")
    bare = predict_host(config(*workers(1)), frame_shape=SHAPE, storage="packed")
    memory = predict_host(chosen, frame_shape=SHAPE, num_frames=10, storage="packed")
    assert memory.reclaimable_bytes == 10 * (2 * 3 * 96 * 128 + 72 * 48 * 64 // 8)
    assert memory.needed_bytes == bare.needed_bytes and "node cache" not in by_name(memory)


def test_a_validation_meanwhile_finds_the_workers_of_training():
    chosen = config(*workers(4, 2), "LOG.VAL_EVERY_STEPS=10")
    memory = predict_host(chosen, frame_shape=SHAPE)
    assert memory.workers == 6
    assert by_name(memory)["training workers"].count == 4
    assert by_name(memory)["validation workers"].count == 2
    row = by_name(memory)["validation batches"]
    assert row.each_bytes == FRAMES and row.count == 2 * 2 + 2


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((), 4),  # quickstart validates at the end alone
        (("LOG.VAL_EVERY_STEPS=800",), 4),  # which is its last step
        (("LOG.QUICK_VAL_EVERY_STEPS=10",), 6),
        (("LOG.METRICS_EVERY_EPOCHS=1",), 6),
        (("LOG.PICTURES_EVERY_EPOCHS=1",), 6),
    ],
)
def test_workers_that_live_at_once(more, expected):
    assert predict_host(config(*workers(4, 2), *more), frame_shape=SHAPE).workers == expected


def test_a_validation_at_the_end_counts_where_it_takes_more():
    chosen = config(*workers(1, 3))
    memory = predict_host(chosen, frame_shape=(1920, 2560))
    assert memory.workers == 3 and "training workers" not in by_name(memory)


def test_windows_of_a_tile_are_whole_frames():
    chosen = config(*workers(1, 3), "TEST.TILE=[2, 64, 64]")
    row = by_name(predict_host(chosen, frame_shape=(1920, 2560)))["validation batches"]
    assert row.each_bytes == 2 * (2 * 3 * 1920 * 2560 + 4 * 9 * 960 * 1280)


def test_the_tensors_of_a_step_are_in_ram_on_a_cpu():
    step = step_of(parameters=30 * MIB, activations=400 * MIB)
    alone = predict_host(config(*workers(0)), step=step)
    rows = by_name(alone)
    assert rows[host_memory.STEP].bytes == 430 * MIB
    assert host_memory.BEFORE_FORK not in rows and "training batches" not in rows
    both = by_name(predict_host(config(*workers(2)), step=step, world_size=2))
    assert both[host_memory.STEP].each_bytes == 430 * MIB - CROPS  # which lies in shared memory
    assert both[host_memory.STEP].count == 2
    assert both[host_memory.BEFORE_FORK].bytes == 2 * 30 * MIB
    assert host_memory.STEP not in by_name(predict_host(config(), step=step, device_kind="cuda"))


def test_workers_of_a_validation_keep_what_it_writes_on():
    """30 MiB stay; of 400 that a step has freed, a validation of 130 writes on 2 x 100 and on their gaps."""
    step = step_of(parameters=30 * MIB, activations=400 * MIB, validation=130 * MIB)
    held = by_name(
        predict_host(config(*workers(2, 1), "LOG.VAL_EVERY_STEPS=5"), step=step, frame_shape=SHAPE)
    )
    assert held[host_memory.BEFORE_VALIDATION].bytes == int(1.9 * 200 * MIB)
    without = by_name(predict_host(config("LOG.VAL_EVERY_STEPS=5"), step=step, frame_shape=SHAPE))
    assert host_memory.BEFORE_VALIDATION not in without


def test_a_checkpoint_that_is_read_back_counts_where_it_is_most():
    """On a GPU there are no activations in RAM whose place it could take."""
    step = step_of(parameters=GIB, optimiser_states=2 * GIB, activations=9 * GIB)
    memory = predict_host(config(*workers(1)), step=step, device_kind="cuda")
    assert by_name(memory)[host_memory.READ_BACK].bytes == 3 * GIB and memory.workers == 0
    on_cpu = predict_host(config(*workers(1)), step=step)
    assert host_memory.READ_BACK not in by_name(on_cpu)


def test_rank_0_gathers_shards():
    step = step_of(parameters=MIB, optimiser_states=2 * MIB)
    chosen = config("TRAIN.PARALLEL=fsdp")
    assert by_name(predict_host(chosen, step=step, world_size=2))[host_memory.GATHERED].bytes == 3 * MIB
    assert host_memory.GATHERED not in by_name(predict_host(chosen, step=step))


def test_processes_are_counted_as_they_are_started():
    one, three = by_name(predict_host(config())), by_name(predict_host(config(), world_size=3))
    assert host_memory.LAUNCHER not in one and three[host_memory.LAUNCHER].count == 1
    assert one[host_memory.INTERPRETER].count == 1 and three[host_memory.INTERPRETER].count == 3
    assert three[host_memory.CODE] == one[host_memory.CODE]


def test_workers_in_parts_of_the_cpus():
    memory = predict_host(config("DATALOADER.TRAIN_WORKERS=auto"), world_size=2, cpus=40)
    assert memory.workers == 16  # 80 % of 40, shared by 2


def test_lpips_takes_the_place_of_what_a_step_has_freed():
    chosen = config("LOG.METRICS_EVERY_EPOCHS=1")
    small, large = step_of(parameters=MIB), step_of(parameters=MIB, activations=GIB)
    tight = by_name(predict_host(chosen, step=small, frame_shape=SHAPE))[host_memory.METRIC]
    roomy = by_name(predict_host(chosen, step=large, frame_shape=SHAPE))[host_memory.METRIC]
    assert 9.8e6 < roomy.bytes < 10e6  # AlexNet's 2.47 M weights
    assert tight.bytes > roomy.bytes


def test_nothing_is_made_up_of_what_is_not_known():
    names = by_name(predict_host(config(*workers(1, 1), "LOG.VAL_EVERY_STEPS=5")))
    assert not [name for name in names if "validation" in name] and host_memory.STEP not in names
