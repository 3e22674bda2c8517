import numpy as np
import pytest

from deblurkit.data.checks.blur_variant import exposure_moments, fingerprint
from deblurkit.data.scenes import draw_scene
from deblurkit.data.simulate import SpikeSensor, blur, simulate_spikes

SHARP = 7
VARIANTS = ("blur", "blur_gamma")


def exposures(seed, *, variant, gain=0.65, moving=True, response=1.0, count=6):
    """Moments of exposures of a scene; light is the stored gray value to the power of ``response``."""
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, size=(96, 128), duration=count * SHARP)
    sensor = SpikeSensor(gain=gain, gain_sigma=0.02, threshold_jitter=0.01, false_spike_interval=(140, 50))
    frames = np.stack([scene.render(time if moving else 0) for time in range(count * SHARP)])
    light = (frames @ np.array([0.299, 0.587, 0.114], np.float32) / 255) ** response
    light = light.reshape(len(light), 48, 2, 64, 2).mean(axis=(2, 4))
    spikes = simulate_spikes(light.astype(np.float32), rng, sensor)
    found = []
    for index in range(count):
        shown = frames[index * SHARP : (index + 1) * SHARP]
        seen = spikes[8 * index * SHARP : 8 * (index + 1) * SHARP]
        found.append(exposure_moments(seen, blur(shown, variant=variant)))
    return found


@pytest.mark.parametrize("gain", [0.65, 1.2, 2.0])
@pytest.mark.parametrize("seed", range(1, 8))
def test_the_two_variants_are_never_mistaken(seed, gain):
    called = {variant: fingerprint(exposures(seed, variant=variant, gain=gain)) for variant in VARIANTS}
    assert called["blur"].variant in ("blur", None)
    assert called["blur_gamma"].variant in ("blur_gamma", None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_most_scenes_tell_their_variant(variant):
    called = [fingerprint(exposures(seed, variant=variant)).variant for seed in range(12)]
    assert called.count(variant) >= 9


def test_the_excess_is_0_for_a_plain_mean_and_about_2_for_light():
    assert fingerprint(exposures(5, variant="blur")).excess == pytest.approx(0, abs=0.3)
    assert fingerprint(exposures(5, variant="blur_gamma")).excess == pytest.approx(2, abs=0.5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_said_of_what_cannot_be_told(seed, variant):
    """A still scene, too few spikes, and spikes of linear light."""
    assert fingerprint(exposures(seed, variant=variant, moving=False)).variant is None
    assert fingerprint(exposures(seed, variant=variant, gain=0.05)).variant is None
    assert fingerprint(exposures(seed, variant=variant, response=2.2)).variant is None


@pytest.mark.parametrize("value", [0, 1])
def test_spikes_without_a_picture_say_nothing(value):
    spikes = np.full((56, 49, 65), value, np.uint8)
    blurry = np.random.default_rng(0).integers(0, 256, (98, 130, 3), dtype=np.uint8)
    assert fingerprint([exposure_moments(spikes, blurry)]).variant is None
