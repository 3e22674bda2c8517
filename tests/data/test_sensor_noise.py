import numpy as np
import pytest

from deblurkit.data.frames import Window
from deblurkit.data.sensor_noise import NoisyReader, SensorNoise, integrated_again, read_bits
from deblurkit.data.unified import open_dataset

WINDOW = Window(4, 5, 12, 19)


@pytest.fixture(scope="module")
def sequence(dataset_root):
    return open_dataset(dataset_root).sequences("train")[0]


def pixels(exposure, width=19):
    bits = np.unpackbits(exposure.packed, axis=-1, bitorder="little")
    return bits[..., exposure.first_bit : exposure.first_bit + width]


def noisy(sequence, noise, *, seed=0, index=2):
    return pixels(NoisyReader(noise, np.random.default_rng(seed)).read(sequence, index, WINDOW))


def test_bits_are_those_of_the_recording(sequence):
    expected = sequence.read_spikes(2, **WINDOW._asdict())
    assert np.array_equal(pixels(read_bits(sequence, 2, WINDOW)), expected)
    assert np.array_equal(noisy(sequence, SensorNoise()), expected)


@pytest.mark.parametrize("factor", [0.3, 0.75, 1.0, 1.6, 3.0])
def test_a_pixel_integrates_what_arrives(factor):
    """A plain loop over one pixel at a time: V += factor * S; fire at V >= 1; V -= 1."""
    rng = np.random.default_rng(3)
    bits = (rng.random((40, 3, 4)) < 0.4).astype(np.uint8)
    start = np.random.default_rng(8).random((3, 4), dtype=np.float32)
    expected = np.zeros_like(bits)
    for y, x in np.ndindex(3, 4):
        charge = np.float32(start[y, x])
        for t in range(40):
            charge += np.float32(factor) * bits[t, y, x]
            expected[t, y, x] = charge >= 1
            charge -= expected[t, y, x]
    found = integrated_again(bits, factor, np.random.default_rng(8))
    # Sums in another order may pass a threshold one frame earlier or later, and nowhere else.
    assert np.abs(found.cumsum(0).astype(int) - expected.cumsum(0)).max() <= 1
    assert (found != expected).mean() < 0.02


@pytest.mark.parametrize(
    "noise, low, high",
    [
        (SensorNoise(gain=(0.5, 0.5)), 0.49, 0.51),
        (SensorNoise(threshold=(2.0, 2.0)), 0.49, 0.51),
        (SensorNoise(gain=(0.8, 0.8), threshold=(0.8, 0.8)), 1.0, 1.0),
    ],
)
def test_gain_and_threshold_scale_the_rate(sequence, noise, low, high):
    rates = [
        noisy(sequence, noise, index=t).mean() / noisy(sequence, SensorNoise(), index=t).mean()
        for t in range(5)
    ]
    assert low <= np.mean(rates) <= high


def test_spikes_are_lost_and_come_from_nowhere(sequence):
    before = noisy(sequence, SensorNoise())
    lost = noisy(sequence, SensorNoise(dropout=0.5))
    added = noisy(sequence, SensorNoise(false_spikes=0.5))
    assert (lost <= before).all() and 0 < lost.sum() < before.sum()
    assert (added >= before).all() and before.sum() < added.sum()


def test_a_shift_reads_earlier_or_later_frames_and_stops_at_the_ends(sequence):
    whole = np.concatenate([sequence.read_spikes(t, **WINDOW._asdict()) for t in range(5)])
    length = sequence.spike_frames_per_exposure
    starts = set()
    for seed in range(12):
        for index in (0, 2, 4):
            found = noisy(sequence, SensorNoise(shift=3), seed=seed, index=index)
            places = [
                s for s in range(len(whole) - length + 1) if np.array_equal(whole[s : s + length], found)
            ]
            assert len(places) == 1 and abs(places[0] - index * length) <= 3
            starts.add(places[0] - index * length)
    assert min(starts) < 0 < max(starts)


def test_one_draw_serves_a_whole_clip(sequence):
    reader = NoisyReader(SensorNoise(gain=(0.3, 0.9)), np.random.default_rng(1))
    shares = [
        pixels(reader.read(sequence, t, WINDOW)).mean() / noisy(sequence, SensorNoise(), index=t).mean()
        for t in range(5)
    ]
    assert max(shares) - min(shares) < 0.02


def test_where_recordings_are_joined_a_shift_stays_within_the_margin(sequence):
    """Without a margin there is nothing beside the exposure that belongs to it."""
    sequence._is_continuous = False
    try:
        for seed in range(6):
            found = noisy(sequence, SensorNoise(shift=9), seed=seed)
            assert np.array_equal(found, sequence.read_spikes(2, **WINDOW._asdict()))
    finally:
        sequence._is_continuous = True
