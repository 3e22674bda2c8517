"""Whether the files of a sequence are all there, whole, and of the size that they should be."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deblurkit.data.checks.report import Kind, Problem, problem
from deblurkit.data.layouts.listing import stems
from deblurkit.data.layouts.source import SourceSequence, image_shape, is_png, read_image
from deblurkit.data.manifest import FileRecord
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.data.verified import sha256_of
from deblurkit.errors import DataError

Shape = tuple[int, int]

_TAIL = 64  # bytes at the end of a PNG among which its last chunk is found
_CHUNK = 12  # bytes of a PNG's chunk beside its content: length, type, CRC


@dataclass(frozen=True)
class FileFindings:
    """What the files of a sequence are like.

    Attributes:
        problems: in the order of the frames.
        bad: files that are not worth opening.
        frame_shape: rows and columns of most of the readable frames; None where there is none.
    """

    problems: tuple[Problem, ...]
    bad: frozenset[Path]
    frame_shape: Shape | None


def check_files(sequence: SourceSequence, *, frame_shape: Shape | None, quick: bool) -> FileFindings:
    """Return what is missing, cut, unreadable or of a wrong size.

    Args:
        sequence: whose files are looked at.
        frame_shape: rows and columns that its frames must have; by default what most of them have.
        quick: look at the beginning and the end of each picture only, and not at the checksums inside it.
    """
    problems: list[Problem] = []
    shapes: dict[Path, Shape] = {}
    look = png_ends if quick else png_whole
    for path in _pictures(sequence):
        fault = picture_fault(path, look)
        if fault is None:
            shapes[path] = image_shape(path)
        else:
            problems.append(problem(path, *fault))
    usual = Counter(shapes.values()).most_common(1)[0][0] if shapes else None
    problems += _wrong_sizes(shapes, frame_shape or usual)
    problems += _recording_problems(sequence)
    return FileFindings(
        problems=tuple(problems),
        bad=frozenset(found.path for found in problems),
        frame_shape=usual,
    )


def check_checksums(files: Mapping[Path, FileRecord], *, skip: frozenset[Path]) -> Iterator[Problem]:
    """Yield the files that are not what a manifest says, those left out that are known to be bad."""
    wrong = list(check_sizes(files, skip=skip))
    yield from wrong
    known = skip | {found.path for found in wrong}
    for path, expected in files.items():
        if path not in known and sha256_of(path) != expected.sha256:
            yield problem(path, "checksum", "its SHA-256 is not the manifest's")


def check_sizes(files: Mapping[Path, FileRecord], *, skip: frozenset[Path]) -> Iterator[Problem]:
    """Yield the files that are missing or not as long as a manifest says."""
    for path, expected in files.items():
        if path in skip:
            continue
        try:
            size = path.stat().st_size
            path.open("rb").close()
        except FileNotFoundError:
            yield problem(path, "missing", "no such file, though the manifest lists it")
        except OSError as error:
            yield problem(path, "unreadable", f"cannot be read: {error.strerror}")
        else:
            kind: Kind = "truncated" if size < expected.bytes else "checksum"
            if size != expected.bytes:
                yield problem(path, kind, f"{size} bytes, the manifest says {expected.bytes}")


def picture_fault(
    path: Path, look: Callable[[BinaryIO, int], tuple[Kind, str] | None]
) -> tuple[Kind, str] | None:
    """Return the kind of fault of a picture and what it is, None for none; ``look`` looks into PNGs."""
    try:
        size = path.stat().st_size
        if size == 0:
            return "truncated", "empty (0 bytes)"
        with path.open("rb") as file:
            if is_png(file.read(8)):
                return look(file, size)
        read_image(path)
    except FileNotFoundError:
        return "missing", "no such file"
    except OSError as error:
        return "unreadable", f"cannot be read: {error.strerror}"
    except DataError:
        return "unreadable", "not a picture that can be read"
    return None


def png_ends(file: BinaryIO, size: int) -> tuple[Kind, str] | None:
    """Return whether a PNG of ``size`` bytes lacks its end; ``file`` stands behind the signature."""
    file.seek(max(size - _TAIL, 0))
    tail = file.read()
    if not 8 <= len(tail) - tail.rfind(b"IEND") <= len(tail):  # its name and its checksum
        return "truncated", f"ends after {size} bytes without a PNG's end"
    return None


def png_whole(file: BinaryIO, size: int) -> tuple[Kind, str] | None:
    """Return what breaks the row of a PNG's chunks: an end that is missing or a checksum that is wrong."""
    position = 8
    while position + _CHUNK <= size:
        length, name = struct.unpack(">I4s", file.read(8))
        if position + _CHUNK + length > size:
            break
        content = file.read(length)
        (expected,) = struct.unpack(">I", file.read(4))
        if zlib.crc32(content, zlib.crc32(name)) != expected:
            return "unreadable", f"damaged: the PNG's chunk at byte {position} does not match its checksum"
        if name == b"IEND":
            return None
        position += _CHUNK + length
    return "truncated", f"ends after {size} bytes without a PNG's end"


