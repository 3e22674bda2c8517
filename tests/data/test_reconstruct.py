from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblurkit.data.reconstruct import bin_overlaps, tfi, tfp, voxels


def column(*fired, length):
    """A recording of one pixel that fires at the given frames."""
    spikes = np.zeros((length, 1, 1), dtype=np.uint8)
    spikes[list(fired)] = 1
    return spikes


def random_spikes(seed, shape, rate=0.3):
    return (np.random.default_rng(seed).random(shape) < rate).astype(np.uint8)


def test_tfp_is_the_mean_of_the_window():
    spikes = column(0, 3, 4, 9, length=10)
    assert tfp(spikes, 4, 3)[0, 0] == pytest.approx(2 / 3)  # frames 3, 4, 5
    assert tfp(spikes, 4, 4)[0, 0] == pytest.approx(2 / 4)  # frames 2 to 5
    assert tfp(spikes, 0, 5)[0, 0] == pytest.approx(1 / 3)  # frames 0, 1, 2: cut off at the start
    assert tfp(spikes, 9, 5)[0, 0] == pytest.approx(1 / 3)  # frames 7, 8, 9
    assert tfp(spikes, 4, 3, gain=0.5, threshold=2.0)[0, 0] == pytest.approx(4 * 2 / 3)


def test_tfi_is_one_over_the_gap_around_the_centre():
    spikes = column(2, 7, 11, length=20)
    assert tfi(spikes, 4)[0, 0] == pytest.approx(1 / 5)  # 2 to 7
    assert tfi(spikes, 7)[0, 0] == pytest.approx(
        1 / 4
    )  # the spike at the centre itself opens the gap: 7 to 11
    assert tfi(spikes, 4, gain=0.5, threshold=2.0)[0, 0] == pytest.approx(4 / 5)


@pytest.mark.parametrize(("centre", "search"), [(0, 50), (15, 50), (4, 2), (19, 50)])
def test_tfi_without_a_spike_on_both_sides_takes_the_named_fallback(centre, search):
    spikes = column(2, 7, 11, length=20)
    assert tfi(spikes, centre, search=search, fallback="zero")[0, 0] == 0
    wanted = tfp(spikes, centre, 2 * search + 1)[0, 0]
    assert tfi(spikes, centre, search=search, fallback="tfp")[0, 0] == wanted


@given(seed=st.integers(0, 1000), centre=st.integers(0, 29), search=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_tfi_agrees_with_a_plain_loop(seed, centre, search):
    spikes = random_spikes(seed, (30, 2, 3), rate=0.15)
    image = tfi(spikes, centre, search=search, fallback="zero")
    for y in range(2):
        for x in range(3):
            fired = [int(t) for t in np.flatnonzero(spikes[:, y, x])]
            before = [t for t in fired if centre - search <= t <= centre]
            after = [t for t in fired if centre < t <= centre + search]
            wanted = 1 / (min(after) - max(before)) if before and after else 0
            assert image[y, x] == pytest.approx(wanted)


def test_wrong_arguments_are_the_callers_mistake():
    spikes = column(1, length=4)
    for call in (
        lambda: tfp(spikes, 4, 3),
        lambda: tfp(spikes, 0, 0),
        lambda: tfi(spikes, -1),
        lambda: tfi(spikes, 0, search=0),
        lambda: tfi(spikes, 0, fallback="index0"),
        lambda: voxels(spikes, 0),
    ):
        with pytest.raises(ValueError):
            call()


@given(bins=st.integers(1, 40), frames=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_bins_agree_with_the_overlap_of_each_interval(bins, frames):
    weights = bin_overlaps(bins, frames) / frames
    for k in range(bins):
        for t in range(frames):
            low = max(Fraction(t), Fraction(k * frames, bins))
            high = min(Fraction(t + 1), Fraction((k + 1) * frames, bins))
            assert weights[k, t] == pytest.approx(
                float(Fraction(bins, frames) * max(high - low, 0)), abs=1e-7
            )


@given(bins=st.integers(1, 130), frames=st.integers(1, 130), seed=st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_the_mean_over_bins_is_the_mean_over_frames(bins, frames, seed):
    spikes = random_spikes(seed, (frames, 3, 8), rate=0.1 * seed + 0.05)
    binned = voxels(spikes, bins)
    assert binned.shape == (bins, 3, 8)
    assert binned.dtype == np.float32
    assert binned.min() >= 0
    assert binned.max() <= 1
    np.testing.assert_allclose(binned.mean(axis=0), spikes.mean(axis=0), atol=2e-6)


@pytest.mark.parametrize("frames", [56, 88, 104])
def test_a_pixel_that_always_fires_is_one_in_every_bin(frames):
    np.testing.assert_allclose(voxels(np.ones((frames, 2, 2), np.uint8), 32), 1, rtol=0, atol=1e-6)


def test_as_many_bins_as_frames_are_the_frames():
    spikes = random_spikes(4, (7, 3, 5))
    np.testing.assert_array_equal(voxels(spikes, 7), spikes.astype(np.float32))


def test_weights_are_made_once():
    assert bin_overlaps(32, 56) is bin_overlaps(32, 56)
