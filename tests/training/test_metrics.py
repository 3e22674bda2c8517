"""Expected SSIM values come from a plain loop over windows, written from the paper's equation 13."""

import math

import numpy as np
import pytest

from deblurkit.training.metrics import PROTOCOL_TEXTS, luma, psnr_db, quality, ssim


def plain_ssim(x: np.ndarray, y: np.ndarray) -> float:
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(line, line) / np.outer(line, line).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        for row in range(x.shape[0] - 10):
            for column in range(x.shape[1] - 10):
                a = x[row : row + 11, column : column + 11, channel].astype(float)
                b = y[row : row + 11, column : column + 11, channel].astype(float)
                ma, mb = (weights * a).sum(), (weights * b).sum()
                va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
                cov = (weights * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


def frames(seed):
    rng = np.random.default_rng(seed)
    sharp = rng.integers(0, 256, (17, 19, 3), dtype=np.uint8)
    noisy = np.clip(sharp.astype(int) + rng.integers(-40, 41, sharp.shape), 0, 255).astype(np.uint8)
    return noisy, sharp


@pytest.mark.parametrize("seed", range(3))
def test_ssim_equals_the_plain_loop(seed):
    assert ssim(*frames(seed)) == pytest.approx(plain_ssim(*frames(seed)), abs=1e-9)


def test_equal_frames_are_perfect():
    _, sharp = frames(0)
    assert ssim(sharp, sharp) == pytest.approx(1.0)
    assert psnr_db(sharp, sharp) == math.inf


def test_psnr_of_a_known_error():
    sharp = np.full((12, 12, 3), 100, dtype=np.uint8)
    assert psnr_db(sharp + 5, sharp) == pytest.approx(20 * math.log10(255 / 5))
    assert psnr_db(sharp - 5, sharp) == pytest.approx(20 * math.log10(255 / 5))


def test_a_frame_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="at least 11"):
        ssim(np.zeros((10, 20, 3), np.uint8), np.zeros((10, 20, 3), np.uint8))


def test_luma_is_that_of_bt_601_in_full_range():
    colours = np.array([[[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]]], np.uint8)
    assert luma(colours)[0] == pytest.approx([255, 76.245, 149.685, 29.07, 0])


def test_protocol_y_takes_ssim_of_luma_and_psnr_of_what_was_not_rounded():
    noisy, sharp = frames(0)
    exact = noisy.astype(np.float32) + 0.25
    gray = [
        np.repeat((image @ np.array([0.299, 0.587, 0.114]))[..., None], 3, -1) for image in (exact, sharp)
    ]
    scored = quality(exact, sharp, protocol="y")
    assert scored.ssim == pytest.approx(plain_ssim(*gray), abs=1e-9)
    error = np.mean((exact.astype(float) - sharp.astype(float)) ** 2)
    assert scored.psnr_db == pytest.approx(10 * math.log10(255**2 / error))


@pytest.mark.parametrize("protocol", ["vrt", "pooled"])
def test_the_others_look_at_rgb(protocol):
    noisy, sharp = frames(1)
    assert quality(noisy, sharp, protocol=protocol) == (psnr_db(noisy, sharp), ssim(noisy, sharp))


def test_every_protocol_says_what_it_is():
    assert all(text.startswith(f"{name}: ") for name, text in PROTOCOL_TEXTS.items())