def _pictures(sequence: SourceSequence) -> Iterator[Path]:
    """Yield blurry and sharp frames: those of the exposures, and those that one of the folders has alone."""
    exposures = sequence.exposures
    expected = dict.fromkeys(path for one in exposures for path in (one.blurry, one.sharp))
    yield from expected
    for blurry, sharp in dict.fromkeys((one.blurry.parent, one.sharp.parent) for one in exposures):
        alone = set(stems(blurry, ".png")) ^ set(stems(sharp, ".png"))
        extra = (folder / f"{stem}.png" for stem in sorted(alone) for folder in (blurry, sharp))
        yield from (path for path in extra if path not in expected)


def _wrong_sizes(shapes: Mapping[Path, Shape], expected: Shape | None) -> Iterator[Problem]:
    for path, shape in shapes.items():
        if shape != expected and expected is not None:
            found = f"{shape[0]}x{shape[1]} pixels, {expected[0]}x{expected[1]} expected"
            yield problem(path, "wrong-size", found)


def recording_fault(path: Path, geometry: SpikeGeometry, *, needed: int = 1) -> tuple[Kind, str] | None:
    """Return what keeps a ``.dat`` from being read, None for nothing: it lacks, or its end does.

    Args:
        path: of the recording.
        geometry: of its frames.
        needed: spike frames that it should hold at least.
    """
    try:
        size = path.stat().st_size
        path.open("rb").close()
    except FileNotFoundError:
        return "missing", "no such file"
    except OSError as error:
        return "unreadable", f"cannot be read: {error.strerror}"
    frames, rest = divmod(size, geometry.frame_bytes)
    if rest or not size:
        whole = f"spike frames of {geometry} ({geometry.frame_bytes} bytes)"
        return "truncated", f"{size} bytes are not whole {whole}"
    return ("truncated", f"{frames} spike frames, {needed} expected") if frames < needed else None


def _recording_problems(sequence: SourceSequence) -> Iterator[Problem]:
    """Yield the recordings that are missing, cut or of another length than they should have."""
    for path, starts in recordings(sequence).items():
        needed = max(max(starts) + sequence.spike_frames, sequence.recording_frames or 0)
        fault = recording_fault(path, sequence.geometry, needed=needed)
        if fault is not None:
            yield problem(path, *fault)
        elif min(starts) < 0:
            yield problem(
                path, "count", f"its first exposure would start {-min(starts)} spike frames before it"
            )
        elif sequence.recording_frames is not None:
            frames = path.stat().st_size // sequence.geometry.frame_bytes
            if frames > needed:
                yield problem(path, "count", f"{frames} spike frames, {needed} expected")


def recordings(sequence: SourceSequence) -> dict[Path, list[int]]:
    """Return the recordings of a sequence, each with the frames at which its exposures start."""
    found: dict[Path, list[int]] = {}
    for exposure in sequence.exposures:
        found.setdefault(exposure.spikes, []).append(exposure.first_spike)
    return found
