import numpy as np
import pytest
import torch

from deblurkit.data import clips as clips_module
from deblurkit.data.clips import ClipKey, EvaluationClips, TrainingClips, spike_ratio
from deblurkit.data.unified import open_dataset
from deblurkit.errors import DataError


@pytest.fixture
def sequences(dataset_root):
    return open_dataset(dataset_root).sequences("train")


def training(sequences, **options):
    chosen = {"clip_length": 3, "crop_size": 32, "num_voxel_bins": 4, "seed": 7} | options
    return TrainingClips(sequences, **chosen)


def test_every_run_of_frames_is_a_clip(sequences):
    assert len(training(sequences)) == 2 * (5 - 3 + 1)


def test_a_clip_has_the_shapes_that_it_says(sequences):
    clip = training(sequences)[ClipKey(0, 0)]
    assert clip.blurry.shape == clip.sharp.shape == (3, 3, 32, 32)
    assert clip.blurry.dtype == clip.sharp.dtype == torch.uint8
    assert clip.spikes.shape == (3, 4, 16, 16)
    assert clip.spikes.min() >= 0 and clip.spikes.max() <= 1


def test_a_sample_depends_on_seed_epoch_and_clip_and_on_nothing_else(sequences):
    first, second = training(sequences), training(sequences)
    _ = first[ClipKey(0, 3)]
    assert all(torch.equal(a, b) for a, b in zip(first[ClipKey(2, 1)], second[ClipKey(2, 1)], strict=True))


def test_epochs_and_seeds_augment_differently(sequences):
    clips = training(sequences)
    epochs = [clips[ClipKey(epoch, 0)].blurry for epoch in range(6)]
    assert any(not torch.equal(epochs[0], other) for other in epochs[1:])
    assert any(
        not torch.equal(clips[ClipKey(e, 0)].blurry, training(sequences, seed=8)[ClipKey(e, 0)].blurry)
        for e in range(4)
    )


def marked(size=8, bins=4, frames=3):
    """Frames and spikes that carry their own coordinates, so that any mismatch shows."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(size), np.arange(size), indexing="ij")
    frame = np.stack([t, y, x], axis=-1).astype(np.uint8)
    half = np.stack([frame[:, ::2, ::2, c] // (1 if c == 0 else 2) for c in range(3)])  # (3, T, h, w)
    half = half.astype(int)
    code = half[0] * 100 + half[1] * 10 + half[2]
    spikes = np.stack([code + 1000 * k for k in range(bins)], axis=1).astype(np.float32)
    return frame, spikes


@pytest.mark.parametrize("draw", range(16))
def test_frames_and_spikes_are_flipped_turned_and_reversed_alike(draw):
    class Fixed:
        def random(self, count):
            return np.array([0.0 if draw >> bit & 1 else 0.9 for bit in range(count)])

    frame, spikes = marked()
    blurry, voxels, sharp = clips_module._augment(frame, spikes, frame, rng=Fixed())
    assert np.array_equal(blurry, sharp)
    # A spike pixel covers a 2x2 patch of frame pixels: their coordinates, halved, must be the spike's.
    t, y, x = (blurry[:, ::2, ::2, c].astype(int) // (1 if c == 0 else 2) for c in range(3))
    backwards = draw >> 3 & 1
    order = range(3, -1, -1) if backwards else range(4)
    for k, source in enumerate(order):
        assert np.array_equal(voxels[:, k], t * 100 + y * 10 + x + 1000 * source)


def test_crops_of_frames_and_spikes_are_of_one_place(dataset_root, monkeypatch):
    sequence = open_dataset(dataset_root).sequences("train")[0]
    places = []
    monkeypatch.setattr(
        type(sequence),
        "read_blurry",
        lambda self, t: np.indices((48, 64), dtype=np.uint8).transpose(1, 2, 0).repeat(2, 2)[..., 1:],
    )
    monkeypatch.setattr(
        type(sequence),
        "read_spikes",
        lambda self, t, *, top, left, height, width: (
            places.append((top, left)) or np.zeros((8, height, width), dtype=np.uint8)
        ),
    )
    clips = training([sequence], clip_length=2)
    monkeypatch.setattr(clips_module, "_augment", lambda *arrays, rng: arrays)
    for epoch in range(10):
        corner = clips[ClipKey(epoch, 0)].blurry[0, :, 0, 0].tolist()
        assert (2 * places[-1][0], 2 * places[-1][1]) == (corner[0], corner[1])


def test_a_clip_longer_than_any_sequence_is_refused(sequences):
    with pytest.raises(DataError, match=r"DATA.CLIP_LEN: no sequence has 6 frames \(the longest has 5\)"):
        training(sequences, clip_length=6)


@pytest.mark.parametrize("size", [64, 31])
def test_a_crop_that_does_not_fit_is_refused_with_one_that_does(sequences, size):
    with pytest.raises(DataError, match=r"try --set DATA.CROP_SIZE=(\d+)") as caught:
        training(sequences, crop_size=size)
    training(sequences, crop_size=int(str(caught.value).rsplit("=", 1)[1]))


def test_sizes_in_no_whole_ratio_are_refused(sequences):
    sequence = sequences[0]
    sequence.spike_shape = (20, 32)
    with pytest.raises(DataError, match="in no whole ratio"):
        spike_ratio(sequence)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 9])
def test_evaluation_covers_every_frame_once_in_order(dataset_root, length):
    clips = EvaluationClips(
        open_dataset(dataset_root).sequences("train"), clip_length=length, num_voxel_bins=4
    )
    kept = [(part.sequence, frame) for part in clips.parts for frame in range(part.keep_from, part.stop)]
    assert kept == [(sequence, frame) for sequence in range(2) for frame in range(5)]
    assert {part.stop - part.start for part in clips.parts} == {min(length, 5)}
    assert clips[0].blurry.shape[-2:] == (48, 64)
