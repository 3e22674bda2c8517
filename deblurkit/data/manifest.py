"""The manifest of a dataset: what it is, how it was made, and what every file must be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from deblurkit.data.simulate import BlurVariant
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.errors import DataError

Frame = NDArray[np.uint8]
Split = Literal["train", "test"]
Storage = Literal["png", "packed"]

SCHEMA = "deblurkit-dataset/1"
MANIFEST = "manifest.json"
_SCHEMA_FAMILY, _SCHEMA_VERSION = "deblurkit-dataset", 1


def plain_name(name: str) -> str:
    """Return ``name`` if it is one plain file name, so that no path leaves the dataset; else ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
        raise ValueError(f"a plain file name expected (letters, digits, _ . + -), not {name!r}")
    return name


def _inside(path: str) -> str:
    for part in path.split("/"):
        plain_name(part)
    return path


Name = Annotated[str, AfterValidator(plain_name)]
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

    def files(self, storage: Storage) -> list[str]:
        """Return every file of the sequence, below the root."""
        kinds = ("blur", "sharp")
        if storage == "packed":
            images = [f"{self.folder}/{kind}.u8" for kind in kinds]
        else:
            images = [f"{self.folder}/{kind}/{stem}.png" for kind in kinds for stem in self.stems]
        return [*images, f"{self.folder}/spikes.dat"]


class Manifest(_Record):
    """What a dataset is and how it was made.

    Attributes:
        schema_id: the version of this layout; ``schema`` in the file.
        name: of the dataset.
        source: how it was made: the command, its seed, the names of the files it came from.
        storage: ``png``, a file a frame, or ``packed``, all raw frames of a sequence in two files.
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
    storage: Storage = "png"
    blur_variant: BlurVariant
    frame_shape: tuple[Count, Count]
    spike_shape: tuple[Count, Count]
    spike_margin: Annotated[int, Field(ge=0)] = 0
    spikes_per_sharp_frame: Count | None = None
    frame_rate: Annotated[float, Field(gt=0)] | None = None
    sensor: dict[str, JsonValue] | None = None
    sequences: Annotated[list[SequenceRecord], Field(min_length=1)]
    files: dict[RelativePath, FileRecord]


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in ``path``.

    Raises:
        DataError: if it is missing, no valid manifest, or of a newer version.
    """
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
        raise DataError(listed(f"{path}: not a valid manifest", lines)) from error


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


def file_problems(root: Path, manifest: Manifest) -> Iterator[str]:
    """Yield the files that are missing or not of the size that the manifest gives."""
    for name, expected in manifest.files.items():
        try:
            size = (root / name).stat().st_size
        except OSError:
            yield f"{name}: missing"
            continue
        if size != expected.bytes:
            yield f"{name}: {size} bytes, {expected.bytes} expected"


def sequence_problems(manifest: Manifest) -> Iterator[str]:
    """Yield what does not add up within the manifest itself."""
    if manifest.spike_shape[1] % 8:
        yield f"spike_shape {manifest.spike_shape}: the width is not a multiple of 8"
        return
    folders = [record.folder for record in manifest.sequences]
    yield from (f"{folder}: listed twice" for folder in sorted(set(folders)) if folders.count(folder) > 1)
    for record in manifest.sequences:
        unlisted = [name for name in record.files(manifest.storage) if name not in manifest.files]
        yield from (f"{name}: not listed under files" for name in unlisted)
        if len(record.spike_starts) != len(record.stems):
            yield f"{record.folder}: {len(record.stems)} frames but {len(record.spike_starts)} spike_starts"
        elif not unlisted:
            yield from _spike_problems(record, manifest)
            yield from _frame_problems(record, manifest)


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


def _frame_problems(record: SequenceRecord, manifest: Manifest) -> Iterator[str]:
    """Yield the files of a packed sequence that do not hold its frames."""
    if manifest.storage == "png":
        return
    expected = len(record.stems) * manifest.frame_shape[0] * manifest.frame_shape[1] * 3
    for name in record.files("packed")[:2]:
        if manifest.files[name].bytes != expected:
            yield f"{name}: {manifest.files[name].bytes} bytes, {len(record.stems)} frames have {expected}"


def listed(title: str, problems: list[str], *, shown: int = 8) -> str:
    """Return a message of a title and its first problems, a line each."""
    rest = [f"  and {len(problems) - shown} more"] if len(problems) > shown else []
    return "\n".join([f"{title}:", *(f"  {problem}" for problem in problems[:shown]), *rest])
