"""Spike-camera recordings on disk: what a file means, reading any crop of it, writing one.

A ``.dat`` file is one bit a pixel a frame and nothing else: no header, no size. Rows run from the bottom of
the image to its top, and pixel x of a row is bit x % 8 of byte x // 8.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import yaml
from numpy.typing import NDArray

from deblurkit.errors import DataError
from deblurkit.files import replaced_file

BitOrder = Literal["lsb", "msb"]
Bytes: TypeAlias = NDArray[np.uint8]

_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)), bitorder="little")  # bits of each byte

_NUMPY_BIT_ORDER: dict[BitOrder, Literal["little", "big"]] = {"lsb": "little", "msb": "big"}


@dataclass(frozen=True)
class SpikeGeometry:
    """How the bits of a ``.dat`` file are laid out; nothing in the file itself tells.

    Attributes:
        height: rows of a frame.
        width: image columns of a frame.
        header_columns: columns after the image that hold no light (16 in the files "with head").
        bit_order: ``lsb`` where the first pixel of eight is the lowest bit of its byte.
        bottom_up: whether the first row on disk is the lowest of the image.
    """

    height: int
    width: int
    header_columns: int = 0
    bit_order: BitOrder = "lsb"
    bottom_up: bool = True

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or self.header_columns < 0:
            raise ValueError(f"a spike frame of {self} has no pixels")
        if (self.width + self.header_columns) % 8:
            raise ValueError(
                f"a row of {self.width + self.header_columns} bits does not fill whole bytes: {self}"
            )
        if self.bit_order not in _NUMPY_BIT_ORDER:
            raise ValueError(f"bit_order is lsb or msb, not {self.bit_order!r}")

    def __str__(self) -> str:
        head = f" with {self.header_columns} header columns" if self.header_columns else ""
        return f"{self.height}x{self.width}{head}"

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, header columns included."""
        return (self.width + self.header_columns) // 8

    @property
    def frame_bytes(self) -> int:
        """Bytes of one spike frame."""
        return self.height * self.row_bytes


COMMON_GEOMETRIES = (
    SpikeGeometry(250, 400),
    SpikeGeometry(250, 400, header_columns=16),
    SpikeGeometry(360, 640),
    SpikeGeometry(180, 320),
    SpikeGeometry(384, 384),
    SpikeGeometry(256, 256),
    SpikeGeometry(500, 800),
    SpikeGeometry(1000, 1000),
)


