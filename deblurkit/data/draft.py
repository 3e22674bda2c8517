"""A dataset in the making: hidden, kept when the work is interrupted, and gone on with later."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from deblurkit.data.dataset_writer import check_free, publish
from deblurkit.data.manifest import FileRecord, Manifest, SequenceRecord, Split
from deblurkit.errors import DataError
from deblurkit.files import write_text


class WholeSequence(BaseModel):
    """A sequence that has been written to its end.

    Attributes:
        inputs: fingerprint of the files and settings that it was made from.
        record: what the manifest will say of it.
        files: what each of its files is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: str
    record: SequenceRecord
    files: dict[str, FileRecord]


class Draft:
    """The hidden folder beside ``root`` in which a dataset grows, a sequence at a time.

    ::

        .NAME.unfinished/plan            what is being made; another plan starts anew
        .NAME.unfinished/records/*.json  a WholeSequence each
        .NAME.unfinished/dataset/        what will take the name
        .NAME.unfinished/work/           sequences being written

    Holds paths only, so that workers can be given a copy.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root.parent / f".{root.name}.unfinished"
        self.dataset = self.folder / "dataset"
        self.work = self.folder / "work"

    @contextmanager
    def locked(self, plan: str) -> Iterator[None]:
        """Hold the folder for this process; what another plan has left in it is removed.

        Raises:
            DataError: if something is at ``root``, or another process is making it.
        """
        check_free(self.root)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("w") as lock:
                _lock(lock.fileno(), self.root)
                check_free(self.root)  # whoever held the lock may have finished it
                self._begin(plan)
                yield
        except OSError as error:
            raise DataError(f"{error.filename or self.folder}: {error.strerror}") from error

    def whole(self, split: Split, name: str, inputs: str) -> WholeSequence | None:
        """Return a sequence that was written before from the same inputs, None where there is none."""
        with suppress(OSError, ValidationError):
            found = WholeSequence.model_validate_json(self._record(split, name).read_text(encoding="utf-8"))
            return found if found.inputs == inputs else None
        return None

    def is_undamaged(self, sequence: WholeSequence) -> bool:
        """Whether the files of a sequence are still what was written; reads all of them."""
        with suppress(OSError):
            return all(
                hashlib.sha256((self.dataset / name).read_bytes()).hexdigest() == expected.sha256
                for name, expected in sequence.files.items()
            )
        return False

    def keep(self, sequence: WholeSequence, written: Path) -> None:
        """Move a sequence, written below ``written``, to its place and note that it is whole."""
        record = sequence.record
        place = self.dataset / record.folder
        self._record(record.split, record.name).unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        (written / record.folder).rename(place)
        write_text(self._record(record.split, record.name), sequence.model_dump_json())

    def publish(self, manifest: Manifest) -> None:
        """Write the manifest and give the dataset its name; only what the manifest lists goes with it."""
        listed = {record.folder for record in manifest.sequences}
        for folder in self.dataset.glob("*/*"):
            if str(folder.relative_to(self.dataset)) not in listed:
                shutil.rmtree(folder)
        publish(self.dataset, self.root, manifest)
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self, plan: str) -> None:
        noted = self.folder / "plan"
        if not noted.is_file() or noted.read_text(encoding="utf-8") != plan:
            for old in (self.folder / "records", self.dataset):
                shutil.rmtree(old, ignore_errors=True)
            write_text(noted, plan)
        shutil.rmtree(self.work, ignore_errors=True)
        for needed in (self.work, self.dataset):
            needed.mkdir(exist_ok=True)

    def _record(self, split: Split, name: str) -> Path:
        return self.folder / "records" / f"{split}-{name}.json"


def fingerprint(value: object) -> str:
    """Return a short name of a value that JSON can hold; equal values have equal names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _lock(descriptor: int, root: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"{root}: is being made by another process; wait for it, or end it") from None
    except OSError:
        return  # a file system without locks
