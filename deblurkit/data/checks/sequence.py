"""Everything that can be said of one sequence without the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from deblurkit.data.checks.alignment import Alignment, Fits, Strip, fits, measure_alignment
from deblurkit.data.checks.blur_variant import Fingerprint, Moments, exposure_moments, fingerprint
from deblurkit.data.checks.decoding import Look, check_orientation, check_recording
from deblurkit.data.checks.files import (
    FileFindings,
    Shape,
    check_checksums,
    check_files,
    check_sizes,
    recordings,
)
from deblurkit.data.checks.rates import extreme_pixels, packed_rate, spike_counts
from deblurkit.data.checks.report import Problem, SequenceReport, SequenceResult, problem
from deblurkit.data.frames import Frame
from deblurkit.data.layouts.source import SourceSequence
from deblurkit.data.manifest import FileRecord
from deblurkit.data.simulate import BlurVariant
from deblurkit.data.spikes import PackedSpikes
from deblurkit.errors import DataError

_SAMPLED, _SAMPLED_QUICK = 8, 4  # exposures that are looked at for alignment and the kind of blur
_LOOKS = 3  # exposures of a recording that are compared with their pictures for flips
_FINE = 160  # rows and columns of spikes above which neighbours are summed before they are aligned


@dataclass(frozen=True)
class Expectations:
    """What a sequence should be, beyond what its layout promises.

    Attributes:
        folder: what a problem of the whole sequence names.
        blur_variant: of its blurry frames; None where nobody said.
        frame_shape: rows and columns of its frames; None for those that most have.
        files: what a manifest says of its files.
        quick: read only a part, and no checksums.
    """

    folder: Path
    blur_variant: BlurVariant | None = None
    frame_shape: Shape | None = None
    files: Mapping[Path, FileRecord] = field(default_factory=dict)
    quick: bool = False


@dataclass(frozen=True)
class Sample:
    """What the exposures that were looked at show.

    Attributes:
        fits: how the spikes fit the blurry frame of each, with its index.
        moments: what each says of the kind of blur.
        extremes: shares of pixels that never fired in them, and that always did.
        unreadable: blurry frames that could not be decoded after all.
    """

    fits: tuple[tuple[int, Fits], ...]
    moments: tuple[Moments, ...]
    extremes: tuple[float, float] | None
    unreadable: tuple[Problem, ...]


def check_sequence(sequence: SourceSequence, expected: Expectations) -> SequenceResult:
    """Return the figures of a sequence and what is wrong with it."""
    found = check_files(sequence, frame_shape=expected.frame_shape, quick=expected.quick)
    problems = list(found.problems)
    problems += (check_sizes if expected.quick else check_checksums)(expected.files, skip=found.bad)
    decoding = _decoding_problems(sequence, found, quick=expected.quick)
    problems += decoding
    rate, silent = _rates(sequence, found.bad, quick=expected.quick)
    problems += silent
    bad = found.bad | {one.path for one in decoding}
    sample = _look(sequence, bad, count=_SAMPLED_QUICK if expected.quick else _SAMPLED)
    problems += sample.unreadable
    alignment = _alignment(sequence, sample)
    blur = fingerprint(sample.moments) if sample.moments else None
    problems += _surplus(sequence, bad, alignment)
    problems += _shift_problems(sequence, expected.folder, sample, alignment)
    problems += _variant_problems(sequence, expected, blur)
    result = SequenceResult(
        report=_report(sequence, rate, sample, alignment, blur),
        problems=(),
        folder=expected.folder,
        frame_shape=found.frame_shape,
    )
    return result.with_problems(problems)


def _report(
    sequence: SourceSequence,
    rate: float | None,
    sample: Sample,
    alignment: Alignment | None,
    blur: Fingerprint | None,
) -> SequenceReport:
    report = SequenceReport(
        split=sequence.split, name=sequence.name, frames=sequence.num_frames, spike_rate=rate
    )
    if sample.extremes is not None:
        report = replace(report, dead_share=sample.extremes[0], saturated_share=sample.extremes[1])
    if alignment is not None:
        report = replace(
            report,
            score=alignment.score,
            best_shift=alignment.best_shift,
            best_score=alignment.best_score,
        )
    return replace(report, blur_variant=None if blur is None else blur.variant)


def _decoding_problems(sequence: SourceSequence, found: FileFindings, *, quick: bool) -> list[Problem]:
    """Return what is wrong with the decoding of the recordings; of many, quick looks at a few."""
    readable = [path for path in recordings(sequence) if path not in found.bad]
    problems: list[Problem] = []
    for path in (readable[index] for index in _spread(len(readable), _SAMPLED_QUICK if quick else None)):
        wrong = check_recording(path, sequence.geometry)
        if not wrong:
            looks, unreadable = _looks(sequence, path, found.bad)
            wrong = [*unreadable, *check_orientation(path, looks)]
        problems += wrong
    return problems


def _looks(sequence: SourceSequence, path: Path, bad: frozenset[Path]) -> tuple[list[Look], list[Problem]]:
    """Return exposures of a recording with their sharp frames, and those of these that cannot be decoded."""
    usable = [
        index
        for index, exposure in enumerate(sequence.exposures)
        if exposure.spikes == path and exposure.sharp not in bad
    ]
    looks: list[Look] = []
    unreadable: list[Problem] = []
    for place in _spread(len(usable), _LOOKS):
        try:
            sharp = sequence.read_sharp(usable[place])
        except DataError:
            unreadable.append(_undecodable(sequence.exposures[usable[place]].sharp))
        else:
            looks.append(Look(sequence.read_spikes(usable[place]), sharp))
    return looks, unreadable


def _undecodable(path: Path) -> Problem:
    """Return the problem of a picture whose damage does not show until it is decoded."""
    return problem(path, "unreadable", "damaged: it cannot be decoded")


def _rates(
    sequence: SourceSequence, bad: frozenset[Path], *, quick: bool
) -> tuple[float | None, list[Problem]]:
    """Return the mean rate over the exposures (in quick, over some) and those without a single spike."""
    usable = [exposure for exposure in sequence.exposures if exposure.spikes not in bad]
    rates: list[float] = []
    silent: dict[Path, list[str]] = {}
    for index in _spread(len(usable), _SAMPLED if quick else None):
        exposure = usable[index]
        packed = PackedSpikes(exposure.spikes, sequence.geometry).packed
        start = exposure.first_spike
        rates.append(packed_rate(packed[start : start + sequence.spike_frames]))
        if rates[-1] == 0:
            silent.setdefault(exposure.spikes, []).append(exposure.stem)
    problems = [
        problem(path, "rate", f"not one spike in the exposure of frame {_listed(names)}")
        for path, names in silent.items()
    ]
    return (float(np.mean(rates)) if rates else None), problems


def _look(sequence: SourceSequence, bad: frozenset[Path], *, count: int) -> Sample:
    """Return what the exposures show whose files are as they should be, ``count`` of them at most."""
    usable = [
        index
        for index, exposure in enumerate(sequence.exposures)
        if exposure.spikes not in bad and exposure.blurry not in bad
    ]
    found: list[tuple[int, Fits]] = []
    moments: list[Moments] = []
    counts = []
    unreadable: list[Problem] = []
    for index in (usable[place] for place in _spread(len(usable), count)):
        try:
            blurry = sequence.read_blurry(index)
        except DataError:
            unreadable.append(_undecodable(sequence.exposures[index].blurry))
            continue
        spikes, start = spikes_around(sequence, index, bad)
        inside = spikes[start : start + sequence.spike_frames]
        counts.append(spike_counts(inside))
        moments.append(exposure_moments(inside, blurry))
        strip = Strip(coarse(spikes), start, sequence.spike_frames, blurry)
        found.append((index, fits(strip, _shifts(sequence))))
    frames = len(counts) * sequence.spike_frames
    extremes = extreme_pixels(np.sum(counts, axis=0), frames) if counts else None
    return Sample(tuple(found), tuple(moments), extremes, tuple(unreadable))


def spikes_around(sequence: SourceSequence, index: int, bad: frozenset[Path]) -> tuple[Frame, int]:
    """Return spikes from one exposure before exposure ``index`` to one after it, and where it starts in them.

    They come from its own recording as far as that reaches; beyond, from the exposures beside it. If these
    are not quite next to it in time, windows that reach into them fit less well, and that does no harm.
    """
    exposure, frames = sequence.exposures[index], sequence.spike_frames
    recording = PackedSpikes(exposure.spikes, sequence.geometry)
    start = max(exposure.first_spike - frames, 0)
    stop = min(exposure.first_spike + 2 * frames, recording.shape[0])
    parts, offset = [recording.read(start, stop)], exposure.first_spike - start
    previous, following = (_beside(sequence, index + step, bad) for step in (-1, 1))
    if offset < frames and previous is not None:
        parts.insert(0, previous[: frames - offset])
        offset = frames
    behind = exposure.first_spike + 2 * frames - stop
    if behind and following is not None:
        parts.append(following[frames - behind :])
    return np.concatenate(parts), offset


def _beside(sequence: SourceSequence, index: int, bad: frozenset[Path]) -> Frame | None:
    """Return the spikes of a neighbouring exposure, None where it has no good recording of its own."""
    if not 0 <= index < sequence.num_frames or len(recordings(sequence)) < sequence.num_frames:
        return None
    exposure = sequence.exposures[index]
    return None if exposure.spikes in bad else sequence.read_spikes(index)


def coarse(spikes: Frame) -> Frame:
    """Return spikes summed over square cells such that a side is not much longer than 160: (T, h, w)."""
    frames, height, width = spikes.shape
    cell = min(height, width) // _FINE
    if cell < 2:
        return spikes
    cut = spikes[:, : height // cell * cell, : width // cell * cell]
    return cut.reshape(frames, height // cell, cell, width // cell, cell).sum(axis=(2, 4), dtype=np.uint8)


def _alignment(sequence: SourceSequence, sample: Sample) -> Alignment | None:
    if not sample.fits:
        return None
    return measure_alignment([fit for _, fit in sample.fits], _shifts(sequence), frames=sequence.spike_frames)


def _shift_problems(
    sequence: SourceSequence, folder: Path, sample: Sample, alignment: Alignment | None
) -> list[Problem]:
    if alignment is None or alignment.shifted_from is None or alignment.best_shift is None:
        return []
    first = sample.fits[alignment.shifted_from][0]
    since = "" if alignment.shifted_from == 0 else f" from frame {sequence.exposures[first].stem} on"
    shift = alignment.best_shift
    later = "later" if shift > 0 else "earlier"
    what = (
        f"spikes {abs(shift)} frames {later} fit the blurry frames better{since}: "
        f"r = {alignment.best_score:.3f} rather than {alignment.score:.3f}"
    )
    return [problem(_shifted_path(sequence, folder), "shifted", what)]


def _shifted_path(sequence: SourceSequence, folder: Path) -> Path:
    paths = list(recordings(sequence))
    return paths[0] if len(paths) == 1 and sequence.num_frames > 1 else folder


def _surplus(sequence: SourceSequence, bad: frozenset[Path], alignment: Alignment | None) -> list[Problem]:
    """Return recordings that hold exposures more than there are frames, unless all frames fit as they are."""
    aligned = alignment is not None and alignment.best_shift is not None and alignment.shifted_from is None
    if aligned or sequence.recording_frames is not None:
        return []
    problems = []
    for path, starts in recordings(sequence).items():
        if path in bad:
            continue
        frames = PackedSpikes(path, sequence.geometry).shape[0]
        used = max(starts) + sequence.spike_frames - min(starts)
        if frames - used >= sequence.spike_frames:
            what = f"{frames} spike frames, the {len(starts)} blurry frames account for {used}"
            problems.append(problem(path, "count", what))
    return problems


def _variant_problems(
    sequence: SourceSequence, expected: Expectations, blur: Fingerprint | None
) -> list[Problem]:
    if blur is None or blur.variant in (None, expected.blur_variant) or expected.blur_variant is None:
        return []
    what = (
        f"looks like {blur.variant}, not {expected.blur_variant}: what moves is brighter than its mean by "
        f"{blur.excess:.2f} +- {blur.error:.2f} of the difference (0 for blur, about 2 for blur_gamma)"
    )
    return [problem(sequence.exposures[0].blurry.parent, "blur-variant", what)]


def _shifts(sequence: SourceSequence) -> range:
    return range(-sequence.spike_frames, sequence.spike_frames + 1)


def _spread(length: int, count: int | None) -> list[int]:
    """Return ``count`` places spread over ``length``; all of them where there are no more, or for None."""
    if count is None or length <= count:
        return list(range(length))
    return sorted({round(place) for place in np.linspace(0, length - 1, count)})


def _listed(names: list[str], *, shown: int = 3) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest
