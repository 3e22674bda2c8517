"""A whole dataset, whatever its layout: every sequence by itself, in parallel, then against the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2

from deblurkit.data.checks.comparison import compare
from deblurkit.data.checks.files import check_checksums, check_sizes
from deblurkit.data.checks.recordings import check_recording_pair
from deblurkit.data.checks.report import (
    DatasetReport,
    Problem,
    SequenceReport,
    SequenceResult,
    problem,
)
from deblurkit.data.checks.sequence import Expectations, check_sequence
from deblurkit.data.layouts.detect import detect_layout, layout_named
from deblurkit.data.layouts.recordings import Recording, RecordingFolder
from deblurkit.data.layouts.source import SourceDataset, SourceSequence
from deblurkit.data.manifest import (
    MANIFEST,
    FileRecord,
    Manifest,
    SequenceRecord,
    read_manifest,
    sequence_problems,
)
from deblurkit.data.parallel import Progress, Tick, run_jobs
from deblurkit.data.simulate import BlurVariant
from deblurkit.data.workers import available_cpus
from deblurkit.errors import UsageError

LayoutChoice = Literal["auto", "unified", "gopro", "spike-gopro", "triples", "recordings"]

_WORTH_PROCESSES = 200  # frames; fewer are checked before the processes have started


@dataclass(frozen=True)
class _SequenceJob:
    sequence: SourceSequence
    expected: Expectations


@dataclass(frozen=True)
class _RecordingJob:
    recording: Recording
    quick: bool


@dataclass(frozen=True)
class _PackedJob:
    """A sequence of a packed dataset: its files are compared with the manifest, and no more."""

    record: SequenceRecord
    folder: Path
    files: Mapping[Path, FileRecord]
    quick: bool


_Job = _SequenceJob | _RecordingJob | _PackedJob


def check_dataset(
    root: Path | str,
    *,
    layout: LayoutChoice = "auto",
    spikes: Path | None = None,
    blur_variant: BlurVariant | None = None,
    quick: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> DatasetReport:
    """Return the figures of every sequence of a dataset and everything that is wrong with it.

    Args:
        root: the dataset's folder.
        layout: how it lies on the disk; found out by default.
        spikes: the folder of the recordings, for ``gopro``; looked for by default.
        blur_variant: of the blurry frames; the manifest's or the folder's where they say, else unknown.
        quick: read a part of every sequence, and no checksums.
        workers: processes; by default as many as there are CPUs, and one where there is little to do.
        progress: told the sequences done and the number of all.

    Raises:
        DataError: if the root is no dataset or its layout is in doubt.
        UsageError: if an option does not go with the layout.
    """
    root = Path(root)
    found = detect_layout(root) if layout == "auto" else layout_named(layout)
    general: list[Problem] = []
    if found.name == "unified":
        manifest = read_manifest(root / MANIFEST)
        general = [problem(root / MANIFEST, "count", what) for what in sequence_problems(manifest)]
        if general:
            return DatasetReport(layout=found.name, root=root, sequences=(), problems=tuple(general))
        jobs = _unified_jobs(root, manifest, found.read, blur_variant, quick=quick)
        general = _of_no_sequence(root, manifest)
    else:
        options = _options(found.name, spikes=spikes, blur_variant=blur_variant)
        jobs = _jobs(found.read(root, **options), blur_variant, quick=quick)
    if spikes is not None and found.name != "gopro":
        raise UsageError(f"--spikes is for the layout gopro; {root} is {found.name}")
    results = run_jobs(
        _run,
        jobs,
        workers=_workers(jobs) if workers is None else workers,
        total=len(jobs),
        progress=progress,
    )
    return _reported(found.name, root, compare(results), general=general)


def _of_no_sequence(root: Path, manifest: Manifest) -> list[Problem]:
    """Return what is wrong with files that the manifest lists and no sequence has."""
    folders = tuple(f"{record.folder}/" for record in manifest.sequences)
    others = {root / name: record for name, record in manifest.files.items() if not name.startswith(folders)}
    return list(check_sizes(others, skip=frozenset()))


def _reported(
    layout: str, root: Path, results: Iterable[SequenceResult], *, general: Iterable[Problem]
) -> DatasetReport:
    results = list(results)
    return DatasetReport(
        layout=layout,
        root=root,
        sequences=tuple(result.report for result in results),
        problems=(*general, *(found for result in results for found in result.problems)),
    )


def _options(layout: str, *, spikes: Path | None, blur_variant: BlurVariant | None) -> dict[str, Any]:
    """Return what the reader of a layout is called with."""
    options: dict[str, Any] = {}
    if blur_variant is not None and layout != "recordings":
        options["blur_variant"] = blur_variant
    if spikes is not None and layout == "gopro":
        options["spikes"] = spikes
    return options


def _jobs(
    source: SourceDataset | RecordingFolder, blur_variant: BlurVariant | None, *, quick: bool
) -> list[_Job]:
    if isinstance(source, RecordingFolder):
        return [_RecordingJob(recording, quick) for recording in source.recordings]
    # Of the layouts of others only GOPRO_Large says which it is, by the name of the folder.
    known = source.blur_variant if source.layout == "gopro" else blur_variant
    return [
        _SequenceJob(sequence, Expectations(_folder(sequence), blur_variant=known, quick=quick))
        for sequence in source.sequences
        if sequence.exposures
    ]


def _unified_jobs(
    root: Path, manifest: Manifest, read: Any, blur_variant: BlurVariant | None, *, quick: bool
) -> list[_Job]:
    files = {
        record.folder: {
            root / name: manifest.files[name]
            for name in manifest.files
            if name.startswith(f"{record.folder}/")
        }
        for record in manifest.sequences
    }
    if manifest.storage == "packed":
        return [
            _PackedJob(record, root / record.folder, files[record.folder], quick)
            for record in manifest.sequences
        ]
    source: SourceDataset = read(root)
    return [
        _SequenceJob(
            sequence,
            Expectations(
                folder=root / record.folder,
                blur_variant=blur_variant or manifest.blur_variant,
                frame_shape=manifest.frame_shape,
                files=files[record.folder],
                quick=quick,
            ),
        )
        for sequence, record in zip(source.sequences, manifest.sequences, strict=True)
    ]


def _folder(sequence: SourceSequence) -> Path:
    """Return the folder of a sequence, or of its blurry frames where each kind has its own."""
    blurry = sequence.exposures[0].blurry.parent
    return blurry if blurry.name == sequence.name else blurry.parent


def _workers(jobs: list[_Job]) -> int:
    frames = sum(job.sequence.num_frames for job in jobs if isinstance(job, _SequenceJob))
    return available_cpus() if frames >= _WORTH_PROCESSES else 1


def _run(job: _Job, tick: Tick) -> SequenceResult:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the processes are as many as the CPUs
    try:
        return _result(job)
    finally:
        cv2.setNumThreads(threads)
        tick()


def _result(job: _Job) -> SequenceResult:
    if isinstance(job, _SequenceJob):
        return check_sequence(job.sequence, job.expected)
    if isinstance(job, _RecordingJob):
        return check_recording_pair(job.recording, quick=job.quick)
    report = SequenceReport(job.record.split, job.record.name, frames=len(job.record.stems))
    found = (check_sizes if job.quick else check_checksums)(job.files, skip=frozenset())
    return SequenceResult(report=report, problems=(), folder=job.folder).with_problems(found)
