import cv2
import numpy as np
import pytest

from deblurkit.data.checks.alignment import Strip, fits, measure_alignment
from deblurkit.data.scenes import draw_scene
from deblurkit.data.simulate import Camera, SpikeSensor, expose, gray

SHARP, FRAMES = 7, 56  # of an exposure: sharp frames, spike frames
SHIFTS = range(-FRAMES, FRAMES + 1)
SENSOR = SpikeSensor(gain=0.65, gain_sigma=0.02, threshold_jitter=0.01, false_spike_interval=(140, 50))


def record(seed, *, moving=True, exposures=6):
    """Blurry frames, and the spikes of all of them, of a scene that moves or stands still."""
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, size=(96, 128), duration=exposures * SHARP)
    times = range(exposures * SHARP) if moving else [0] * (exposures * SHARP)
    camera = Camera(sensor=SENSOR, spike_shape=(48, 64), sharp_per_exposure=SHARP)
    found = list(expose(map(scene.render, times), rng, camera))
    return [one.blurry for one in found], np.concatenate([one.spikes for one in found])


def measured(blurry, spikes, *, lost=0, lost_at=0):
    """The alignment if ``lost`` spike frames are missing before those of exposure ``lost_at``."""
    spikes = np.delete(spikes, np.arange(lost) + lost_at * FRAMES, axis=0)
    strips = []
    for index, frame in enumerate(blurry):
        start, low = index * FRAMES, max((index - 1) * FRAMES, 0)
        if start + FRAMES <= len(spikes):
            strips.append(Strip(spikes[low : start + 2 * FRAMES], start - low, FRAMES, frame))
    return measure_alignment([fits(strip, SHIFTS) for strip in strips], SHIFTS, frames=FRAMES)


@pytest.fixture(scope="module")
def recording():
    return record(1)


def test_fits_are_pearson_s_r_and_what_it_leaves_over(recording):
    """Against NumPy's correlation of plainly averaged windows."""
    blurry, spikes = recording
    fit = fits(Strip(spikes[: 3 * FRAMES], FRAMES, FRAMES, blurry[1]), range(-60, 61))
    target = cv2.resize(gray(blurry[1]), (64, 48), interpolation=cv2.INTER_AREA).ravel()
    for shift in (-56, -7, 0, 56):
        window = spikes[FRAMES + shift : 2 * FRAMES + shift].mean(axis=0).ravel()
        r = np.corrcoef(window, target)[0, 1]
        assert fit.scores[shift + 60] == pytest.approx(r, abs=1e-5)
        assert fit.unexplained[:, shift + 60].sum() == pytest.approx(1 - r**2, abs=1e-5)
    assert np.isnan(fit.scores[[0, -1]]).all() and np.isnan(fit.unexplained[:, [0, -1]]).all()


def test_right_pairs_score_best_in_place(recording):
    alignment = measured(*recording)
    assert alignment.shifted_from is None
    assert abs(alignment.best_shift) <= 2
    assert alignment.score > 0.97 and alignment.best_score >= alignment.score


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lost", [6, 16, 40])
def test_lost_spike_frames_shift_all_that_follows(seed, lost):
    alignment = measured(*record(seed), lost=lost)
    assert alignment.shifted_from == 0
    assert alignment.best_shift == pytest.approx(-lost, abs=2)
    assert alignment.best_score > alignment.score


def test_frames_lost_half_way_shift_the_later_exposures(recording):
    alignment = measured(*recording, lost=16, lost_at=3)
    assert alignment.shifted_from == 3
    assert alignment.best_shift == pytest.approx(-16, abs=2)


@pytest.mark.parametrize("seed", range(5))
def test_a_still_scene_says_nothing(seed):
    alignment = measured(*record(seed, moving=False), lost=20)
    assert alignment.best_shift is None and alignment.shifted_from is None
    assert alignment.best_score == alignment.score > 0.9


def test_one_exposure_is_enough_where_things_move(recording):
    blurry, spikes = recording
    alignment = measured(blurry[:1], spikes[: 3 * FRAMES], lost=20)
    assert alignment.shifted_from is None  # nothing lies before the first exposure
    strip = Strip(spikes[: 3 * FRAMES], FRAMES - 20, FRAMES, blurry[1])
    alignment = measure_alignment([fits(strip, SHIFTS)], SHIFTS, frames=FRAMES)
    assert alignment.shifted_from == 0 and alignment.best_shift == pytest.approx(20, abs=2)


@pytest.mark.parametrize("value", [0, 1])
def test_spikes_without_a_picture_say_nothing(recording, value):
    spikes = np.full((3 * FRAMES, 48, 64), value, np.uint8)
    alignment = measure_alignment(
        [fits(Strip(spikes, FRAMES, FRAMES, recording[0][0]), SHIFTS)], SHIFTS, frames=FRAMES
    )
    assert (alignment.score, alignment.best_shift, alignment.shifted_from) == (0.0, None, None)
