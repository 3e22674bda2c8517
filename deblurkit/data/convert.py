"""Any layout into ours: sequences in parallel, resumable, byte for byte the same whoever does the work."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from deblurkit import __version__
from deblurkit.data.dataset_writer import SequenceWriter, check_free, encode_png
from deblurkit.data.draft import Draft, WholeSequence, fingerprint
from deblurkit.data.frames import Frame, read_bytes
from deblurkit.data.layouts.gopro_all import SpikeSimulation, simulated_spikes
from deblurkit.data.layouts.source import SourceDataset, SourceSequence, decode_image, image_shape, is_png
from deblurkit.data.manifest import FileRecord, Manifest, plain_name
from deblurkit.data.parallel import Progress, Tick, run_jobs
from deblurkit.data.unified import UnifiedDataset, open_dataset
from deblurkit.data.workers import available_cpus
from deblurkit.errors import DataError

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Job:
    """One sequence to write; all that a worker needs to know."""

    draft: Draft
    sequence: SourceSequence
    frame_shape: tuple[int, int]
    margin: int
    simulation: SpikeSimulation | None
    inputs: str

    @property
    def whole(self) -> WholeSequence | None:
        return self.draft.whole(self.sequence.split, self.sequence.name, self.inputs)


def convert(
    source: SourceDataset,
    root: Path | str,
    *,
    simulation: SpikeSimulation | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> UnifiedDataset:
    """Return a dataset in our layout, made of one in another and written to ``root``.

    What an interrupted conversion has finished stays in a hidden folder beside ``root``, and the same call
    goes on from there; the dataset itself appears only when it is whole.

    Args:
        source: as an adapter reads it.
        root: must not exist or be empty.
        simulation: makes the spikes of sequences of which nothing was recorded; without it these are errors.
        workers: processes; as many as there are CPUs by default.
        progress: told the blurry frames done and the number of all.
        say: told in a line what is gone on with, or kept for later.

    Raises:
        DataError: if a file is missing, damaged or of another size, or ``root`` is taken.
    """
    root = Path(root).absolute()
    say = say or (lambda line: None)
    check_free(root)
    draft = Draft(root)
    jobs = list(_jobs(source, draft, simulation))
    with draft.locked(_plan(source, simulation, jobs)), _kept_for_later(draft, jobs, say):
        done = _num_whole(jobs)
        if done:
            say(f"going on with {draft.folder}: {done} of {len(jobs)} sequences are there")
        total = sum(job.sequence.num_frames for job in jobs)
        written = run_jobs(
            _convert_sequence,
            jobs,
            workers=available_cpus() if workers is None else workers,
            total=total,
            progress=progress,
        )
        draft.publish(_manifest(source, simulation, jobs, written))
    return open_dataset(root)


@contextmanager
def _kept_for_later(draft: Draft, jobs: list[_Job], say: Say) -> Iterator[None]:
    """When the work ends early, keep the sequences that are whole and say so, or leave nothing."""
    try:
        yield
    except BaseException:
        done = _num_whole(jobs)
        if done:
            say(
                f"{done} of {len(jobs)} sequences stay in {draft.folder}; the same command goes on from there"
            )
        else:
            draft.remove()
        raise


def _num_whole(jobs: list[_Job]) -> int:
    return sum(job.whole is not None for job in jobs)


def _jobs(source: SourceDataset, draft: Draft, simulation: SpikeSimulation | None) -> Iterator[_Job]:
    """Yield the work for each sequence, after checking that all of it is there."""
    if not source.sequences:
        raise DataError(f"{source.root}: no sequence to convert")
    _check_names(source)
    geometry = source.sequences[0].geometry
    missing: list[Path] = []
    frame_shape: tuple[int, int] | None = None
    for sequence in source.sequences:
        if sequence.geometry != geometry:
            raise DataError(
                f"{source.root}: spikes of {geometry} and, in {sequence.name}, of {sequence.geometry}; "
                "a dataset has one size"
            )
        own = simulation if simulation is not None and not _has_spikes(sequence) else None
        files = _inputs(sequence, own)
        missing += [path for path, stamp in files.items() if stamp is None]
        if not missing:
            frame_shape = frame_shape or image_shape(sequence.exposures[0].blurry)
            yield _Job(
                draft=draft,
                sequence=sequence,
                frame_shape=frame_shape,
                margin=source.spike_margin,
                simulation=own,
                inputs=fingerprint([_settings(sequence), [[str(p), stamp] for p, stamp in files.items()]]),
            )
    if missing:
        more = f", and so are {len(missing) - 1} other files" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}: missing{more}; what was never recorded is not made up")


def _check_names(source: SourceDataset) -> None:
    for sequence in source.sequences:
        if not sequence.exposures:
            raise DataError(
                f"{source.root}: sequence {sequence.split}/{sequence.name} has no frame with spikes"
            )
        for name in (sequence.name, *(exposure.stem for exposure in sequence.exposures)):
            try:
                plain_name(name)
            except ValueError as error:
                raise DataError(f"{source.root}: {sequence.split}/{sequence.name}: {error}") from error


def _has_spikes(sequence: SourceSequence) -> bool:
    return any(exposure.spikes.is_file() for exposure in sequence.exposures)


def _inputs(sequence: SourceSequence, simulation: SpikeSimulation | None) -> dict[Path, list[int] | None]:
    """Return size and time of change of every file that a sequence is made of; None where it is missing."""
    kinds = ("blurry", "sharp") if simulation is not None else ("blurry", "sharp", "spikes")
    paths = [getattr(exposure, kind) for exposure in sequence.exposures for kind in kinds]
    if simulation is not None:
        paths.append(simulation.folder(sequence))
        paths += sorted(simulation.folder(sequence).glob("*.png"))
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _convert_sequence(job: _Job, tick: Tick) -> WholeSequence:
    """Return a sequence that is whole in the draft: written before and undamaged, or written now."""
    found = job.whole
    if found is not None and job.draft.is_undamaged(found):
        for _ in found.record.stems:
            tick()
        return found
    with tempfile.TemporaryDirectory(dir=job.draft.work) as folder:
        written = _write(job, Path(folder), tick)
        job.draft.keep(written, Path(folder))
    return written


def _write(job: _Job, folder: Path, tick: Tick) -> WholeSequence:
    sequence = job.sequence
    with SequenceWriter(
        folder,
        sequence.split,
        sequence.name,
        frame_shape=job.frame_shape,
        spike_shape=(sequence.geometry.height, sequence.geometry.width),
        spike_margin=job.margin,
        spike_frames_per_exposure=sequence.spike_frames,
        sharp_frames_per_exposure=sequence.sharp_frames,
    ) as writer:
        for exposure, spikes in zip(sequence.exposures, _spikes(job), strict=True):
            writer.add_png(
                blurry=_png(exposure.blurry, job.frame_shape),
                sharp=_png(exposure.sharp, job.frame_shape),
                spikes=spikes,
                stem=exposure.stem,
            )
            tick()
    return WholeSequence(inputs=job.inputs, record=writer.record, files=writer.files)


def _spikes(job: _Job) -> Iterator[Frame]:
    """Yield the spikes of each exposure with its margins, recorded or simulated."""
    if job.simulation is not None:
        return simulated_spikes(job.sequence, job.simulation)
    return (job.sequence.read_spikes(i, margin=job.margin) for i in range(job.sequence.num_frames))


def _png(path: Path, shape: tuple[int, int]) -> bytes:
    """Return an image as a PNG, the file itself where it is one, after checking that it is whole."""
    data = read_bytes(path)
    image = decode_image(data, path)
    if image.shape[:2] != shape:
        raise DataError(f"{path}: {image.shape[:2]} pixels, the first frame has {shape}")
    return data if is_png(data) else encode_png(image)


def _settings(sequence: SourceSequence) -> list[Any]:
    """Return all that decides what is written of a sequence, but its files' content."""
    exposures = [[exposure.stem, exposure.first_spike] for exposure in sequence.exposures]
    return [asdict(sequence.geometry), sequence.spike_frames, sequence.recording_frames, exposures]


