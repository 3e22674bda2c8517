"""The steps and numbers of logs as TensorBoard's events."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from deblurkit.analysis.formats.tensorboard_steps import TIMING
from deblurkit.analysis.formats.tfrecord import framed
from deblurkit.analysis.report import Report
from deblurkit.files import replaced_file
from deblurkit.render.exports.timeline import Timeline
from deblurkit.timing.records import UNACCOUNTED

FILE_NAME = "events.out.tfevents.0000000000.deblurkit"
_VALIDATED = ("psnr_db", "ssim", "lpips")

_Entry: TypeAlias = tuple[int, float, dict[str, float]]  # step, wall time in seconds, values by tag


def write_tensorboard(reports: Sequence[Report], folder: Path) -> list[Path]:
    """Write each log's steps and numbers below ``folder``, a run of TensorBoard each; return the files.

    Tags: ``timing/step``, ``timing/{row}`` and ``timing/unaccounted`` in milliseconds at every step, as our
    own training writes them; ``train/{name}`` and ``validation/{name}`` for the other numbers. Wall times are
    the log's; where it has none, seconds since its first step. Writing again replaces the files.
    """
    paths = [folder / name / FILE_NAME for name in run_names([report.source for report in reports])]
    for report, path in zip(reports, paths, strict=True):
        with replaced_file(path) as file:
            for event in _events(report):
                file.write(framed(event))
    return paths


def run_names(sources: Sequence[str]) -> list[str]:
    """Return a folder's name for each log: the parts of its path that tell them apart, each name once."""
    whole = [os.path.abspath(source) for source in sources]
    common = os.path.commonpath([os.path.dirname(path) for path in whole]) if whole else ""
    names: list[str] = []
    for path in whole:
        name = re.sub(r"[^\w./-]+", "_", os.path.relpath(path, common))
        again = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({again + 1})" if again else name)
    return names


def _events(report: Report) -> Iterator[bytes]:
    """Yield the encoded events of a log: its version, its steps, its other numbers."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    first_s, *_ = [*Timeline(report).ends_s[:1], 0.0]
    yield Event(wall_time=first_s, file_version="brain.Event:2").SerializeToString()
    for step, unix_s, numbers in itertools.chain(_timings(report), _scalars(report)):
        values = [Summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items()]
        yield Event(wall_time=unix_s, step=step, summary=Summary(value=values)).SerializeToString()


def _timings(report: Report) -> Iterator[_Entry]:
    """Yield the milliseconds of each step by tag, those that were measured."""
    partition, timeline = report.partition, Timeline(report)
    table = partition.times.rename(columns=str).add_prefix(TIMING)
    if partition.unaccounted_ms is not None:
        table = table.assign(**{f"{TIMING}{UNACCOUNTED}": partition.unaccounted_ms})
    table = table.assign(**{f"{TIMING}step": partition.step_ms})
    tags = table.columns.tolist()
    moments = np.where(np.isnan(timeline.unix_s), timeline.ends_s, timeline.unix_s).tolist()
    for step, moment, row in zip(report.log.steps["step"].tolist(), moments, table.to_numpy(), strict=True):
        numbers = zip(tags, row.tolist(), strict=True)
        yield step, moment, {tag: number for tag, number in numbers if not math.isnan(number)}


def _scalars(report: Report) -> Iterator[_Entry]:
    """Yield the other numbers; where the log says no step, their place in their series stands for it."""
    timeline = Timeline(report)
    for name, frame in report.log.scalars.items():
        tag = f"{'validation' if name.partition('/')[0] in _VALIDATED else 'train'}/{name}"
        rows = frame[["step", "unix_s", "value"]].itertuples(index=False, name=None)
        for place, (step, unix_s, value) in enumerate(rows):
            moment = timeline.moment(step, unix_s)
            yield place if math.isnan(step) else int(step), moment or 0.0, {tag: value}
