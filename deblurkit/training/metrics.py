"""PSNR and SSIM of a restored frame, in the protocols that published numbers were made with.

One pair of images gives an SSIM of .913, .938 or .962 by three protocols: a number goes with its name.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Protocol = Literal["vrt", "y", "pooled"]
Image: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]  # values from 0 to 255

PROTOCOL_TEXTS: dict[Protocol, str] = {
    "vrt": "vrt: RGB, rounded to 8 bits, 11x11 Gaussian SSIM per channel, mean over frames then sequences",
    "y": "y: not rounded, PSNR in RGB, 11x11 Gaussian SSIM of BT.601 luma, mean over frames then sequences",
    "pooled": "pooled: RGB, rounded to 8 bits, 11x11 Gaussian SSIM per channel, mean over all frames",
}

_LUMA = (0.299, 0.587, 0.114)  # BT.601, full range: white is 255
WINDOW = 11  # rows and columns that SSIM looks at together
_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


class Quality(NamedTuple):
    """How near a frame is to the sharp one."""

    psnr_db: float
    ssim: float


def quality(restored: Image, sharp: Image, *, protocol: Protocol) -> Quality:
    """Return PSNR and SSIM of two (H, W, 3) frames; how they are averaged is the protocol's second half.

    Args:
        restored: as it is scored: 8 bits, or where the protocol does not round, float32 from 0 to 255.
        sharp: the ground truth.
        protocol: ``vrt`` and ``pooled`` look at the same numbers of a frame; ``y`` takes SSIM of luma.
    """
    if protocol == "y":
        return Quality(psnr_db(restored, sharp), ssim(luma(restored), luma(sharp)))
    return Quality(psnr_db(restored, sharp), ssim(restored, sharp))


def is_rounded(protocol: Protocol) -> bool:
    """Return whether a protocol scores what an 8-bit file would hold."""
    return protocol != "y"


def luma(image: Image) -> NDArray[np.float64]:
    """Return BT.601 luma of an RGB image in full range: (H, W, 3) -> (H, W), from 0 to 255."""
    return np.asarray(image.astype(np.float64) @ np.array(_LUMA), dtype=np.float64)


def psnr_db(restored: NDArray[Any], sharp: NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio of two frames in dB, of a peak of 255; infinite where equal."""
    difference = restored.astype(np.float64) - sharp.astype(np.float64)
    error = float(np.mean(difference * difference))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(restored: NDArray[Any], sharp: NDArray[Any]) -> float:
    """Return the structural similarity of two frames, at most 1, of a range of 255.

    Of (H, W, 3) it is the mean over the channels; (H, W) is one channel.

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