def _plan(source: SourceDataset, simulation: SpikeSimulation | None, jobs: list[_Job]) -> str:
    """Return a fingerprint of what all sequences share; another one starts a conversion anew."""
    return fingerprint(
        {
            "version": __version__,
            "layout": source.layout,
            "root": str(source.root.absolute()),
            "options": source.options,
            "blur_variant": source.blur_variant,
            "margin": source.spike_margin,
            "frame_shape": jobs[0].frame_shape,
            "simulation": None if simulation is None else [simulation.seed, simulation.sensor.as_dict()],
        }
    )


def _manifest(
    source: SourceDataset,
    simulation: SpikeSimulation | None,
    jobs: list[_Job],
    written: list[WholeSequence],
) -> Manifest:
    geometry = source.sequences[0].geometry
    files: dict[str, FileRecord] = {}
    for sequence in written:
        files.update(sequence.files)
    every_one = simulation is not None and all(job.simulation is not None for job in jobs)
    return Manifest(
        name=jobs[0].draft.root.name,
        source=_source(source, simulation, jobs),
        blur_variant=source.blur_variant,
        frame_shape=jobs[0].frame_shape,
        spike_shape=(geometry.height, geometry.width),
        spike_margin=source.spike_margin,
        spikes_per_sharp_frame=source.spikes_per_sharp_frame,
        sensor=simulation.sensor.as_dict() if simulation is not None and every_one else None,
        sequences=[sequence.record for sequence in written],
        files=files,
    )


def _source(
    source: SourceDataset, simulation: SpikeSimulation | None, jobs: list[_Job]
) -> dict[str, JsonValue]:
    """Return what the manifest says of where a dataset comes from."""
    said: dict[str, JsonValue] = {
        "made_by": "deblurkit prepare-data gopro",
        "layout": source.layout,
        "root": source.root.absolute().name,
        **source.options,
    }
    simulated: list[JsonValue] = [
        f"{job.sequence.split}/{job.sequence.name}" for job in jobs if job.simulation is not None
    ]
    if simulation is not None and simulated:
        said["simulated_spikes"] = {
            "from": simulation.frames.absolute().name,
            "seed": simulation.seed,
            "sensor": simulation.sensor.as_dict(),
            "sequences": simulated,
        }
    return said
