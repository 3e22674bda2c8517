"""The dataset layout that everything here reads: PNGs, packed spikes, and a manifest that explains them.

::

    ROOT/manifest.json
    ROOT/{train,test}/<sequence>/{blur,sharp}/NNNNNN.png
    ROOT/{train,test}/<sequence>/spikes.dat

One ``spikes.dat`` holds all spike frames of a sequence (least significant bit first, bottom row first); the
manifest says at which of them each blurry frame's exposure starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from deblurkit.data.simulate import BlurVariant
from deblurkit.data.spikes import PackedSpikes, SpikeGeometry, pack_spikes
from deblurkit.errors import DataError

Frame = NDArray[np.uint8]
Split = Literal["train", "test"]

SCHEMA = "deblurkit-dataset/1"
MANIFEST = "manifest.json"
_SCHEMA_FAMILY, _SCHEMA_VERSION = "deblurkit-dataset", 1


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
        raise ValueError(f"a plain file name expected (letters, digits, _ . + -), not {name!r}")
    return name


def _inside(path: str) -> str:
    for part in path.split("/"):
        _plain_name(part)
    return path


Name = Annotated[str, AfterValidator(_plain_name)]
RelativePath = Annotated[str, AfterValidator(_inside)]
Count = Annotated[int, Field(ge=1)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Record):
    """What a file must be."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SequenceRecord(_Record):
    """One sequence: its frames in order, and where in ``spikes.dat`` each one's exposure starts."""

    split: Split
    name: Name
    stems: Annotated[list[Name], Field(min_length=1)]
    spike_starts: list[Annotated[int, Field(ge=0)]]
    spike_frames_per_exposure: Count
    sharp_frames_per_exposure: Count | None = None

    @property
    def folder(self) -> str:
        """Folder below the root."""
        return f"{self.split}/{self.name}"

    @property
    def files(self) -> list[str]:
        """Every file of the sequence, below the root."""
        images = [f"{self.folder}/{kind}/{stem}.png" for kind in ("blur", "sharp") for stem in self.stems]
        return [*images, f"{self.folder}/spikes.dat"]


class Manifest(_Record):
    """What a dataset is and how it was made.

    Attributes:
        schema_id: the version of this layout; ``schema`` in the file.
        name: of the dataset.
        source: how it was made: the command, its seed, the names of the files it came from.
        blur_variant: how light was averaged into the blurry frames.
        frame_shape: rows and columns of the frames.
        spike_shape: rows and columns of the spikes.
        spike_margin: spike frames that belong to an exposure's recording before and after it.
        spikes_per_sharp_frame: spike frames in the time of one sharp frame, where known.
        frame_rate: blurry frames a second, where known.
        sensor: what is known of the spike sensor; for simulated spikes the settings.
        sequences: in the order in which they are read.
        files: every file below the root but the manifest.
    """

    schema_id: str = Field(default=SCHEMA, alias="schema")
    name: str
    source: dict[str, JsonValue]
    blur_variant: BlurVariant
    frame_shape: tuple[Count, Count]
    spike_shape: tuple[Count, Count]
    spike_margin: Annotated[int, Field(ge=0)] = 0
    spikes_per_sharp_frame: Count | None = None
    frame_rate: Annotated[float, Field(gt=0)] | None = None
    sensor: dict[str, JsonValue] | None = None
    sequences: Annotated[list[SequenceRecord], Field(min_length=1)]
    files: dict[RelativePath, FileRecord]


