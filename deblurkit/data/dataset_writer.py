"""Writing a dataset in the unified layout: it appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from pydantic import JsonValue

from deblurkit.data.manifest import (
    MANIFEST,
    FileRecord,
    Frame,
    Manifest,
    SequenceRecord,
    Split,
    plain_name,
)
from deblurkit.data.simulate import BlurVariant
from deblurkit.data.spikes import pack_spikes
from deblurkit.errors import DataError
from deblurkit.files import hidden_folder, take_name, write_text


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
        self._open = contextlib.ExitStack()

    def __enter__(self) -> DatasetWriter:
        check_free(self.root)
        try:
            self._hidden = self._open.enter_context(hidden_folder(self.root))
        except OSError as error:
            raise DataError(f"{self.root}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._hidden is not None
        try:
            if kind is None:
                self._finish(self._hidden)
        finally:
            self._open.close()
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
        folder = f"{split}/{plain_name(name)}"
        if (self._hidden / folder).exists():
            raise ValueError(f"sequence {folder} is written twice")
        with SequenceWriter(
            self._hidden,
            split,
            name,
            frame_shape=self.frame_shape,
            spike_shape=self.spike_shape,
            spike_margin=self.spike_margin,
            spike_frames_per_exposure=spike_frames_per_exposure,
            sharp_frames_per_exposure=sharp_frames_per_exposure,
        ) as writer:
            yield writer
        self._files.update(writer.files)
        self._sequences.append(writer.record)

    def _finish(self, hidden: Path) -> None:
        if not self._sequences:
            raise DataError(f"{self.root}: nothing to write: no sequence has a frame")
        manifest = Manifest(**self._described, sequences=self._sequences, files=self._files)
        publish(hidden, self.root, manifest)


class SequenceWriter:
    """Takes the exposures of one sequence.

    Args:
        root: the folder that is to become the dataset.
        split: train or test.
        name: of the sequence.
        frame_shape: rows and columns of the frames.
        spike_shape: rows and columns of the spikes.
        spike_margin: spike frames before and after each exposure.
        spike_frames_per_exposure: T, without the margins.
        sharp_frames_per_exposure: sharp frames averaged into a blurry one, where known.
    """

    def __init__(
        self,
        root: Path,
        split: Split,
        name: str,
        *,
        frame_shape: tuple[int, int],
        spike_shape: tuple[int, int],
        spike_margin: int,
        spike_frames_per_exposure: int,
        sharp_frames_per_exposure: int | None = None,
    ) -> None:
        self.files: dict[str, FileRecord] = {}
        self._root = root
        self._split: Split = split
        self._name = plain_name(name)
        self._folder = f"{split}/{name}"
        self._frame_shape = frame_shape
        self._spike_shape = spike_shape
        self._spike_margin = spike_margin
        self._spike_frames = spike_frames_per_exposure
        self._sharp_frames = sharp_frames_per_exposure
        self._stems: list[str] = []
        self._spike_starts: list[int] = []
        self._spike_hash = hashlib.sha256()
        for kind in ("blur", "sharp"):
            (root / self._folder / kind).mkdir(parents=True)
        self._spike_file = (root / self._folder / "spikes.dat").open("wb")

    def __enter__(self) -> SequenceWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        size = self._spike_file.tell()
        self._spike_file.close()
        if kind is None and not self._stems:
            raise DataError(f"{self._root}: sequence {self._folder} has no frame")
        self.files[f"{self._folder}/spikes.dat"] = FileRecord(bytes=size, sha256=self._spike_hash.hexdigest())

    @property
    def record(self) -> SequenceRecord:
        """What the manifest says of the sequence."""
        return SequenceRecord(
            split=self._split,
            name=self._name,
            stems=self._stems,
            spike_starts=self._spike_starts,
            spike_frames_per_exposure=self._spike_frames,
            sharp_frames_per_exposure=self._sharp_frames,
        )

    def add(self, *, blurry: Frame, sharp: Frame, spikes: Frame, stem: str | None = None) -> None:
        """Append one exposure.

        Args:
            blurry: RGB, uint8 (H, W, 3).
            sharp: RGB, uint8 (H, W, 3).
            spikes: uint8 (margin + T + margin, h, w) of 0 and 1, upright.
            stem: name of the two PNGs; by default the number in the sequence, six digits.
        """
        stem = self._checked_stem(stem)
        self.add_png(
            blurry=self._encoded(f"blur/{stem}.png", blurry),
            sharp=self._encoded(f"sharp/{stem}.png", sharp),
            spikes=spikes,
            stem=stem,
        )

    def add_png(self, *, blurry: bytes, sharp: bytes, spikes: Frame, stem: str | None = None) -> None:
        """Append one exposure whose frames are PNGs already, which the caller has found whole."""
        stem = self._checked_stem(stem)
        self._check_spikes(stem, spikes)
        self._write(f"{self._folder}/blur/{stem}.png", blurry)
        self._write(f"{self._folder}/sharp/{stem}.png", sharp)
        packed = pack_spikes(spikes).tobytes()
        self._spike_file.write(packed)
        self._spike_hash.update(packed)
        self._spike_starts.append(len(self._stems) * len(spikes) + self._spike_margin)
        self._stems.append(stem)

    def _checked_stem(self, stem: str | None) -> str:
        stem = f"{len(self._stems):06d}" if stem is None else plain_name(stem)
        if stem in self._stems:
            raise ValueError(f"{self._folder}/{stem} is written twice")
        return stem

    def _check_spikes(self, stem: str, spikes: Frame) -> None:
        expected = (self._spike_frames + 2 * self._spike_margin, *self._spike_shape)
        if spikes.shape != expected:
            raise ValueError(
                f"{self._folder}/{stem}: spikes of shape {expected} expected, got {spikes.shape}"
            )

    def _encoded(self, name: str, rgb: Frame) -> bytes:
        expected = (*self._frame_shape, 3)
        if rgb.shape != expected or rgb.dtype != np.uint8:
            raise ValueError(f"{self._folder}/{name}: uint8 {expected} expected, got {rgb.dtype} {rgb.shape}")
        return encode_png(rgb)

    def _write(self, name: str, data: bytes) -> None:
        (self._root / name).write_bytes(data)
        self.files[name] = FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def encode_png(rgb: Frame) -> bytes:
    """Return an RGB image, uint8 (H, W, 3), as the content of a PNG."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert done, "a uint8 image always encodes"
    return encoded.tobytes()


def publish(hidden: Path, root: Path, manifest: Manifest) -> None:
    """Write the manifest into a folder that holds all its files, and give the folder its name."""
    text = manifest.model_dump_json(by_alias=True, indent=1)
    write_text(hidden / MANIFEST, text + "\n")
    try:
        take_name(hidden, root)
    except OSError as error:
        raise DataError(f"{root}: cannot take its name: {error.strerror}") from error


def check_free(root: Path) -> None:
    """Raise a DataError if a dataset cannot be made at ``root`` because something is there."""
    if root.resolve() == Path.cwd():
        raise DataError(f"{root}: is the folder you are in; name one inside it, such as {root / 'data'}")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root}: exists and is not an empty folder; choose another name or remove it first")
