"""Whether a recording was decoded as it was written: frame size, row length, bit order, orientation.

A ``.dat`` says none of these, and a wrong guess decodes into something that only looks odd. Each check
compares what was assumed with the alternatives and speaks only where one of them is clearly better; a
recording that is too short, flat or dark to tell passes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurkit.data.reconstruct import tfp
from deblurkit.data.simulate import gray
from deblurkit.data.spikes import (
    COMMON_GEOMETRIES,
    PackedSpikes,
    SpikeGeometry,
    SpikeStream,
    open_spikes,
)
from deblurkit.errors import DataError

Bytes: TypeAlias = NDArray[np.uint8]
Values: TypeAlias = NDArray[np.float64]

_COINCIDENCE_BYTES = 400_000  # enough for a firing rate of 0.03 to show at 50 standard errors
_AVERAGED_FRAMES = 128
_REFERENCE_WINDOW = 33
_MIN_FRAME_BYTES = 256
_MIN_FRAMES = 8
_BITS_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint8)


def check_decoding(
    recording: SpikeStream | Path | str,
    geometry: SpikeGeometry | None = None,
    *,
    reference: Bytes | None = None,
) -> list[str]:
    """Return what speaks against the way a recording is decoded, one line each; empty where nothing does.

    Args:
        recording: an open recording, or its path.
        geometry: of a ``.dat`` given by its path.
        reference: the same scene at the middle of the recording, upright RGB uint8 (H, W, 3) of any size;
            shows flips, which the spikes alone cannot.
    """
    stream = open_spikes(recording, geometry) if isinstance(recording, (str, Path)) else recording
    problems: list[str] = []
    if isinstance(stream, PackedSpikes):
        problems = _frame_size_problems(stream) or _row_length_problems(stream)
        problems += _bit_order_problems(stream) if not problems else []
    if reference is not None and not problems:
        problems = _orientation_problems(stream, reference)
    return problems


def require_plausible(
    recording: SpikeStream | Path | str,
    geometry: SpikeGeometry | None = None,
    *,
    reference: Bytes | None = None,
) -> None:
    """Raise a DataError with the problems that ``check_decoding`` finds, if it finds any."""
    stream = open_spikes(recording, geometry) if isinstance(recording, (str, Path)) else recording
    problems = check_decoding(stream, reference=reference)
    if problems:
        name = str(stream.path) if isinstance(stream, PackedSpikes) else "spike recording"
        raise DataError("\n".join(f"{name}: {problem}" for problem in problems))


def _frame_size_problems(stream: PackedSpikes) -> list[str]:
    """Compare the frame size with the period at which single pixels come round.

    A pixel that has just fired has to gather light before it fires again, so one frame apart two spikes of a
    pixel coincide less often than spikes of its neighbours do. No other distance in the file has that dip; it
    needs no texture in the scene, and motion does not blur it.
    """
    data = stream.packed.reshape(-1)
    assumed = stream.geometry.frame_bytes
    shares = {lag: _coincidence(data, lag) for lag in _candidate_lags(assumed, data.size)}
    dips = {lag: 1 - share for lag, (share, clear) in shares.items() if clear and share < 0.5}
    if not dips:
        return []
    # Two frames apart slow pixels still have not fired again: the shortest of the deep dips is one frame.
    period = min(lag for lag, dip in dips.items() if dip > 0.6 * max(dips.values()))
    # A size that is not whole frames means nothing: no dip there, nor the peak that texture in place makes.
    if period == assumed or (assumed % period and not 0.8 < shares[assumed][0] < 1.25):
        return []
    # Fine texture can dip at any distance, but only frames of the right size all show the same picture.
    if _steadiness(data, period) < _steadiness(data, assumed) - 0.3:
        return []
    known = [str(geometry) for geometry in COMMON_GEOMETRIES if geometry.frame_bytes == period]
    hint = f", the size of {' or '.join(known)}" if known else ""
    return [
        f"not made of {stream.geometry} frames ({assumed} bytes): "
        f"its pixels come round every {period} bytes{hint}"
    ]


def _candidate_lags(assumed: int, size: int) -> list[int]:
    """Return the frame sizes to compare: those that divide the file, and the common ones."""
    most = size // _MIN_FRAMES
    low, high = max(assumed // 8, _MIN_FRAME_BYTES), min(assumed * 8, most)
    lags = np.arange(low, high + 1)
    dividing = set(lags[size % lags == 0].tolist())
    common = {geometry.frame_bytes for geometry in COMMON_GEOMETRIES}
    return sorted(lag for lag in dividing | common | {assumed} if lag <= most)


def _coincidence(data: Bytes, lag: int) -> tuple[float, bool]:
    """Return how often spikes ``lag`` bytes apart coincide over how often nearby, and if that is clear."""
    length = min(_COINCIDENCE_BYTES, data.size - lag - 2)
    if length < 64:
        return 1.0, False
    start = (data.size - lag - length - 2) // 2
    block = data[start : start + length + lag + 2]
    if int(_BITS_SET[block[:length]].sum(dtype=np.int64)) > 4 * length:
        block = ~block  # where most bits are set, the gaps are what comes rarely

    def coincidences(distance: int) -> int:
        return int(_BITS_SET[block[:length] & block[distance : distance + length]].sum(dtype=np.int64))

    near = [coincidences(lag + shift) for shift in (-2, -1, 1, 2)]
    expected = sum(near) / len(near)
    found = coincidences(lag)
    deviations = abs(expected - found) / (1.25 * expected + 1) ** 0.5
    return found / max(expected, 1.0), deviations > 8


def _steadiness(data: Bytes, frame_bytes: int) -> float:
    """Return the correlation of the mean even frame with the mean odd one, in [0, 1]."""
    frames = min(data.size // frame_bytes, _AVERAGED_FRAMES)
    if frames < 2:
        return 0.0
    counts = _BITS_SET[data[: frames * frame_bytes]].reshape(frames, frame_bytes)
    return max(_correlation(counts[::2].mean(axis=0), counts[1::2].mean(axis=0)), 0.0)


def _row_length_problems(stream: PackedSpikes) -> list[str]:
    """Compare the row length with others of the same frame: rows of an image resemble the rows below them."""
    geometry = stream.geometry
    rates = _BITS_SET[_middle(stream)].mean(axis=0).reshape(-1)  # (frame_bytes,)
    if not rates.std():
        return []
    assumed, size = geometry.row_bytes, geometry.frame_bytes
    alike = {
        rows: min(_likeness(rates, rows), _likeness_across(rates, rows, assumed=assumed))
        for rows in _candidate_rows(size) | {assumed}
        if rows < size // 2
    }
    best = max(alike, key=lambda rows: alike[rows])
    # A row length stands out from those near it; a scene without vertical edges is alike at every one.
    beside = (_likeness(rates, best - 3) + _likeness(rates, best + 3)) / 2
    if alike[best] - beside < max(0.05, 5 / size**0.5) or alike[best] < 0.3:
        return []
    noise = 0.0005 + 4 * (1 - alike[best] ** 2) / size**0.5
    if alike[best] <= alike.get(assumed, 1.0) + noise:
        return []
    return [
        f"rows of {8 * assumed} bits do not line up (r = {alike[assumed]:.3f} between neighbouring rows): "
        f"rows of {8 * best} bits do (r = {alike[best]:.3f}), which makes frames of {size // best}x{8 * best}"
    ]


def _candidate_rows(frame_bytes: int) -> set[int]:
    """Return row lengths in bytes that divide the frame and leave it between 1:4 and 4:1."""
    return {
        rows
        for rows in range(8, frame_bytes // 8)
        if frame_bytes % rows == 0 and 0.25 <= frame_bytes // rows / (8 * rows) <= 4
    }


def _likeness(rates: Values, distance: int) -> float:
    """Return the correlation of a flat image with itself ``distance`` bytes on."""
    return _correlation(rates[:-distance], rates[distance:])


def _likeness_across(rates: Values, distance: int, *, assumed: int) -> float:
    """Return the same, counting only bytes that lie in different rows of the assumed length.

    A pattern that repeats sideways resembles itself within a row; if rows are shorter, anywhere.
    """
    if distance >= assumed:
        return _likeness(rates, distance)
    image = rates.reshape(-1, assumed)
    return _correlation(image[:-1, assumed - distance :].ravel(), image[1:, :distance].ravel())


def _correlation(first: Values, second: Values) -> float:
    """Return Pearson's r of two flat arrays, 0 where one of them is constant."""
    if not first.std() or not second.std():
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _bit_order_problems(stream: PackedSpikes) -> list[str]:
    """Compare the steps from the last pixel of a byte to the first of the next under both bit orders.

    Within a byte both orders give the same steps, mirrored; only those across its ends tell the orders apart.
    """
    bits = np.unpackbits(_middle(stream), axis=-1, bitorder="little")  # (t, H, W), first pixel first if lsb
    image = bits.mean(axis=0).reshape(stream.geometry.height, -1, 8)  # (H, W / 8, 8)
    if image[:, 1:, 0].size < 200:
        return []
    lsb = float(np.abs(image[:, 1:, 0] - image[:, :-1, 7]).mean())
    msb = float(np.abs(image[:, 1:, 7] - image[:, :-1, 0]).mean())
    used, other, name = (lsb, msb, "msb") if stream.geometry.bit_order == "lsb" else (msb, lsb, "lsb")
    if used <= 1.2 * other:
        return []
    return [
        f"the order of the bits looks reversed: steps at the ends of bytes are "
        f"{used / max(other, 1e-9):.1f} times smaller with bit_order {name!r}"
    ]


