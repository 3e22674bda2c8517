import numpy as np
import pytest

from deblurkit.data.simulate import Camera, SpikeSensor, blur, expose, gray, interpolate, simulate_spikes


def rng(seed=0):
    return np.random.default_rng(seed)


def still(light, frames=40, shape=(6, 7)):
    return np.full((frames, *shape), light, dtype=np.float32)


def test_gray_is_bt601():
    rgb = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]], dtype=np.uint8)
    np.testing.assert_allclose(gray(rgb), [0.299, 0.587, 0.114, 1, 0], atol=1e-6)


@pytest.mark.parametrize("light", [0.0, 0.13, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("gain", [0.3, 1.0, 2.5])
def test_the_rate_is_gain_times_light_over_the_threshold_up_to_one(light, gain):
    spikes = simulate_spikes(still(light), rng(), SpikeSensor(gain=gain, threshold=1.5), frames_between=8)
    assert spikes.shape == (320, 6, 7)
    wanted = min(1.0, gain * light / 1.5)
    # The residual is kept, so a count is never off by more than one spike, whatever the phase.
    assert np.abs(spikes.sum(axis=0) - 320 * wanted).max() <= 1


def test_integrate_and_fire_agrees_with_a_scalar_loop():
    luminance = rng(1).random((5, 2, 3)).astype(np.float32)
    sensor = SpikeSensor(gain=1.3, threshold=1.1, dark_current=0.05)
    spikes = simulate_spikes(luminance, rng(2), sensor, frames_between=8)
    phase = rng(2).uniform(0, 1.1, size=(2, 3))
    for y in range(2):
        for x in range(3):
            charge = phase[y, x]
            for j in range(40):
                position = min(max((j + 0.5) / 8 - 0.5, 0), 4)
                index = min(int(position), 3)
                share = position - index
                light = (1 - share) * luminance[index, y, x] + share * luminance[index + 1, y, x]
                charge += min(1.3 * light + 0.05, 1.1)
                fires = charge >= 1.1
                charge -= 1.1 if fires else 0
                assert spikes[j, y, x] == fires, (y, x, j)


def test_light_that_saturates_leaves_nothing_behind():
    luminance = np.concatenate([still(1.0, 3), still(0.0, 3)])
    spikes = simulate_spikes(luminance, rng(), SpikeSensor(gain=10.0), frames_between=1)
    assert spikes[:3].all()
    assert not spikes[3:].any()


def test_the_first_phase_is_uniform():
    # At a rate of 1/10 a uniform phase makes one pixel in ten fire in every frame.
    spikes = simulate_spikes(still(0.1, 10, (100, 100)), rng(), SpikeSensor(), frames_between=1)
    np.testing.assert_allclose(spikes.mean(axis=(1, 2)), 0.1, atol=0.015)


@pytest.mark.parametrize("between", [1, 2, 3, 8])
def test_interpolation_follows_a_ramp_and_keeps_each_frame_in_the_middle_of_its_group(between):
    ramp = [np.float32(i) for i in range(5)]
    values = [float(v) for v in interpolate(ramp, frames_between=between)]
    wanted = [min(max((j + 0.5) / between - 0.5, 0), 4) for j in range(5 * between)]
    np.testing.assert_allclose(values, wanted, atol=1e-6)


def test_interpolation_of_nothing_is_nothing():
    assert list(interpolate([], frames_between=8)) == []


def test_dark_current_fires_without_light():
    spikes = simulate_spikes(still(0.0), rng(), SpikeSensor(dark_current=0.25), frames_between=1)
    assert np.abs(spikes.sum(axis=0) - 10).max() <= 1


def test_gain_differs_from_pixel_to_pixel_by_its_sigma():
    spikes = simulate_spikes(still(0.4, 100, (40, 40)), rng(), SpikeSensor(gain_sigma=0.1), frames_between=8)
    rates = spikes.mean(axis=0)
    assert rates.mean() == pytest.approx(0.4, rel=0.02)
    assert rates.std() / rates.mean() == pytest.approx(0.1, rel=0.1)


def test_threshold_jitter_varies_the_gaps_and_keeps_the_rate():
    def gaps(sensor):
        fired = simulate_spikes(still(0.05, 2000, (1, 1)), rng(), sensor, frames_between=1)[:, 0, 0]
        return np.diff(np.flatnonzero(fired))

    assert set(gaps(SpikeSensor())) <= {19, 20, 21}
    jittered = gaps(SpikeSensor(threshold_jitter=0.1))
    assert jittered.mean() == pytest.approx(20, rel=0.05)
    assert jittered.std() == pytest.approx(2.0, rel=0.3)


def test_false_spikes_come_at_their_interval_in_the_dark():
    sensor = SpikeSensor(false_spike_interval=(20.0, 4.0))
    spikes = simulate_spikes(still(0.0, 4000, (2, 2)), rng(), sensor, frames_between=1)
    gaps = np.concatenate([np.diff(np.flatnonzero(spikes[:, y, x])) for y in range(2) for x in range(2)])
    assert gaps.mean() == pytest.approx(20, rel=0.05)
    assert gaps.std() == pytest.approx(4, rel=0.15)


def test_the_same_generator_gives_the_same_spikes():
    sensor = SpikeSensor(gain_sigma=0.1, threshold_jitter=0.1, false_spike_interval=(140, 50))
    first, second, other = (simulate_spikes(still(0.3), rng(s), sensor) for s in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_blur_is_the_rounded_mean():
    frames = rng().integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)
    wanted = np.rint(frames.astype(np.float64).mean(axis=0))
    assert np.abs(blur(frames).astype(float) - wanted).max() == 0


def test_blur_gamma_averages_light():
    frames = np.zeros((2, 1, 1, 3), dtype=np.uint8)
    frames[1] = 255
    assert blur(frames)[0, 0, 0] in (127, 128)
    assert blur(frames, variant="blur_gamma")[0, 0, 0] == round(255 * 0.5 ** (1 / 2.2))


@pytest.mark.parametrize("variant", ["blur", "blur_gamma"])
def test_blur_of_a_still_scene_is_the_scene(variant):
    frame = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    np.testing.assert_array_equal(blur(np.stack([frame] * 5), variant=variant), frame)


def test_exposures_are_contiguous_and_centred():
    frames = rng().integers(0, 256, (11, 16, 16, 3), dtype=np.uint8)
    camera = Camera(sensor=SpikeSensor(), spike_shape=(8, 8), sharp_per_exposure=5, spikes_per_sharp=4)
    exposures = list(expose(iter(frames), rng(3), camera))
    assert len(exposures) == 2  # the eleventh frame is left over
    for index, exposure in enumerate(exposures):
        group = frames[5 * index : 5 * index + 5]
        np.testing.assert_array_equal(exposure.blurry, blur(group))
        np.testing.assert_array_equal(exposure.sharp, group[2])
        assert exposure.spikes.shape == (20, 8, 8)
    # Area resizing by one half is the mean of 2 x 2 pixels; the whole stream is one run of the sensor.
    light = gray(frames).reshape(11, 8, 2, 8, 2).mean(axis=(2, 4), dtype=np.float64).astype(np.float32)
    whole = simulate_spikes(light, rng(3), SpikeSensor(), frames_between=4)
    streamed = np.concatenate([exposure.spikes for exposure in exposures])
    assert (streamed != whole[:40]).mean() < 1e-3  # float32 rounding may move a spike by one frame


def test_wrong_arguments_are_the_callers_mistake():
    for call in (
        lambda: SpikeSensor(gain=0),
        lambda: SpikeSensor(dark_current=-1),
        lambda: SpikeSensor(false_spike_interval=(0.5, 1)),
        lambda: Camera(sensor=SpikeSensor(), spike_shape=(8, 8), sharp_per_exposure=4),
        lambda: simulate_spikes(np.zeros((4, 4), np.float32), rng(), SpikeSensor()),
        lambda: simulate_spikes(still(1.0), rng(), SpikeSensor(), frames_between=0),
        lambda: blur(np.zeros((1, 2, 2, 3), np.uint8), variant="sum"),
    ):
        with pytest.raises(ValueError):
            call()
