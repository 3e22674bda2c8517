"""The frame size of recordings that do not tell it: by what they should hold, by a picture, by a config.yaml.

A ``.dat`` of a wrong frame size decodes into noise without an error, so nothing here guesses in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from deblurkit.data.layouts.source import image_shape, read_image
from deblurkit.data.simulate import gray
from deblurkit.data.spikes import COMMON_GEOMETRIES, SpikeGeometry, open_spikes, read_geometry
from deblurkit.errors import DataError

_T = TypeVar("_T")

CONFIG = "config.yaml"
_DIVISORS = (1, 2, 4, 8)
_PROBES, _PICTURES = 64, 5  # files whose size, and whose content, is looked at
_WINDOW = 33  # spike frames averaged into the image that is compared with a picture
_LIKE, _CLEARLY = 0.5, 0.15  # correlation that a picture must reach, and its lead over the next


def geometry_by_count(
    recordings: Sequence[tuple[Path, int]], frame_shape: tuple[int, int], *, usual_divisor: int
) -> SpikeGeometry:
    """Return the frame size with which most recordings hold as many spike frames as they should.

    Args:
        recordings: files, which may be missing, and the least number of spike frames each should hold.
        frame_shape: rows and columns of the camera's frames; spikes are a half, a quarter or an eighth of it.
        usual_divisor: what the layout usually has; taken where the sizes do not tell.

    Raises:
        DataError: if the files' sizes fit none of these.
    """
    sizes = [(path.stat().st_size, needed) for path, needed in _spread(recordings, _PROBES) if path.is_file()]
    order = (usual_divisor, *(divisor for divisor in _DIVISORS if divisor != usual_divisor))
    candidates = [g for divisor in order if (g := _divided(frame_shape, divisor)) is not None]
    if not candidates:
        raise DataError(
            f"frames of {_shape(frame_shape)} pixels: no part of them has spike rows of whole bytes"
        )

    def holding_enough(geometry: SpikeGeometry) -> int:
        counts = ((*divmod(size, geometry.frame_bytes), needed) for size, needed in sizes)
        return sum(not rest and needed <= count < 2 * needed for count, rest, needed in counts)

    best = max(candidates, key=holding_enough)  # the usual one where several are equal
    if not sizes or holding_enough(best):
        return best
    usual = candidates[0]
    if any(size and size % usual.frame_bytes == 0 for size, _ in sizes):
        return usual  # every recording is too short; reading them says so
    path, needed = next((path, needed) for path, needed in recordings if path.is_file())
    raise DataError(
        f"{path}: {path.stat().st_size} bytes are not {needed} spike frames of any size that fits frames of "
        f"{_shape(frame_shape)} pixels: {', '.join(map(str, candidates))} were tried"
    )


def geometry_by_picture(pairs: Sequence[tuple[Path, Path]], *, root: Path) -> SpikeGeometry:
    """Return the frame size that most recordings fit; of several the one that looks like their pictures.

    Args:
        pairs: recordings that exist, each with a picture of the time in its middle, of the same shape or a
            multiple; a few that are damaged do no harm.
        root: of the dataset, for the messages.

    Raises:
        DataError: if no frame size fits, or several do and the pictures do not tell them apart.
    """
    first = pairs[0][0]
    frame_shape = image_shape(pairs[0][1])
    sizes = [path.stat().st_size for path, _ in _spread(pairs, _PROBES)]
    fitting = [g for g in _same_aspect(frame_shape) if _most_fit(sizes, g)]
    if not fitting:
        raise DataError(
            f"{first}: the recordings' sizes fit no frame size with the aspect of their "
            f"{_shape(frame_shape)} frames; write spike_h and spike_w into {root / CONFIG}"
        )
    if len(fitting) == 1:
        return fitting[0]
    looked_at = _spread(pairs, _PICTURES)
    likeness = {g: max(_likeness(path, g, picture) for path, picture in looked_at) for g in fitting}
    best, second, *_ = sorted(fitting, key=lambda geometry: -likeness[geometry])
    if likeness[best] < max(_LIKE, likeness[second] + _CLEARLY):
        raise DataError(
            f"{first}: its size fits spike frames of {', '.join(map(str, fitting))}, and the pictures "
            f"do not tell which; write spike_h and spike_w into {root / CONFIG}"
        )
    return best


def configured_geometry(folders: Iterable[Path]) -> SpikeGeometry | None:
    """Return the frame size that the first ``config.yaml`` of the folders gives (``spike_h``, ``spike_w``).

    Raises:
        DataError: if it cannot be read or makes no frame size.
    """
    config = next((folder / CONFIG for folder in folders if (folder / CONFIG).is_file()), None)
    return None if config is None else read_geometry(config)


def _divided(shape: tuple[int, int], divisor: int) -> SpikeGeometry | None:
    height, width = shape
    if height % divisor or width % (8 * divisor):
        return None
    return SpikeGeometry(height // divisor, width // divisor)


def _same_aspect(shape: tuple[int, int]) -> list[SpikeGeometry]:
    """Return the frame sizes of a frame's aspect: its own, parts of it, and the common ones."""
    parts = (_divided(shape, divisor) for divisor in _DIVISORS)
    common = (known for known in COMMON_GEOMETRIES if known.height * shape[1] == known.width * shape[0])
    return list(dict.fromkeys([*(part for part in parts if part is not None), *common]))


def _most_fit(sizes: Sequence[int], geometry: SpikeGeometry) -> bool:
    """Whether at least half of the sizes are whole frames: one cut file must not hide what the others say."""
    fitting = sum(1 for size in sizes if size and size % geometry.frame_bytes == 0)
    return 2 * fitting >= len(sizes)


def _likeness(path: Path, geometry: SpikeGeometry, picture: Path) -> float:
    """Return how the middle of a recording, read with a frame size, correlates with a picture.

    Either way up and either way round: here only the size is asked for. -1 where one cannot be read.
    """
    try:
        recording, image = open_spikes(path, geometry), read_image(picture)
    except DataError:
        return -1.0
    start = max((recording.shape[0] - _WINDOW) // 2, 0)
    rates = recording.read(start, min(start + _WINDOW, recording.shape[0])).mean(axis=0)
    target = cv2.resize(gray(image), (geometry.width, geometry.height), interpolation=cv2.INTER_AREA)
    if not rates.std() or not target.std():
        return 0.0
    flips = (rates, rates[::-1], rates[:, ::-1], rates[::-1, ::-1])
    return max(float(np.corrcoef(flip.ravel(), target.ravel())[0, 1]) for flip in flips)


def _spread(values: Sequence[_T], most: int) -> Sequence[_T]:
    """Return at most ``most`` of the values, from all over them."""
    return values[:: -(-len(values) // most) or 1]


def _shape(shape: tuple[int, int]) -> str:
    return f"{shape[0]}x{shape[1]}"