class Sequence:
    """The frames and spikes of one sequence, read one at a time.

    Holds paths and arrays, so a copy for a loader's worker costs little; the spikes are mapped on first use.
    """

    def __init__(self, root: Path, record: SequenceRecord, manifest: Manifest) -> None:
        self.name = record.name
        self.split = record.split
        self.frame_shape = manifest.frame_shape
        self.spike_shape = manifest.spike_shape
        self.spike_frames_per_exposure = record.spike_frames_per_exposure
        self.spike_margin = manifest.spike_margin
        self.stems = np.array(record.stems)
        self.spike_starts = np.array(record.spike_starts, dtype=np.int64)
        self._folder = root / record.folder
        self._spikes = PackedSpikes(self._folder / "spikes.dat", SpikeGeometry(*manifest.spike_shape))

    @property
    def num_frames(self) -> int:
        """Blurry frames, and as many sharp ones."""
        return len(self.stems)

    def read_blurry(self, index: int) -> Frame:
        """Return blurry frame ``index`` as RGB, uint8 (H, W, 3)."""
        return self._read_image("blur", index)

    def read_sharp(self, index: int) -> Frame:
        """Return the sharp frame at the centre of exposure ``index`` as RGB, uint8 (H, W, 3)."""
        return self._read_image("sharp", index)

    def read_spikes(
        self,
        index: int,
        *,
        top: int = 0,
        left: int = 0,
        height: int | None = None,
        width: int | None = None,
        margin: int = 0,
    ) -> Frame:
        """Return the spikes of exposure ``index``, uint8 (T + 2 * margin, height, width) of 0 and 1, upright.

        Args:
            index: which exposure.
            top: first row of the crop, in spike pixels.
            left: first column of the crop, in spike pixels.
            height: rows of the crop; all by default.
            width: columns of the crop; all by default.
            margin: frames to add before and after, at most the dataset's ``spike_margin``.
        """
        if not 0 <= margin <= self.spike_margin:
            raise ValueError(
                f"{self.name} has {self.spike_margin} spike frames around an exposure, not {margin}"
            )
        start = self._checked(index, self.spike_starts)
        stop = start + self.spike_frames_per_exposure + margin
        return self._spikes.read(start - margin, stop, top=top, left=left, height=height, width=width)

    def _read_image(self, kind: str, index: int) -> Frame:
        path = self._folder / kind / f"{self._checked(index, self.stems)}.png"
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
        if bgr is None:
            raise DataError(f"{path}: {'damaged: not a readable PNG' if path.exists() else 'missing'}")
        if bgr.shape[:2] != self.frame_shape:
            raise DataError(f"{path}: {bgr.shape[:2]} pixels, the manifest says {self.frame_shape}")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def _checked(self, index: int, values: NDArray[Any]) -> Any:
        if not 0 <= index < len(values):
            raise IndexError(f"frame {index} of {self.name}, which has {len(values)}")
        return values[index].item()


@dataclass(frozen=True)
class UnifiedDataset:
    """A dataset whose manifest has been checked against the files."""

    root: Path
    manifest: Manifest

    def sequences(self, split: Split) -> list[Sequence]:
        """Return the sequences of a split, in the manifest's order."""
        records = [record for record in self.manifest.sequences if record.split == split]
        return [Sequence(self.root, record, self.manifest) for record in records]


@dataclass(frozen=True)
class DatasetSummary:
    """What a person wants to know of a dataset; shapes are rows and columns."""

    root: str
    train_sequences: int
    test_sequences: int
    train_frames: int
    test_frames: int
    frame_shape: tuple[int, int]
    spike_shape: tuple[int, int]
    mean_spike_rate: float
    total_bytes: int


