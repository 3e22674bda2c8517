"""A frame before and after, side by side with what it should have been."""

from __future__ import annotations

import cv2
import numpy as np

from deblurkit.training.validate import FramePair, Frames

BAND = 28  # rows of the caption band
LEAST_WIDTH = 320  # small frames are enlarged to at least this, by whole factors, so that people see them


def before_and_after(pair: FramePair) -> Frames:
    """Return blurry, restored and sharp beside one another under their names, (H, W, 3) uint8 RGB."""
    factor = max(1, -(-LEAST_WIDTH // pair.sharp.shape[1]))
    columns = [
        _captioned(image, caption, factor=factor)
        for image, caption in ((pair.blurry, "blurry"), (pair.restored, "restored"), (pair.sharp, "sharp"))
    ]
    gap = np.full((columns[0].shape[0], 6, 3), 255, dtype=np.uint8)
    return np.hstack([columns[0], gap, columns[1], gap, columns[2]])


def _captioned(image: Frames, caption: str, *, factor: int) -> Frames:
    large = image.repeat(factor, axis=0).repeat(factor, axis=1)
    band = np.full((BAND, large.shape[1], 3), 255, dtype=np.uint8)
    cv2.putText(band, caption, (6, BAND - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([band, large])
