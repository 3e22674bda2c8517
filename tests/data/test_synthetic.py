import numpy as np
import pytest

from deblurkit.data.reconstruct import tfp
from deblurkit.data.simulate import gray
from deblurkit.data.synthetic import make_synthetic
from deblurkit.data.unified import open_dataset, summarise, verify_checksums
from deblurkit.errors import DataError

SMALL = {"num_train": 2, "num_test": 1, "frames_per_sequence": 3, "size": (64, 96)}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_synthetic(tmp_path_factory.mktemp("synthetic") / "data", seed=3, **SMALL)


def psnr_db(image, truth):
    return 10 * np.log10(255**2 / np.mean((image.astype(float) - truth) ** 2))


def test_what_was_asked_for_is_there(small):
    summary = summarise(open_dataset(small.root))
    assert (summary.train_sequences, summary.test_sequences) == (2, 1)
    assert (summary.train_frames, summary.test_frames) == (6, 3)
    assert (summary.frame_shape, summary.spike_shape) == ((64, 96), (32, 48))
    assert 0.15 < summary.mean_spike_rate < 0.45
    verify_checksums(small)
    (test,) = small.sequences("test")
    assert test.read_spikes(2).shape == (72, 32, 48)
    assert small.manifest.source["seed"] == 3


def test_the_same_seed_gives_the_same_files_and_another_seed_others(small, tmp_path):
    again = make_synthetic(tmp_path / "again", seed=3, **SMALL)
    other = make_synthetic(tmp_path / "other", seed=4, **SMALL)
    assert again.manifest.files == small.manifest.files
    assert all(other.manifest.files[name] != record for name, record in small.manifest.files.items())


def test_no_two_sequences_show_the_same_scene(small):
    frames = [s.read_sharp(0) for split in ("train", "test") for s in small.sequences(split)]
    for index, frame in enumerate(frames):
        assert all((frame != other).mean() > 0.5 for other in frames[:index])


def test_spikes_blurry_and_sharp_frames_show_the_same_moment(small):
    for sequence in small.sequences("train"):
        for t in range(sequence.num_frames):
            spikes = sequence.read_spikes(t)
            light = gray(sequence.read_blurry(t)).reshape(32, 2, 48, 2).mean(axis=(1, 3))
            assert np.corrcoef(tfp(spikes, 36, 72).ravel(), light.ravel())[0, 1] > 0.97


def test_motion_blurs_by_an_amount_worth_removing(tmp_path):
    dataset = make_synthetic(tmp_path / "data", seed=0, num_train=0, num_test=4, frames_per_sequence=3)
    blurred = [
        psnr_db(sequence.read_blurry(t), sequence.read_sharp(t))
        for sequence in dataset.sequences("test")
        for t in range(sequence.num_frames)
    ]
    assert 18 < np.mean(blurred) < 27


def test_progress_counts_every_frame(tmp_path):
    seen = []
    make_synthetic(
        tmp_path / "data", **{**SMALL, "size": (32, 32)}, progress=lambda *counts: seen.append(counts)
    )
    assert seen == [(done, 9) for done in range(1, 10)]


def test_an_interrupt_leaves_nothing(tmp_path):
    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_synthetic(tmp_path / "data", **SMALL, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "numbers",
    [{"size": (60, 96)}, {"size": (16, 96)}, {"num_train": 0, "num_test": 0}, {"frames_per_sequence": 0}],
    ids=str,
)
def test_numbers_that_make_no_dataset_are_refused(tmp_path, numbers):
    with pytest.raises(DataError, match="expected|multiples of 16"):
        make_synthetic(tmp_path / "data", **{**SMALL, **numbers})
    assert list(tmp_path.iterdir()) == []
