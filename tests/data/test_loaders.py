import itertools
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from deblurkit.data.clips import ClipKey, EvaluationClips, TrainingClips
from deblurkit.data.loaders import (
    FORKING,
    BatchStream,
    batches_per_epoch,
    clear_errors,
    evaluation_batches,
    evaluation_loader,
    training_loader,
)
from deblurkit.data.prefetch import LoadTimes, device_batches
from deblurkit.data.raw import as_clips
from deblurkit.data.sensor_noise import SensorNoise
from deblurkit.data.unified import open_dataset
from deblurkit.errors import DataError

CPU = torch.device("cpu")


def stream(num_clips=10, **options):
    return BatchStream(
        num_clips, **({"batch_size": 3, "seed": 5, "first_batch": 0, "num_batches": 9} | options)
    )


def test_an_epoch_takes_no_clip_twice():
    batches = list(stream())
    for epoch in range(3):
        taken = [key.clip for batch in batches[3 * epoch : 3 * epoch + 3] for key in batch]
        assert len(set(taken)) == 9
        assert {key.epoch for batch in batches[3 * epoch : 3 * epoch + 3] for key in batch} == {epoch}


def test_epochs_come_in_orders_of_their_own():
    batches = list(stream())
    assert batches[0:3] != [[key._replace(epoch=0) for key in batch] for batch in batches[3:6]]


def test_a_resumed_stream_goes_on_where_it_was():
    whole = list(stream(num_batches=9))
    assert list(stream(first_batch=4, num_batches=5)) == whole[4:]


def test_the_last_batch_of_an_epoch_may_be_smaller_where_asked():
    sizes = [len(batch) for batch in stream(drop_last=False, num_batches=4)]
    assert sizes == [3, 3, 3, 1]


def test_ranks_share_one_order_between_them():
    ranks = [list(stream(16, batch_size=2, rank=rank, world_size=2, num_batches=4)) for rank in range(2)]
    together = list(stream(16, batch_size=4, num_batches=4))
    for a, b, both in zip(*ranks, together, strict=True):
        assert set(a) | set(b) == set(both) and not set(a) & set(b)


