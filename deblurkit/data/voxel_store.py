"""Voxels made once and kept: the sums of the box bins as whole numbers, mapped where they are needed.

::

    ROOT/voxels_K32/index.json                      which dataset they were made of, and the size of each file
    ROOT/voxels_K32/{train,test}/<sequence>.npy     (frames, K, rows, columns) uint8, or int16 beyond 255

A voxel is such a number over the spike frames of its exposure, so nothing is rounded that would not be
otherwise; 32 bins of a byte are a fourth of the same in float32, and three times the bits themselves.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from deblurkit.data.frames import Window
from deblurkit.data.manifest import MANIFEST, FileRecord
from deblurkit.data.raw import COUNTED
from deblurkit.data.reconstruct import voxels_of
from deblurkit.data.sensor_noise import PackedExposure
from deblurkit.data.unified import Sequence, UnifiedDataset
from deblurkit.data.verified import sha256_of, unverified
from deblurkit.errors import DataError
from deblurkit.files import hidden_folder, sync_file, take_name, write_text
from deblurkit.units import format_bytes

Progress = Callable[[int, int], None]  # frames done, in all
Counts: TypeAlias = NDArray[Any]


def store_folder(root: Path, num_bins: int) -> Path:
    """Return where the voxels of a dataset lie."""
    return root / f"voxels_K{num_bins}"


def make_voxels(dataset: UnifiedDataset, num_bins: int, *, progress: Progress | None = None) -> Path:
    """Write the voxels of every exposure and return their folder, which appears only when it is whole.

    Raises:
        DataError: if they are there already or cannot be written.
    """
    folder = store_folder(dataset.root, num_bins)
    if folder.exists():
        raise DataError(f"{folder}: exists; remove it first to make the voxels again")
    sequences = [*dataset.sequences("train"), *dataset.sequences("test")]
    total, done = sum(sequence.num_frames for sequence in sequences), 0
    try:
        with hidden_folder(folder) as hidden:
            _check_room(dataset, sequences, num_bins)
            files = {}
            for sequence in sequences:
                name = f"{sequence.split}/{sequence.name}.npy"
                files[name] = _write(hidden / name, sequence, num_bins)
                done += sequence.num_frames
                if progress is not None:
                    progress(done, total)
            index = {"manifest_sha256": _digest(dataset.root), "bins": num_bins, "files": files}
            write_text(hidden / "index.json", json.dumps(index, indent=1))
            take_name(hidden, folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}") from error
    return folder


def _check_room(dataset: UnifiedDataset, sequences: list[Sequence], num_bins: int) -> None:
    pixels = num_bins * dataset.manifest.spike_shape[0] * dataset.manifest.spike_shape[1]
    needed = sum(s.num_frames * pixels * _kind(s).itemsize for s in sequences)
    free = shutil.disk_usage(dataset.root).free
    if needed > free:
        raise DataError(
            f"{dataset.root}: the voxels need {format_bytes(needed)}, {format_bytes(free)} are free;"
            " free some space, or train without DATA.USE_PRECOMPUTED_VOXELS"
        )


class CountedReader:
    """Reads the voxels of a dataset that `make_voxels` has made.

    Raises:
        DataError: if they were not made, were made of another state of the dataset, or are cut.
    """

    def __init__(self, root: Path, num_bins: int) -> None:
        self._folder = store_folder(root, num_bins)
        self._maps: dict[str, Counts] = {}
        make = f"make them by `deblurkit prepare-data voxels {root} --bins {num_bins}`"
        if not self._folder.is_dir():
            raise DataError(f"{self._folder}: DATA.USE_PRECOMPUTED_VOXELS finds no voxels; {make}")
        try:
            index = json.loads((self._folder / "index.json").read_text(encoding="utf-8"))
            cut = [name for name, size, _ in _entries(index) if (self._folder / name).stat().st_size != size]
            bins = index["bins"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._folder}: damaged ({error}); remove it and {make}") from error
        if index.get("manifest_sha256") != _digest(root) or bins != num_bins:
            raise DataError(f"{self._folder}: made of another state of the dataset; remove it and {make}")
        if cut:
            raise DataError(f"{self._folder}: {cut[0]} is cut; remove the folder and {make}")
        self._check_bytes(index, make)

    def _check_bytes(self, index: dict[str, Any], make: str) -> None:
        """Read the files once after each change of them."""
        files = {name: FileRecord(bytes=size, sha256=digest) for name, size, digest in _entries(index)}
        damaged = unverified(self._folder, files)
        if damaged:
            raise DataError(f"{self._folder}: {damaged[0]} is damaged; remove the folder and {make}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def read(self, sequence: Sequence, index: int, window: Window) -> PackedExposure:
        """Return the voxels of an exposure times its spike frames, (K, height, width)."""
        rows, columns = window.slices
        name = f"{sequence.split}/{sequence.name}.npy"
        if name not in self._maps:
            mapped = np.load(self._folder / name, mmap_mode="r", allow_pickle=False)
            self._maps[name] = np.asarray(mapped)
        return PackedExposure(self._maps[name][index, :, rows, columns], COUNTED)


def _entries(index: dict[str, Any]) -> list[tuple[str, int, str]]:
    """Return name, bytes and SHA-256 of every file of an index."""
    return [(name, int(entry["bytes"]), str(entry["sha256"])) for name, entry in index["files"].items()]


def _kind(sequence: Sequence) -> np.dtype[Any]:
    return np.dtype(np.uint8 if sequence.spike_frames_per_exposure <= 255 else np.int16)


def _write(path: Path, sequence: Sequence, num_bins: int) -> dict[str, Any]:
    """Write the voxels of a sequence and return the size and the SHA-256 of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames, kind = sequence.spike_frames_per_exposure, _kind(sequence)
    shape = (sequence.num_frames, num_bins, *sequence.spike_shape)
    with path.open("wb") as file:
        head = {"descr": dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        write_array_header_1_0(file, head)
        for index in range(sequence.num_frames):
            spikes = torch.from_numpy(sequence.read_spikes(index))
            file.write((voxels_of(spikes, num_bins) * frames).round().numpy().astype(kind).tobytes())
    sync_file(path)
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _digest(root: Path) -> str:
    return hashlib.sha256((root / MANIFEST).read_bytes()).hexdigest()
