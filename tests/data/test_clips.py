import itertools

import numpy as np
import pytest
import torch

from deblurkit.data import clips as clips_module
from deblurkit.data.clips import ClipKey, EvaluationClips, TrainingClips, spike_ratio
from deblurkit.data.raw import COUNTED, RawClip, View, as_clip, as_clips, stack_raw
from deblurkit.data.reconstruct import voxels
from deblurkit.data.sensor_noise import SensorNoise
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
    """Frames (T, H, W, 3) and voxels that carry their own coordinates, so that any mismatch shows."""
    t, y, x = torch.meshgrid(torch.arange(frames), torch.arange(size), torch.arange(size), indexing="ij")
    frame = torch.stack([t, y, x], dim=-1).to(torch.uint8)
    code = t[:, ::2, ::2] * 64 + y[:, ::2, ::2] // 2 * 8 + x[:, ::2, ::2] // 2
    return frame, torch.stack([code + 256 * k for k in range(bins)], dim=1).to(torch.int16)


@pytest.mark.parametrize("turns", list(itertools.product((0, 1), repeat=4)))
def test_frames_and_spikes_are_flipped_turned_and_reversed_alike(turns):
    frame, counts = marked()
    raw = RawClip(frame, counts, frame, torch.tensor(View(1, 4, COUNTED, *turns)))
    clip = as_clip(raw, 4)
    assert torch.equal(clip.blurry, clip.sharp)
    # A spike pixel covers a 2x2 patch of frame pixels: their coordinates, halved, must be the spike's.
    t, y, x = (clip.blurry[:, c, ::2, ::2].long() // (1 if c == 0 else 2) for c in range(3))
    upside_down, mirrored, transposed, backwards = turns
    for k, source in enumerate(range(3, -1, -1) if backwards else range(4)):
        assert torch.equal(clip.spikes[:, k].long(), t * 64 + y * 8 + x + 256 * source)
    first = clip.blurry[0, :, 0, 0].tolist()
    assert first == [2 if backwards else 0, 7 if upside_down else 0, 7 if mirrored else 0]
    assert clip.blurry[0, 1 if transposed else 2, 0, 0] != clip.blurry[0, 1 if transposed else 2, 0, 7]


def test_crops_of_frames_and_spikes_are_of_one_place(sequences, monkeypatch):
    """Frames and spikes as the files hold them, cut at the corner that the window says."""
    windows = []
    chosen = clips_module._random_window
    monkeypatch.setattr(
        clips_module, "_random_window", lambda *given: windows.append(chosen(*given)) or windows[-1]
    )
    clips = training(sequences, clip_length=2, voxels_on_worker=False)
    for epoch in range(10):
        raw = clips[ClipKey(epoch, 1)]  # frames 1 and 2 of the first sequence
        top, left, height, width = windows[-1]
        whole = sequences[0].read_blurry(2)
        assert np.array_equal(raw.blurry[1], whole[top : top + height, left : left + width])
        spikes = sequences[0].read_spikes(2)[
            :, top // 2 : (top + height) // 2, left // 2 : (left + width) // 2
        ]
        assert np.array_equal(as_clip(raw._replace(view=plain(raw.view)), 4).spikes[1], voxels(spikes, 4))
    assert len({window[:2] for window in windows}) > 3


def plain(view):
    """A view without its turns."""
    return torch.tensor(View(*view.tolist()[:3]))


def test_clips_made_on_the_worker_and_by_whoever_takes_them_are_the_same(sequences):
    on_worker, raw = training(sequences), training(sequences, voxels_on_worker=False)
    keys = [ClipKey(epoch, epoch % 6) for epoch in range(8)]
    together = as_clips(stack_raw([raw[key] for key in keys]), 4)
    for number, key in enumerate(keys):
        for mine, other in zip(on_worker[key], together, strict=True):
            assert torch.equal(mine, other[number])


def test_crops_grow_with_the_epochs(sequences):
    clips = training(sequences, crop_size=16, later_crops=[(2, 32), (3, 48)])
    assert [clips[ClipKey(epoch, 0)].sharp.shape[-1] for epoch in range(5)] == [16, 16, 32, 48, 48]
    with pytest.raises(DataError, match="a crop of 64 does not fit"):
        training(sequences, crop_size=16, later_crops=[(2, 64)])


def test_clips_grow_with_the_epochs_and_are_as_many_in_each(sequences):
    """Runs of four of five frames: two of each sequence, whatever the length of the epoch."""
    clips = training(sequences, clip_length=2, later_lengths=[(1, 3), (4, 4)])
    assert len(clips) == 2 * 2
    lengths = [clips[ClipKey(epoch, 3)].sharp.shape[0] for epoch in range(6)]
    assert lengths == [2, 3, 3, 3, 4, 4]
    assert [clips[ClipKey(epoch, 3)].spikes.shape[0] for epoch in range(6)] == lengths
    with pytest.raises(DataError, match="DATA.CLIP_LEN: no sequence has 6 frames"):
        training(sequences, clip_length=2, later_lengths=[(1, 6)])


def test_a_shorter_clip_lies_anywhere_in_its_run(sequences, monkeypatch):
    """Run 1 of the first sequence has frames 1 to 4: two of them begin at 1, 2 or 3."""
    taken = []
    monkeypatch.setattr(
        clips_module, "_read_clip", lambda sequence, frames, *rest, **named: taken.append(frames)
    )
    clips = training(sequences, clip_length=2, later_lengths=[(60, 4)])
    for epoch in range(61):
        clips.read(ClipKey(epoch, 1))
    assert {frames.start for frames in taken[:60]} == {1, 2, 3}
    assert all(len(frames) == 2 for frames in taken[:60]) and taken[60] == range(1, 5)
    again = list(taken)
    for epoch in range(61):
        clips.read(ClipKey(epoch, 1))
    assert taken[61:] == again


def test_epochs_of_whole_runs_are_those_of_a_run_without_shorter_clips(sequences):
    grown = training(sequences, clip_length=2, later_lengths=[(1, 3)])
    plain_clips = training(sequences, clip_length=3)
    for index in range(6):
        pairs = zip(grown[ClipKey(1, index)], plain_clips[ClipKey(1, index)], strict=True)
        assert all(torch.equal(*pair) for pair in pairs)


def test_noise_is_drawn_anew_for_every_sample_and_again_the_same(sequences):
    noise = SensorNoise(gain=(0.5, 0.9), false_spikes=0.2, dropout=0.2, shift=3)
    clips, plain_clips = training(sequences, noise=noise), training(sequences)
    one, again, other = clips[ClipKey(0, 0)], clips[ClipKey(0, 0)], plain_clips[ClipKey(0, 0)]
    assert torch.equal(one.spikes, again.spikes) and not torch.equal(one.spikes, other.spikes)
    assert torch.equal(one.blurry, other.blurry) and torch.equal(one.sharp, other.sharp)


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
