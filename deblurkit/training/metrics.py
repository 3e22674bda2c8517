"""PSNR and SSIM of a restored frame, in the protocol that VRT's published GoPro numbers were made with."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

PROTOCOL = "vrt"  # RGB rounded to uint8; SSIM per channel; mean over frames, then over sequences
PROTOCOL_TEXT = (
    "vrt: RGB, rounded to 8 bits, 11x11 Gaussian SSIM per channel, mean over frames then sequences"
)

WINDOW = 11  # rows and columns that SSIM looks at together
_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr_db(restored: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two (H, W, 3) frames in dB; infinite where they are equal."""
    difference = restored.astype(np.float64) - sharp.astype(np.float64)
    error = float(np.mean(difference * difference))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(restored: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> float:
    """Return the structural similarity of two (H, W, 3) frames, at most 1: the mean over the three channels.

    Wang et al., IEEE TIP 2004, eq. 13, with an 11x11 Gaussian of sigma 1.5, over the windows that lie wholly
    inside the frame.

    Raises:
        ValueError: if a side is shorter than the window.
    """
    if min(restored.shape[:2]) < WINDOW:
        raise ValueError(f"SSIM needs sides of at least {WINDOW} pixels, got {restored.shape[:2]}")
    x, y = restored.astype(np.float64), sharp.astype(np.float64)
    mean_x, mean_y = _smooth(x), _smooth(y)
    variance_x = _smooth(x * x) - mean_x * mean_x
    variance_y = _smooth(y * y) - mean_y * mean_y
    covariance = _smooth(x * y) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)) / (
        (mean_x * mean_x + mean_y * mean_y + _C1) * (variance_x + variance_y + _C2)
    )
    return float(similarity.mean())


def _smooth(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Gaussian means at every place where the whole window lies inside."""
    kernel = cv2.getGaussianKernel(WINDOW, _SIGMA)
    border = WINDOW // 2
    smooth = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT)
    return np.asarray(smooth[border:-border, border:-border], dtype=np.float64)