def test_a_split_smaller_than_a_batch_is_refused():
    with pytest.raises(
        DataError, match="TRAIN.BATCH_SIZE: the training split holds 3 clips, fewer than a batch of 4"
    ):
        batches_per_epoch(3, batch_size=4, world_size=1, drop_last=True)
    assert batches_per_epoch(3, batch_size=4, world_size=1, drop_last=False) == 1


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # on two cores
@pytest.mark.parametrize("on_worker", [True, False])
@pytest.mark.parametrize("workers, done", [(1, 0), (2, 0), (4, 0), (0, 3), (2, 3)])
def test_content_and_order_do_not_depend_on_the_workers_or_on_a_resume(
    dataset_root, workers, done, on_worker
):
    """No worker, from the first batch; an epoch has four batches, so the third is in the middle of one."""

    def read(num_workers, first):
        clips = TrainingClips(
            open_dataset(dataset_root).sequences("train"),
            clip_length=2,
            crop_size=32,
            num_voxel_bins=4,
            seed=3,
            noise=SensorNoise(dropout=0.1),
            voxels_on_worker=on_worker,
        )
        batches = BatchStream(len(clips), batch_size=2, seed=3, first_batch=first, num_batches=6 - first)
        loader = training_loader(clips, batches, num_workers=num_workers, prefetch_factor=2, pin_memory=False)
        return list(device_batches(loader, device=CPU, num_voxel_bins=4, in_background=num_workers > 0))

    for alone, shared in zip(read(0, 0)[done:], read(workers, done), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_clips_of_one_group_follow_one_another_in_an_order_of_each_epoch():
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    batches = list(stream(9, groups=groups, num_batches=12))
    epochs = [[key.clip for batch in batches[3 * n : 3 * n + 3] for key in batch] for n in range(4)]
    for order in epochs:
        assert sorted(order) == list(range(9))
        assert [int(groups[clip]) for clip in order[::3]] == [int(groups[clip]) for clip in order[2::3]]
    assert len({tuple(int(groups[clip]) for clip in order[::3]) for order in epochs}) > 1
    assert any(order[:3] != sorted(order[:3]) for order in epochs)


def test_exposures_of_several_lengths_make_one_batch(dataset_root):
    """Voxels of each alone."""
    sequences = open_dataset(dataset_root).sequences("train")
    sequences[1].spike_frames_per_exposure -= 16
    options = {"clip_length": 2, "crop_size": 32, "num_voxel_bins": 4, "seed": 3}
    raw = TrainingClips(sequences, **options, voxels_on_worker=False)
    made = TrainingClips(sequences, **options)
    keys = [ClipKey(0, 0), ClipKey(0, len(raw) - 1)]
    (batch,) = training_loader(raw, [keys], num_workers=0, prefetch_factor=2, pin_memory=False)
    for mine, key in zip(as_clips(batch.clips, 4).spikes, keys, strict=True):
        assert torch.equal(mine, made[key].spikes)


def test_a_batch_says_what_its_samples_took(dataset_root, monkeypatch):
    """A clock that moves by a second whenever it is read."""
    ticks = itertools.count()
    monkeypatch.setattr("deblurkit.data.loaders.time.perf_counter", lambda: next(ticks))
    clips = TrainingClips(
        open_dataset(dataset_root).sequences("train"), clip_length=2, crop_size=32, num_voxel_bins=4, seed=3
    )
    keys = [[ClipKey(0, 0), ClipKey(0, 1)]]
    (batch,) = training_loader(clips, keys, num_workers=0, prefetch_factor=2, pin_memory=False)
    assert batch.load_seconds == 3  # two samples and their stacking
    times = LoadTimes()
    times.add(batch)
    times.add(batch)
    assert (times.seconds, times.samples) == (6, 4)


def test_a_loader_draws_nothing_from_the_run_s_random_state(dataset_root):
    clips = TrainingClips(
        open_dataset(dataset_root).sequences("train"), clip_length=2, crop_size=32, num_voxel_bins=4, seed=3
    )
    before = torch.get_rng_state()
    batches = BatchStream(len(clips), batch_size=2, seed=3, first_batch=0, num_batches=2)
    list(training_loader(clips, batches, num_workers=0, prefetch_factor=2, pin_memory=False))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_batches_hold_one_sequence_each(dataset_root):
    clips = EvaluationClips(open_dataset(dataset_root).sequences("train"), clip_length=2, num_voxel_bins=4)
    batches = evaluation_batches(clips, batch_size=2)
    assert batches == [[0, 1], [2], [3, 4], [5]]
    loader = evaluation_loader(clips, batches, num_workers=0, prefetch_factor=2, pin_memory=False)
    assert [batch.clips.blurry.shape[0] for batch in loader] == [2, 1, 2, 1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_one_line_from_a_worker_too(dataset_root, tmp_path, workers):
    root = shutil.copytree(dataset_root, tmp_path / "damaged")
    for path in root.glob("train/*/blur/*.png"):
        path.write_bytes(bytes(path.stat().st_size))
    clips = TrainingClips(
        open_dataset(root).sequences("train"), clip_length=2, crop_size=32, num_voxel_bins=4, seed=3
    )
    batches = BatchStream(len(clips), batch_size=2, seed=3, first_batch=0, num_batches=2)
    loader = training_loader(clips, batches, num_workers=workers, prefetch_factor=2, pin_memory=False)
    with pytest.raises(DataError) as caught:
        list(clear_errors(loader))
    assert str(caught.value).endswith("damaged: not a readable PNG") and "\n" not in str(caught.value)


def loader_of(kind, root):
    """Return a loader of clips of a kind, with one worker."""
    clips = kind(open_dataset(root).sequences("train"), clip_length=2, crop_size=32, num_voxel_bins=4, seed=3)
    batches = BatchStream(len(clips), batch_size=2, seed=3, first_batch=0, num_batches=2)
    return training_loader(clips, batches, num_workers=1, prefetch_factor=2, pin_memory=False)


class Deadly(TrainingClips):
    """Clips whose reading kills the process, as a machine out of memory does."""

    def __getitem__(self, key):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_named_with_what_to_lower(dataset_root):
    loader = loader_of(Deadly, dataset_root)
    with pytest.raises(DataError, match="a loader worker was killed.*DATALOADER.TOTAL_WORKERS"):
        list(clear_errors(loader))


def test_every_rank_has_as_many_clips_at_the_end_of_an_epoch():
    """Nine clips for four ranks: the last batch begins the epoch again where it is short."""
    ranks = [
        list(stream(9, batch_size=2, rank=r, world_size=4, num_batches=2, drop_last=False)) for r in range(4)
    ]
    assert [[len(batch) for batch in batches] for batches in ranks] == [[2, 1]] * 4
    assert {key.clip for batches in ranks for batch in batches for key in batch} == set(range(9))


def test_ranks_outnumber_the_clips():
    """One clip for four ranks: each has it."""
    ranks = [
        list(stream(1, batch_size=1, rank=r, world_size=4, num_batches=2, drop_last=False)) for r in range(4)
    ]
    assert [[[key.clip for key in batch] for batch in batches] for batches in ranks] == [[[0], [0]]] * 4


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_are_forked_while_no_thread_of_ours_works(dataset_root, monkeypatch, workers):
    states, original = [], DataLoader.__iter__
    monkeypatch.setattr(
        DataLoader, "__iter__", lambda self: states.append(FORKING.locked()) or original(self)
    )
    clips = TrainingClips(
        open_dataset(dataset_root).sequences("train"), clip_length=2, crop_size=32, num_voxel_bins=4, seed=3
    )
    keys = [[ClipKey(0, 0)]]
    (batch,) = training_loader(clips, keys, num_workers=workers, prefetch_factor=2, pin_memory=False)
    assert states == [workers > 0] and not FORKING.locked()


class Failing(TrainingClips):
    """Clips that cannot be read for a reason of their own."""

    def __getitem__(self, key):
        raise RuntimeError("the real reason")


def test_what_goes_wrong_in_a_worker_is_not_taken_for_a_kill(dataset_root):
    loader = loader_of(Failing, dataset_root)
    with pytest.raises(RuntimeError, match="the real reason"):
        list(clear_errors(loader))


def test_a_full_dev_shm_is_named():
    def full():
        raise RuntimeError("unable to write to file </torch_1>: No space left on device (28)")
        yield

    with pytest.raises(DataError, match="do not fit into /dev/shm; enlarge it"):
        list(clear_errors(full()))


def test_other_errors_are_not_touched():
    def broken():
        raise RuntimeError("a fault of ours")
        yield

    with pytest.raises(RuntimeError, match="a fault of ours"):
        list(clear_errors(broken()))


class Slow(TrainingClips):
    """Clips that say that they are being read, and take a while."""

    def __getitem__(self, key):
        time.sleep(0.2)
        return super().__getitem__(key)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_worker_does_not_heed_the_signals_that_a_batch_system_sends_to_all(dataset_root, number):
    """Here one that is not its parent sends them; its parent still ends it."""
    loader = iter(loader_of(Slow, dataset_root))
    next(loader)
    (worker,) = loader._workers
    subprocess.run(["kill", f"-{number}", str(worker.pid)], check=True)
    next(loader)
    assert worker.is_alive()
    os.kill(worker.pid, signal.SIGTERM)  # of its parent
    worker.join(timeout=20)
    assert worker.exitcode == 0
