"""The frames of a sequence, whole or cropped: out of PNGs, out of mapped files, or by way of a cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurkit.cache.stats import CacheStats
from deblurkit.errors import DataError

Frame: TypeAlias = NDArray[np.uint8]
FrameKind = Literal["blur", "sharp"]


class Window(NamedTuple):
    """A place in the frame, in pixels of the frame."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the frame."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


class FrameReader(Protocol):
    """Where the frames of one sequence come from."""

    def read(self, kind: FrameKind, index: int, window: Window | None = None) -> Frame:
        """Return a frame, or a window of it, as RGB uint8 (H, W, 3); it may be a read-only view."""
        ...


class Cache(Protocol):
    """A store of arrays by name that may forget any of them."""

    def get_or_make(self, key: str, make: Callable[[], Frame]) -> Frame:
        """Return the array of ``key``, read-only; ``make`` it if it is not there, and keep it."""
        ...

    def stats(self) -> CacheStats:
        """Return what it has held and answered."""
        ...


class PngFrames:
    """Frames that are PNG files; every read decodes the whole image.

    Args:
        folder: of the sequence; holds ``blur`` and ``sharp``.
        stems: names of the frames, in order.
        shape: rows and columns that each must have.
    """

    def __init__(self, folder: Path, stems: NDArray[np.str_], shape: tuple[int, int]) -> None:
        self._folder, self._stems, self._shape = folder, stems, shape

    def read(self, kind: FrameKind, index: int, window: Window | None = None) -> Frame:
        """Return a frame, or a window of it, as RGB uint8 (H, W, 3).

        Raises:
            DataError: if the file is missing, damaged or of another size.
        """
        path = self.path(kind, index)
        return self.decoded(read_bytes(path), path, window)

    def decoded(self, data: bytes, path: Path, window: Window | None = None) -> Frame:
        """Return the frame, or a window of it, that ``data`` of the file ``path`` is.

        Raises:
            DataError: if it is damaged or of another size.
        """
        bgr = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR) if data else None
        if bgr is None:
            raise DataError(f"{path}: damaged: not a readable PNG")
        if bgr.shape[:2] != self._shape:
            raise DataError(f"{path}: {bgr.shape[:2]} pixels, the manifest says {self._shape}")
        seen = bgr if window is None else bgr[window.slices]
        return np.asarray(cv2.cvtColor(seen, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def path(self, kind: FrameKind, index: int) -> Path:
        """Return where a frame lies."""
        return self._folder / kind / f"{self._stems[index]}.png"


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        DataError: if it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: missing") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


class PackedFrames:
    """Frames one behind the other in ``blur.u8`` and ``sharp.u8``, mapped on first use.

    A crop touches only its own pages; the kernel keeps one copy of them for all processes of the node. Holds
    paths, not maps: a copy sent to a worker process is a few hundred bytes.
    """

    def __init__(self, folder: Path, num_frames: int, shape: tuple[int, int]) -> None:
        self._folder, self._shape = folder, (num_frames, *shape, 3)
        self._mapped: dict[str, Frame] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": {}}

    def read(self, kind: FrameKind, index: int, window: Window | None = None) -> Frame:
        """Return a frame, or a window of it, as RGB uint8 (H, W, 3), a read-only view of the file.

        Raises:
            DataError: if the file cannot be mapped.
        """
        frame: Frame = self._map(kind)[index]
        return frame if window is None else frame[window.slices]

    def _map(self, kind: FrameKind) -> Frame:
        if kind not in self._mapped:
            path = self._folder / f"{kind}.u8"
            try:
                # asarray drops np.memmap's slow slicing; the map itself stays alive as its base.
                self._mapped[kind] = np.asarray(
                    np.memmap(path, dtype=np.uint8, mode="r", shape=self._shape), dtype=np.uint8
                )
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: the frames cannot be mapped: {error}") from error
        return self._mapped[kind]


class CachedFrames:
    """Frames of PNGs, decoded once for the whole node while the cache has room for them.

    Args:
        frames: where they come from.
        cache: shared by the processes of the node.
        name: of the sequence, unlike any other in the cache.
    """

    def __init__(self, frames: PngFrames, cache: Cache, name: str) -> None:
        self._frames, self._cache, self._name = frames, cache, name

    def read(self, kind: FrameKind, index: int, window: Window | None = None) -> Frame:
        """Return a frame, or a window of it, as RGB uint8 (H, W, 3); it may be a read-only view."""
        key = f"{self._name}/{kind}/{index}"
        frame = self._cache.get_or_make(key, lambda: self._frames.read(kind, index))
        return frame if window is None else frame[window.slices]