class SpikeStream(Protocol):
    """A recording that any crop can be read from."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        ...

    def read(
        self,
        start: int,
        stop: int,
        *,
        top: int = 0,
        left: int = 0,
        height: int | None = None,
        width: int | None = None,
    ) -> Bytes:
        """Return frames ``start`` to ``stop`` of a crop, upright: uint8 (stop - start, height, width)."""
        ...


class PackedSpikes:
    """A ``.dat`` recording, mapped on first use and cropped before a bit is unpacked.

    Holds the path, not the map: a copy sent to a worker process is a few hundred bytes.
    """

    def __init__(self, path: Path, geometry: SpikeGeometry) -> None:
        _check_size(path, geometry)
        self.path = path
        self.geometry = geometry
        self.shape = (path.stat().st_size // geometry.frame_bytes, geometry.height, geometry.width)
        self._mapped: Bytes | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}

    @property
    def packed(self) -> Bytes:
        """The bytes as they lie on disk, read-only: uint8 (T, H, row_bytes), rows in disk order."""
        if self._mapped is None:
            rows = (self.shape[0], self.geometry.height, self.geometry.row_bytes)
            try:
                # asarray drops np.memmap's slow slicing; the map itself stays alive as its base.
                self._mapped = np.asarray(np.memmap(self.path, dtype=np.uint8, mode="r", shape=rows))
            except (OSError, ValueError) as error:
                raise DataError(f"{self.path}: the spike recording cannot be mapped: {error}") from error
        return self._mapped

    def read(
        self,
        start: int,
        stop: int,
        *,
        top: int = 0,
        left: int = 0,
        height: int | None = None,
        width: int | None = None,
    ) -> Bytes:
        """Return frames ``start`` to ``stop`` of a crop, upright: uint8 (stop - start, height, width)."""
        bottom, right = _crop_ends(self.shape, (start, stop), (top, left), (height, width))
        block = self._block(start, stop, (top, bottom), (left // 8, -(-right // 8)))
        bits = np.unpackbits(block, axis=-1, bitorder=_NUMPY_BIT_ORDER[self.geometry.bit_order])
        return np.ascontiguousarray(bits[:, :, left % 8 : left % 8 + right - left])

    def read_packed(self, start: int, stop: int, *, top: int, left: int, height: int, width: int) -> Bytes:
        """Return frames ``start`` to ``stop`` of a crop, upright, eight pixels a byte.

        Bytes are (stop - start, height, b), the first pixel of eight in the lowest bit; the crop begins at
        bit ``left % 8`` of a row. b depends on ``width`` alone, so that crops of one size can be stacked.
        """
        bottom, right = _crop_ends(self.shape, (start, stop), (top, left), (height, width))
        needed, room = -(-right // 8) - left // 8, (width + 14) // 8
        block = self._block(start, stop, (top, bottom), (left // 8, left // 8 + needed))
        if self.geometry.bit_order == "msb":
            block = _REVERSED[block]
        packed = np.zeros((*block.shape[:2], room), dtype=np.uint8)
        packed[..., :needed] = block
        return packed

    def _block(self, start: int, stop: int, rows: tuple[int, int], columns: tuple[int, int]) -> Bytes:
        """Return whole bytes of a crop, upright: a view (stop - start, rows, columns)."""
        if not self.geometry.bottom_up:
            return self.packed[start:stop, slice(*rows), slice(*columns)]
        height = self.geometry.height
        return self.packed[start:stop, height - rows[1] : height - rows[0], slice(*columns)][:, ::-1]


class ArraySpikes:
    """A recording that is an upright uint8 array of zeros and ones, (T, H, W).

    A ``.npy`` is mapped: only what is read of it is loaded, and a copy for a loader's worker is its path.
    """

    def __init__(self, spikes: Bytes, path: Path | None = None) -> None:
        self.spikes = spikes
        self.path = path
        frames, height, width = spikes.shape
        self.shape = (frames, height, width)

    def read(
        self,
        start: int,
        stop: int,
        *,
        top: int = 0,
        left: int = 0,
        height: int | None = None,
        width: int | None = None,
    ) -> Bytes:
        """Return frames ``start`` to ``stop`` of a crop: uint8 (stop - start, height, width)."""
        bottom, right = _crop_ends(self.shape, (start, stop), (top, left), (height, width))
        crop = np.ascontiguousarray(self.spikes[start:stop, top:bottom, left:right])
        if crop.size and crop.max() > 1:
            raise DataError(f"{self.path}: spikes are 0 or 1, this array goes up to {int(crop.max())}")
        return crop

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self.spikes, np.memmap) and self.path is not None:
            return open_spikes, (self.path,)
        return ArraySpikes, (self.spikes, self.path)


def open_spikes(path: Path | str, geometry: SpikeGeometry | None = None) -> PackedSpikes | ArraySpikes:
    """Return the recording in ``path``, ready for reading.

    Args:
        path: ``.dat`` (packed bits), ``.npz`` (key ``spk``) or ``.npy``; both upright uint8 (T, H, W).
        geometry: of a ``.dat``; without it, ``spike_w`` and ``spike_h`` of a ``config.yaml`` in the file's
            folder or up to two above. For the other kinds it is compared with the array's own shape.

    Raises:
        DataError: if the file is missing or empty, its size does not fit, or it holds no spikes.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such spike recording")
    if not path.is_file():
        raise DataError(f"{path}: is a folder; a spike recording is a .dat, .npz or .npy file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the spike recording is empty (0 bytes)")
    if path.suffix == ".dat":
        return PackedSpikes(path, geometry or _geometry_beside(path))
    if path.suffix in (".npz", ".npy"):
        return ArraySpikes(_checked_array(path, geometry), path)
    raise DataError(f"{path}: unknown kind of spike recording {path.suffix!r}; known are .dat, .npz and .npy")


def pack_spikes(spikes: Bytes) -> Bytes:
    """Return spikes as they lie in a ``.dat``, bottom row first: uint8 (T, H, W) of 0, 1 -> (T, H, W / 8).

    Raises:
        ValueError: if the array is not three-dimensional or its width is not a multiple of 8.
    """
    if spikes.ndim != 3 or spikes.shape[2] % 8:
        raise ValueError(f"spikes of shape (T, H, W) with W a multiple of 8 expected, got {spikes.shape}")
    return np.packbits(spikes[:, ::-1], axis=-1, bitorder="little")


