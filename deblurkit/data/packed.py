"""A packed dataset: every frame decoded once, raw in two mapped files a sequence, so that crops are copies.

::

    ROOT/manifest.json                 "storage": "packed", and a SHA-256 of every file
    ROOT/verified.json                 which files have been read in full and found whole
    ROOT/{train,test}/<sequence>/{blur,sharp}.u8    (frames, rows, columns, 3) uint8 RGB
    ROOT/{train,test}/<sequence>/spikes.dat         as in a dataset of PNGs

The kernel keeps one copy of what is read for all processes of the node, and gives it up when memory is short.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deblurkit.data.dataset_writer import check_free
from deblurkit.data.frames import Frame, FrameKind, PngFrames, read_bytes
from deblurkit.data.manifest import MANIFEST, FileRecord, Manifest
from deblurkit.data.unified import Sequence, UnifiedDataset, open_dataset
from deblurkit.data.verified import note_verified, sha256_of, stamp_of
from deblurkit.errors import DataError
from deblurkit.files import hidden_folder, sync_file, take_name, write_text
from deblurkit.units import format_bytes

Progress = Callable[[int, int], None]  # done, in all

_AHEAD = 4  # frames that each thread decodes before they are written


def pack_dataset(
    source: UnifiedDataset, root: Path, *, workers: int = 1, progress: Progress | None = None
) -> UnifiedDataset:
    """Write ``source`` to ``root`` as a packed dataset; it appears under its name only when it is whole.

    Args:
        source: a dataset of PNGs.
        root: must not exist or be empty.
        workers: threads that decode.
        progress: told the frames done, blurry and sharp ones, and the number of all.

    Raises:
        DataError: if it is packed already, does not fit on the disk, or a file of it is damaged.
    """
    root = root.absolute()
    if source.manifest.storage == "packed":
        raise DataError(f"{source.root}: is packed already")
    check_free(root)
    try:
        with hidden_folder(root) as hidden:
            _check_room(source, root.parent)
            files = _write_files(source, hidden, workers=workers, progress=progress)
            made_by = {**source.manifest.source, "packed": True}
            manifest = source.manifest.model_copy(
                update={"storage": "packed", "files": files, "source": made_by}
            )
            write_text(hidden / MANIFEST, manifest.model_dump_json(by_alias=True, indent=1) + "\n")
            note_verified(hidden, {name: stamp_of(hidden / name, files[name]) for name in files})
            take_name(hidden, root)
    except OSError as error:
        raise DataError(f"{root}: cannot be written: {error.strerror}") from error
    return open_dataset(root)


def packed_bytes(manifest: Manifest) -> int:
    """Return the size of a dataset when it is packed."""
    spikes = sum(record.bytes for name, record in manifest.files.items() if name.endswith("spikes.dat"))
    return _frame_bytes(manifest) * _num_frames(manifest) + spikes


def decoded_bytes(manifest: Manifest) -> int:
    """Return what all frames of a dataset take in a cache, each in whole pages."""
    pages = -(-_frame_bytes(manifest) // mmap.PAGESIZE)
    return pages * mmap.PAGESIZE * _num_frames(manifest)


def _frame_bytes(manifest: Manifest) -> int:
    return manifest.frame_shape[0] * manifest.frame_shape[1] * 3


def _num_frames(manifest: Manifest) -> int:
    """Return how many images there are, blurry and sharp ones."""
    return 2 * sum(len(record.stems) for record in manifest.sequences)


def _check_room(source: UnifiedDataset, folder: Path) -> None:
    needed, free = packed_bytes(source.manifest), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: the packed dataset needs {format_bytes(needed)}, {format_bytes(free)} are free;"
            " choose another --output, or free some space"
        )


def _write_files(
    source: UnifiedDataset, hidden: Path, *, workers: int, progress: Progress | None
) -> dict[str, FileRecord]:
    sequences = [s for split in ("train", "test") for s in source.sequences(split)]
    total, done, files = 2 * sum(sequence.num_frames for sequence in sequences), 0, {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for sequence in sequences:
            folder = f"{sequence.split}/{sequence.name}"
            (hidden / folder).mkdir(parents=True)
            kinds: tuple[FrameKind, FrameKind] = ("blur", "sharp")
            for kind in kinds:
                name = f"{folder}/{kind}.u8"
                frames = _decoded(pool, source, sequence, kind, ahead=_AHEAD * workers)
                files[name] = _write_frames(hidden / name, frames)
                done += sequence.num_frames
                if progress is not None:
                    progress(done, total)
            name = f"{folder}/spikes.dat"
            shutil.copyfile(source.root / name, hidden / name)
            sync_file(hidden / name)
            if sha256_of(hidden / name) != source.manifest.files[name].sha256:
                raise DataError(f"{source.root / name}: SHA-256 differs from the manifest's: damaged")
            files[name] = source.manifest.files[name]
    return files


def _decoded(
    pool: ThreadPoolExecutor, source: UnifiedDataset, sequence: Sequence, kind: FrameKind, *, ahead: int
) -> Iterator[Frame]:
    """Yield the frames of a sequence in order, ``ahead`` of them being decoded at a time."""
    frames = sequence.frames
    assert isinstance(frames, PngFrames)

    def decode(index: int) -> Frame:
        path = frames.path(kind, index)
        data = read_bytes(path)
        expected = source.manifest.files[path.relative_to(source.root).as_posix()].sha256
        if hashlib.sha256(data).hexdigest() != expected:
            raise DataError(f"{path}: damaged: SHA-256 differs from the manifest's")
        return frames.decoded(data, path)

    waiting = [pool.submit(decode, index) for index in range(min(ahead, sequence.num_frames))]
    for index in range(sequence.num_frames):
        yield waiting.pop(0).result()
        if index + ahead < sequence.num_frames:
            waiting.append(pool.submit(decode, index + ahead))


def _write_frames(path: Path, frames: Iterator[Frame]) -> FileRecord:
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for frame in frames:
            data = frame.tobytes()
            file.write(data)
            digest.update(data)
            size += len(data)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(bytes=size, sha256=digest.hexdigest())