def _orientation_problems(stream: SpikeStream, reference: Bytes) -> list[str]:
    """Compare an image from the middle of the recording with a reference, as it is and flipped."""
    frames, height, width = stream.shape
    centre = frames // 2
    start = max(centre - _REFERENCE_WINDOW // 2, 0)
    spikes = stream.read(start, min(start + _REFERENCE_WINDOW, frames))
    image = tfp(spikes, centre - start, _REFERENCE_WINDOW)
    target = cv2.resize(gray(reference), (width, height), interpolation=cv2.INTER_AREA)
    if not image.std() or not target.std():
        return []
    flips = {
        "as it is": image,
        "upside down": image[::-1],
        "mirrored": image[:, ::-1],
        "turned": image[::-1, ::-1],
    }
    scores = {name: float(np.corrcoef(flip.ravel(), target.ravel())[0, 1]) for name, flip in flips.items()}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] < max(0.3, scores["as it is"] + 0.1):
        return []
    return [
        f"matches its reference image {best} (r = {scores[best]:.2f}) rather than as it is "
        f"(r = {scores['as it is']:.2f}): is bottom_up right?"
    ]


def _middle(stream: PackedSpikes) -> Bytes:
    """Return up to 128 packed frames from the middle, (t, H, row_bytes)."""
    start = max((stream.shape[0] - _AVERAGED_FRAMES) // 2, 0)
    return stream.packed[start : start + _AVERAGED_FRAMES]
