import numpy as np
import pytest

from deblurkit.data.checks.rates import extreme_pixels, packed_rate, spike_counts
from deblurkit.data.spikes import pack_spikes


def test_rates_of_packed_spikes_are_the_mean_of_the_bits():
    spikes = (np.random.default_rng(0).random((20, 8, 16)) < 0.3).astype(np.uint8)
    assert packed_rate(pack_spikes(spikes)) == pytest.approx(spikes.mean(), abs=1e-12)


def test_dead_and_always_firing_pixels_are_counted():
    spikes = np.zeros((300, 2, 4), np.uint8)
    spikes[:, 0, 0] = 1
    spikes[7, 0, 1:3] = 1
    assert extreme_pixels(spike_counts(spikes), 300) == (5 / 8, 1 / 8)
