"""Bare recordings with the image of their middle: decoding, likeness and rate; there is no blur to check."""

from __future__ import annotations

from deblurkit.data.checks.alignment import Strip, fits
from deblurkit.data.checks.decoding import Look, check_orientation, check_recording
from deblurkit.data.checks.files import picture_fault, png_ends, png_whole, recording_fault
from deblurkit.data.checks.rates import extreme_pixels, packed_rate, spike_counts
from deblurkit.data.checks.report import Problem, SequenceReport, SequenceResult, problem
from deblurkit.data.layouts.recordings import Recording
from deblurkit.data.layouts.source import read_image
from deblurkit.data.spikes import PackedSpikes

_WINDOW = 33  # spike frames averaged into the image that is compared with the picture
_IN_PLACE = range(1)  # the only shift


def check_recording_pair(recording: Recording, *, quick: bool) -> SequenceResult:
    """Return the figures of a recording and what is wrong with it or with its picture."""
    picture = picture_fault(recording.reference, png_ends if quick else png_whole)
    spikes = recording_fault(recording.path, recording.geometry)
    faults = ((recording.path, spikes), (recording.reference, picture))
    problems = [problem(path, *fault) for path, fault in faults if fault is not None]
    report = SequenceReport(split=recording.split, name=recording.name, frames=1)
    if spikes is None:
        problems += check_recording(recording.path, recording.geometry)
        report, silent = _measured(recording, with_picture=picture is None and not problems)
        problems += silent
    if picture is None and not problems:
        problems += check_orientation(recording.path, [_look(recording)])
    result = SequenceResult(report=report, problems=(), folder=recording.path)
    return result.with_problems(problems)


def _measured(recording: Recording, *, with_picture: bool) -> tuple[SequenceReport, list[Problem]]:
    """Return the rates of a recording and how its middle correlates with the picture."""
    stream = PackedSpikes(recording.path, recording.geometry)
    frames = stream.shape[0]
    rate = packed_rate(stream.packed)
    dead, saturated = extreme_pixels(spike_counts(stream.read(0, frames)), frames)
    report = SequenceReport(
        split=recording.split,
        name=recording.name,
        frames=1,
        spike_rate=rate,
        dead_share=dead,
        saturated_share=saturated,
        score=_likeness(recording) if with_picture else None,
    )
    silent = [] if rate else [problem(recording.path, "rate", "not one spike in it")]
    return report, silent


def _likeness(recording: Recording) -> float:
    """Return the correlation of TFP over 33 frames at the centre with the gray picture."""
    look = _look(recording)
    frames = len(look.spikes)
    return float(fits(Strip(look.spikes, 0, frames, look.picture), _IN_PLACE).scores[0])


def _look(recording: Recording) -> Look:
    stream = PackedSpikes(recording.path, recording.geometry)
    frames = stream.shape[0]
    start = max(frames // 2 - _WINDOW // 2, 0)
    return Look(stream.read(start, min(start + _WINDOW, frames)), read_image(recording.reference))