def open_dataset(root: Path | str) -> UnifiedDataset:
    """Return the dataset in ``root``, after checking its manifest and that every file is there in full.

    Raises:
        DataError: if the manifest is missing, invalid or of a newer version, or files are missing or cut.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such dataset folder; `deblurkit prepare-data` makes one")
    manifest = _read_manifest(root / MANIFEST)
    problems = [*_file_problems(root, manifest), *_sequence_problems(manifest)]
    if problems:
        raise DataError(_listed(f"{root}: the dataset does not match its {MANIFEST}", problems))
    return UnifiedDataset(root=root, manifest=manifest)


def verify_checksums(dataset: UnifiedDataset, *, progress: Callable[[int], None] | None = None) -> int:
    """Return the bytes read after comparing every file with its SHA-256.

    Args:
        dataset: an open dataset.
        progress: told the bytes of each file once it is read.

    Raises:
        DataError: naming the files that differ.
    """
    problems: list[str] = []
    total = 0
    for name, expected in dataset.manifest.files.items():
        if _sha256(dataset.root / name) != expected.sha256:
            problems.append(f"{name}: SHA-256 differs")
        total += expected.bytes
        if progress is not None:
            progress(expected.bytes)
    if problems:
        raise DataError(_listed(f"{dataset.root}: damaged files", problems))
    return total


def summarise(dataset: UnifiedDataset) -> DatasetSummary:
    """Return sizes and counts of a dataset and the share of its spike bits that are set."""
    manifest = dataset.manifest
    frames = {
        split: [len(s.stems) for s in manifest.sequences if s.split == split] for split in ("train", "test")
    }
    return DatasetSummary(
        root=str(dataset.root),
        train_sequences=len(frames["train"]),
        test_sequences=len(frames["test"]),
        train_frames=sum(frames["train"]),
        test_frames=sum(frames["test"]),
        frame_shape=manifest.frame_shape,
        spike_shape=manifest.spike_shape,
        mean_spike_rate=_mean_spike_rate(dataset),
        total_bytes=sum(record.bytes for record in manifest.files.values()),
    )


class DatasetWriter:
    """Writes a dataset that appears under its name only when it is whole.

    Everything goes to a hidden folder beside ``root``; leaving the ``with`` block writes the manifest and
    gives the folder its name, and an error or Ctrl-C inside the block removes it.

    Args:
        root: the dataset's folder; must not exist or be empty.
        name: of the dataset.
        source: how it is made, for the manifest.
        blur_variant: how light is averaged into the blurry frames.
        frame_shape: rows and columns of the frames.
        spike_shape: rows and columns of the spikes; columns a multiple of 8.
        spike_margin: spike frames before and after each exposure that are written with it.
        spikes_per_sharp_frame: spike frames in the time of one sharp frame, where known.
        frame_rate: blurry frames a second, where known.
        sensor: what is known of the spike sensor.

    Raises:
        DataError: if ``root`` exists with something in it, or cannot be written.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        name: str,
        source: dict[str, JsonValue],
        blur_variant: BlurVariant,
        frame_shape: tuple[int, int],
        spike_shape: tuple[int, int],
        spike_margin: int = 0,
        spikes_per_sharp_frame: int | None = None,
        frame_rate: float | None = None,
        sensor: dict[str, JsonValue] | None = None,
    ) -> None:
        self.root = Path(root).absolute()
        self.blur_variant = blur_variant
        self.frame_shape = frame_shape
        self.spike_shape = spike_shape
        self.spike_margin = spike_margin
        self._described: dict[str, Any] = {
            "name": name,
            "source": source,
            "blur_variant": blur_variant,
            "frame_shape": frame_shape,
            "spike_shape": spike_shape,
            "spike_margin": spike_margin,
            "spikes_per_sharp_frame": spikes_per_sharp_frame,
            "frame_rate": frame_rate,
            "sensor": sensor,
        }
        self._sequences: list[SequenceRecord] = []
        self._files: dict[str, FileRecord] = {}
        self._hidden: Path | None = None

    def __enter__(self) -> DatasetWriter:
        check_free(self.root)
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            hidden = tempfile.mkdtemp(prefix=f".{self.root.name}.", suffix=".partial", dir=self.root.parent)
        except OSError as error:
            raise DataError(f"{self.root}: cannot be written: {error.strerror}") from error
        self._hidden = Path(hidden)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._hidden is not None
        try:
            if kind is None:
                self._finish(self._hidden)
        finally:
            shutil.rmtree(self._hidden, ignore_errors=True)  # gone already where it has taken its name
            self._hidden = None

    @contextlib.contextmanager
    def sequence(
        self,
        split: Split,
        name: str,
        *,
        spike_frames_per_exposure: int,
        sharp_frames_per_exposure: int | None = None,
    ) -> Iterator[SequenceWriter]:
        """Yield a writer that takes the exposures of one sequence, in order."""
        assert self._hidden is not None, "the writer is used as a context manager"
        folder = f"{split}/{_plain_name(name)}"
        if (self._hidden / folder).exists():
            raise ValueError(f"sequence {folder} is written twice")
        with SequenceWriter(self._hidden, folder, self, spike_frames=spike_frames_per_exposure) as writer:
            yield writer
        self._files.update(writer.files)
        self._sequences.append(
            SequenceRecord(
                split=split,
                name=name,
                stems=writer.stems,
                spike_starts=writer.spike_starts,
                spike_frames_per_exposure=spike_frames_per_exposure,
                sharp_frames_per_exposure=sharp_frames_per_exposure,
            )
        )

    def _finish(self, hidden: Path) -> None:
        if not self._sequences:
            raise DataError(f"{self.root}: nothing to write: no sequence has a frame")
        manifest = Manifest(**self._described, sequences=self._sequences, files=self._files)
        text = manifest.model_dump_json(by_alias=True, indent=1)
        (hidden / MANIFEST).write_text(text + "\n", encoding="utf-8")
        umask = os.umask(0o077)
        os.umask(umask)
        hidden.chmod(0o777 & ~umask)  # mkdtemp made it ours alone
        try:
            hidden.rename(self.root)
        except OSError as error:
            raise DataError(f"{self.root}: cannot take its name: {error.strerror}") from error


