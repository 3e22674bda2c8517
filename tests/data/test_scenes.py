import numpy as np
import pytest

from deblurkit.data.scenes import OUTLINES, PATTERNS, Layer, Motion, Scene, Shake, draw_scene, octave_noise

STILL = Shake(np.zeros((2, 1)), np.zeros((2, 1)), np.zeros((2, 1)))


def square(side=5, colour=(1.0, 0.5, 0.0)):
    texture = np.ones((side, side, 4), dtype=np.float32)
    texture[..., :3] = colour
    return texture


def test_motion_is_position_velocity_and_acceleration():
    motion = Motion((1.0, 2.0), (3.0, 0.0), (2.0, -1.0), angle=0.5, spin=0.1, zoom_rate=0.2)
    assert motion.at(4.0) == pytest.approx((1 + 12 + 16, 2 - 8, 0.9, np.exp(0.8)))


def test_shake_is_a_sum_of_sines():
    shake = Shake(np.array([[1.0, 2.0], [0.5, 0.0]]), np.full((2, 2), 0.5), np.zeros((2, 2)))
    assert shake.at(3.0) == pytest.approx((3 * np.sin(1.5), 0.5 * np.sin(1.5)))


def test_a_layer_is_drawn_where_its_motion_says():
    layer = Layer(square(), Motion((10.0, 6.0), velocity=(2.0, 1.0)), nearness=1.0)
    frame = Scene((20, 30), (layer,), STILL).render(3.0)
    wanted = np.zeros((20, 30, 3))
    wanted[9 - 2 : 9 + 3, 16 - 2 : 16 + 3] = [255, 128, 0]
    np.testing.assert_array_equal(frame, wanted)


def test_shake_moves_near_layers_more_than_far_ones():
    shake = Shake(np.array([[4.0], [0.0]]), np.zeros((2, 1)), np.full((2, 1), np.pi / 2))
    for nearness, left in ((1.0, 12), (0.5, 10), (0.0, 8)):
        layer = Layer(square(), Motion((10.0, 10.0)), nearness=nearness)
        frame = Scene((20, 30), (layer,), shake).render(0.0)
        assert np.flatnonzero(frame[10, :, 0])[0] == left


def test_front_layers_hide_those_behind():
    back = Layer(square(9, (0, 0, 1)), Motion((10.0, 10.0)), nearness=1.0)
    front = Layer(square(5, (1, 0, 0)), Motion((10.0, 10.0)), nearness=1.0)
    frame = Scene((20, 20), (back, front), STILL).render(0.0)
    assert frame[10, 10].tolist() == [255, 0, 0]
    assert frame[10, 6].tolist() == [0, 0, 255]


def test_a_filling_layer_leaves_no_hole_however_far_it_drifts():
    layer = Layer(square(40), Motion((500.0, -300.0), angle=0.7), nearness=1.0, fills_frame=True)
    assert (Scene((20, 30), (layer,), STILL).render(0.0)[..., 0] == 255).all()


@pytest.mark.parametrize("draw", [*PATTERNS, *OUTLINES], ids=lambda f: f.__name__)
def test_patterns_are_crisp_masks(draw):
    mask = draw(np.random.default_rng(3), (40, 50))
    assert mask.shape == (40, 50)
    assert mask.dtype == np.float32
    assert 0 <= mask.min() < 0.1
    assert 0.9 < mask.max() <= 1
    assert ((mask < 0.01) | (mask > 0.99)).mean() > 0.5  # grey only where an edge runs


def test_noise_fills_its_range_and_is_smoother_with_fewer_octaves():
    rough = octave_noise(np.random.default_rng(0), (60, 80), octaves=6)
    smooth = octave_noise(np.random.default_rng(0), (60, 80), octaves=2)
    for noise in (rough, smooth):
        assert (noise.min(), noise.max()) == (0, 1)
    assert np.abs(np.diff(rough)).mean() > 2 * np.abs(np.diff(smooth)).mean()


def test_a_scene_is_decided_by_its_seed_and_moves():
    first, again, other = (
        draw_scene(np.random.default_rng(s), size=(64, 96), duration=40) for s in (1, 1, 2)
    )
    assert first.render(7.0).shape == (64, 96, 3)
    np.testing.assert_array_equal(first.render(7.0), again.render(7.0))
    assert (first.render(7.0) != other.render(7.0)).mean() > 0.5
    assert (first.render(7.0) != first.render(8.0)).mean() > 0.2