def write_spikes(path: Path, spikes: Bytes) -> None:
    """Write upright spikes, uint8 (T, H, W) of 0 and 1, as a ``.dat`` that appears only when it is whole."""
    packed = pack_spikes(spikes)
    with replaced_file(path) as file:
        file.write(packed.tobytes())


def geometries_of_size(size: int) -> list[SpikeGeometry]:
    """Return the common geometries of which ``size`` bytes are a whole number of frames."""
    return [known for known in COMMON_GEOMETRIES if size and size % known.frame_bytes == 0]


def _crop_ends(
    shape: tuple[int, int, int],
    frames: tuple[int, int],
    corner: tuple[int, int],
    size: tuple[int | None, int | None],
) -> tuple[int, int]:
    """Return the row below and the column right of a crop; a ValueError where it leaves the recording."""
    top, left = corner
    bottom = shape[1] if size[0] is None else top + size[0]
    right = shape[2] if size[1] is None else left + size[1]
    ranges = (frames, (top, bottom), (left, right))
    if not all(0 <= low < high <= limit for (low, high), limit in zip(ranges, shape, strict=True)):
        wanted = ", ".join(f"{low}:{high}" for low, high in ranges)
        raise ValueError(f"crop [{wanted}] lies outside a recording of shape {shape}")
    return bottom, right


def _check_size(path: Path, geometry: SpikeGeometry) -> None:
    size = path.stat().st_size
    remainder = size % geometry.frame_bytes
    if size and not remainder:
        return
    fitting = ", ".join(map(str, geometries_of_size(size)))
    hint = f"; its size would fit {fitting}" if fitting else ""
    raise DataError(
        f"{path}: {size} bytes are not a whole number of {geometry} frames "
        f"({geometry.frame_bytes} bytes each, {remainder} left over): truncated, or of another size{hint}"
    )


def _geometry_beside(path: Path) -> SpikeGeometry:
    """Return the geometry that a ``config.yaml`` beside or above a ``.dat`` gives."""
    for folder in list(path.absolute().parents)[:3]:
        if (folder / "config.yaml").is_file():
            return read_geometry(folder / "config.yaml")
    fitting = ", ".join(map(str, geometries_of_size(path.stat().st_size)))
    raise DataError(
        f"{path}: a .dat does not tell its size, and no config.yaml (spike_w, spike_h) is near; "
        f"give the height and width. Common sizes that fit: {fitting or 'none'}"
    )


def read_geometry(config: Path) -> SpikeGeometry:
    """Return the frame size that a ``config.yaml`` gives (``spike_h``, ``spike_w``).

    Raises:
        DataError: if it cannot be read or makes no frame size.
    """
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{config}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    is_mapping = isinstance(values, dict)
    height, width = (values.get(key) if is_mapping else None for key in ("spike_h", "spike_w"))
    if not isinstance(height, int) or not isinstance(width, int):
        found = f"{height!r} and {width!r}" + ("" if is_mapping else " (no mapping)")
        raise DataError(f"{config}: whole numbers spike_h and spike_w expected, got {found}")
    try:
        return SpikeGeometry(height=height, width=width)
    except ValueError as error:
        raise DataError(f"{config}: {error}") from error


def _checked_array(path: Path, geometry: SpikeGeometry | None) -> Bytes:
    array = _load_array(path)
    if array.ndim != 3 or array.size == 0 or array.dtype not in (np.dtype(np.uint8), np.dtype(np.bool_)):
        raise DataError(
            f"{path}: spikes of type uint8 and shape (T, H, W) expected, got {array.dtype} {array.shape}"
        )
    spikes: Bytes = array.view(np.uint8)
    if int(spikes[0].max()) > 1:  # the other frames are looked at when they are read
        raise DataError(f"{path}: spikes are 0 or 1, this array goes up to {int(spikes[0].max())}")
    if geometry is not None and spikes.shape[1:] != (geometry.height, geometry.width):
        raise DataError(f"{path}: frames of {geometry} expected, the array has shape {spikes.shape}")
    return spikes


def _load_array(path: Path) -> NDArray[Any]:
    try:
        if path.suffix == ".npy":
            mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            return mapped
        with np.load(path, allow_pickle=False) as archive:
            if "spk" not in archive:
                raise DataError(f"{path}: no array named spk, only {', '.join(_names(archive)) or 'nothing'}")
            return np.asarray(archive["spk"])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as a {path.suffix} array: {reason}") from error


def _names(archive: Any) -> Iterator[str]:
    return iter(sorted(archive.files))
