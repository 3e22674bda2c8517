import pickle

import numpy as np
import pytest

from deblurkit.cache.node_cache import NodeCache
from deblurkit.data.clips import ClipKey, TrainingClips
from deblurkit.data.frames import Window
from deblurkit.data.unified import open_dataset

OPTIONS = {"clip_length": 2, "crop_size": 32, "num_voxel_bins": 4, "seed": 3}


@pytest.fixture
def cache(tmp_path):
    cache = NodeCache.join("test", max_bytes=2**22, root=tmp_path)
    yield cache
    cache.close()


def test_cached_frames_are_the_decoded_ones(dataset_root, cache):
    plain = open_dataset(dataset_root).sequences("train")
    cached = open_dataset(dataset_root).sequences("train", cache=cache)
    window = Window(3, 5, 20, 31)
    for _ in range(2):
        for mine, other in zip(cached, plain, strict=True):
            for t in range(other.num_frames):
                assert np.array_equal(mine.read_blurry(t), other.read_blurry(t))
                assert np.array_equal(mine.read_sharp(t, window), other.read_sharp(t, window))
    stats = cache.stats()
    assert (stats.items, stats.misses, stats.hits) == (20, 20, 20)


def test_a_frame_is_decoded_once_for_all_that_crop_it(dataset_root, cache, monkeypatch):
    decoded = []
    sequence = open_dataset(dataset_root).sequences("train", cache=cache)[0]
    read = sequence.frames._frames.read
    monkeypatch.setattr(
        sequence.frames._frames,
        "read",
        lambda kind, index: decoded.append((kind, index)) or read(kind, index),
    )
    for top in range(4):
        sequence.read_blurry(1, Window(top, 0, 8, 8))
    assert decoded == [("blur", 1)]


def test_samples_by_way_of_a_cache_are_the_same_in_a_worker_too(dataset_root, cache):
    plain = TrainingClips(open_dataset(dataset_root).sequences("train"), **OPTIONS)
    cached = TrainingClips(open_dataset(dataset_root).sequences("train", cache=cache), **OPTIONS)
    sent = pickle.loads(pickle.dumps(cached))  # as a worker that is not forked gets it
    for epoch in range(3):
        for clips in (cached, sent):
            for mine, other in zip(clips[ClipKey(epoch, 1)], plain[ClipKey(epoch, 1)], strict=True):
                assert np.array_equal(mine, other)


def test_its_figures_are_printed_in_the_form_of_the_seeds(dataset_root, cache, capsys):
    clips = TrainingClips(open_dataset(dataset_root).sequences("train", cache=cache), **OPTIONS)
    clips[ClipKey(0, 0)]
    clips[ClipKey(1, 0)]
    clips.print_cache_stats()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[SpikeDeblurDataset] Cache Stats:" and lines[1] == "  - Size: 4 items"
    assert lines[3] == "  - Hit Rate: 50.00% (4 hits / 4 misses)"
    TrainingClips(open_dataset(dataset_root).sequences("train"), **OPTIONS).print_cache_stats()
    assert capsys.readouterr().out == "no cache\n"
