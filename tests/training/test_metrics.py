"""Expected SSIM values come from a plain loop over windows, written from the paper's equation 13."""

import math

import numpy as np
import pytest

from deblurkit.training.metrics import psnr_db, ssim


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