class SequenceWriter:
    """Takes the exposures of one sequence; made by ``DatasetWriter.sequence``."""

    def __init__(self, root: Path, folder: str, dataset: DatasetWriter, *, spike_frames: int) -> None:
        self.stems: list[str] = []
        self.spike_starts: list[int] = []
        self.files: dict[str, FileRecord] = {}
        self._root = root
        self._folder = folder
        self._dataset = dataset
        self._spike_frames = spike_frames + 2 * dataset.spike_margin
        self._spike_hash = hashlib.sha256()
        for kind in ("blur", "sharp"):
            (root / folder / kind).mkdir(parents=True)
        self._spike_file = (root / folder / "spikes.dat").open("wb")

    def __enter__(self) -> SequenceWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        size = self._spike_file.tell()
        self._spike_file.close()
        if kind is None and not self.stems:
            raise DataError(f"{self._dataset.root}: sequence {self._folder} has no frame")
        self.files[f"{self._folder}/spikes.dat"] = FileRecord(bytes=size, sha256=self._spike_hash.hexdigest())

    def add(self, *, blurry: Frame, sharp: Frame, spikes: Frame, stem: str | None = None) -> None:
        """Append one exposure.

        Args:
            blurry: RGB, uint8 (H, W, 3).
            sharp: RGB, uint8 (H, W, 3).
            spikes: uint8 (margin + T + margin, h, w) of 0 and 1, upright.
            stem: name of the two PNGs; by default the number in the sequence, six digits.
        """
        stem = f"{len(self.stems):06d}" if stem is None else _plain_name(stem)
        expected = (self._spike_frames, *self._dataset.spike_shape)
        if spikes.shape != expected:
            raise ValueError(
                f"{self._folder}/{stem}: spikes of shape {expected} expected, got {spikes.shape}"
            )
        if stem in self.stems:
            raise ValueError(f"{self._folder}/{stem} is written twice")
        self._write_png(f"{self._folder}/blur/{stem}.png", blurry)
        self._write_png(f"{self._folder}/sharp/{stem}.png", sharp)
        packed = pack_spikes(spikes).tobytes()
        self._spike_file.write(packed)
        self._spike_hash.update(packed)
        self.spike_starts.append(len(self.stems) * self._spike_frames + self._dataset.spike_margin)
        self.stems.append(stem)

    def _write_png(self, name: str, rgb: Frame) -> None:
        expected = (*self._dataset.frame_shape, 3)
        if rgb.shape != expected or rgb.dtype != np.uint8:
            raise ValueError(f"{name}: uint8 {expected} expected, got {rgb.dtype} {rgb.shape}")
        done, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        assert done, "a checked uint8 image always encodes"
        data = encoded.tobytes()
        (self._root / name).write_bytes(data)
        self.files[name] = FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def check_free(root: Path) -> None:
    """Raise a DataError if a dataset cannot be made at ``root`` because something is there."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root}: exists and is not an empty folder; choose another name or remove it first")


def _read_manifest(path: Path) -> Manifest:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: missing; a deblurkit dataset has one (`deblurkit prepare-data`)") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    _check_schema(path, content.get("schema") if isinstance(content, dict) else None)
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors()]
        raise DataError(_listed(f"{path}: not a valid manifest", lines)) from error


def _check_schema(path: Path, schema: object) -> None:
    match = re.fullmatch(rf"{_SCHEMA_FAMILY}/(\d+)", schema) if isinstance(schema, str) else None
    if match is None:
        raise DataError(f"{path}: schema {SCHEMA!r} expected, got {schema!r}; is this a deblurkit dataset?")
    if int(match[1]) > _SCHEMA_VERSION:
        raise DataError(
            f"{path}: written by a newer deblurkit ({schema}; this one reads {SCHEMA}); update deblurkit"
        )
    if int(match[1]) < _SCHEMA_VERSION:
        raise DataError(f"{path}: schema {SCHEMA!r} expected, got {schema!r}")


def _file_problems(root: Path, manifest: Manifest) -> Iterator[str]:
    for name, expected in manifest.files.items():
        try:
            size = (root / name).stat().st_size
        except OSError:
            yield f"{name}: missing"
            continue
        if size != expected.bytes:
            yield f"{name}: {size} bytes, {expected.bytes} expected"


def _sequence_problems(manifest: Manifest) -> Iterator[str]:
    """Yield what does not add up within the manifest itself."""
    if manifest.spike_shape[1] % 8:
        yield f"spike_shape {manifest.spike_shape}: the width is not a multiple of 8"
        return
    folders = [record.folder for record in manifest.sequences]
    yield from (f"{folder}: listed twice" for folder in sorted(set(folders)) if folders.count(folder) > 1)
    for record in manifest.sequences:
        unlisted = [name for name in record.files if name not in manifest.files]
        yield from (f"{name}: not listed under files" for name in unlisted)
        if len(record.spike_starts) != len(record.stems):
            yield f"{record.folder}: {len(record.stems)} frames but {len(record.spike_starts)} spike_starts"
        elif not unlisted:
            yield from _spike_problems(record, manifest)


def _spike_problems(record: SequenceRecord, manifest: Manifest) -> Iterator[str]:
    frame_bytes = SpikeGeometry(*manifest.spike_shape).frame_bytes
    name = f"{record.folder}/spikes.dat"
    frames, rest = divmod(manifest.files[name].bytes, frame_bytes)
    if rest or not frames:
        yield f"{name}: {manifest.files[name].bytes} bytes are not whole frames of {frame_bytes} bytes"
        return
    first = min(record.spike_starts) - manifest.spike_margin
    stop = max(record.spike_starts) + record.spike_frames_per_exposure + manifest.spike_margin
    if first < 0 or stop > frames:
        yield f"{name}: {frames} spike frames, but the exposures need frames {first} to {stop}"


def _mean_spike_rate(dataset: UnifiedDataset) -> float:
    bits_of = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
    fired = total = 0
    for record in dataset.manifest.sequences:
        data = np.fromfile(dataset.root / record.folder / "spikes.dat", dtype=np.uint8)
        fired += int(np.bincount(data, minlength=256) @ bits_of)
        total += 8 * data.size
    return fired / total


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _listed(title: str, problems: list[str], *, shown: int = 8) -> str:
    rest = [f"  and {len(problems) - shown} more"] if len(problems) > shown else []
    return "\n".join([f"{title}:", *(f"  {problem}" for problem in problems[:shown]), *rest])
