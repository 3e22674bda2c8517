"""What ``check-data`` finds: figures of each sequence, and problems by their kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from deblurkit.data.manifest import Split
from deblurkit.data.simulate import BlurVariant

Kind = Literal[
    "missing",
    "truncated",
    "unreadable",
    "wrong-size",
    "count",
    "geometry",
    "bit-order",
    "flipped",
    "rate",
    "shifted",
    "blur-variant",
    "checksum",
]

ADVICE: dict[Kind, str] = {
    "missing": "fetch it again, or leave its frame out",
    "truncated": "fetch it again",
    "unreadable": "fetch it again",
    "wrong-size": "all frames of a dataset have one size: convert it again or leave it out",
    "count": "find out which files belong together",
    "geometry": "give the spikes' true height and width (spike_h and spike_w in a config.yaml)",
    "bit-order": "reverse the bits of each of its bytes",
    "flipped": "turn its frames as the pictures are",
    "rate": "look at it; leave the sequence out if the sensor failed",
    "shifted": "find the frames that spikes or pictures lack, and pair them anew",
    "blur-variant": "name the variant that the frames were made with",
    "checksum": "fetch it again, or convert again if it was changed on purpose",
}


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        path: the file or folder.
        kind: one of a fixed set, for programs.
        message: what was found and what to do, one line.
    """

    path: Path
    kind: Kind
    message: str


def problem(path: Path, kind: Kind, what: str) -> Problem:
    """Return a problem whose message ends with what to do about its kind."""
    return Problem(path=path, kind=kind, message=f"{what}; {ADVICE[kind]}")


@dataclass(frozen=True)
class SequenceReport:
    """The figures of one sequence; None where they could not be measured.

    Attributes:
        split: train or test.
        name: of the sequence.
        frames: exposures that the layout promises spikes for.
        spike_rate: mean share of spike bits that are set, in [0, 1].
        dead_share: share of pixels that never fired in the frames looked at.
        saturated_share: share of pixels that fired in every one of them.
        score: correlation of spikes and pictures as they are paired.
        best_shift: spike frames by which they would fit best; None where nothing moves.
        best_score: the correlation there.
        blur_variant: what the blurry frames look like; None where it cannot be told.
        kinds: of the problems found in it, each once.
    """

    split: Split
    name: str
    frames: int
    spike_rate: float | None = None
    dead_share: float | None = None
    saturated_share: float | None = None
    score: float | None = None
    best_shift: int | None = None
    best_score: float | None = None
    blur_variant: BlurVariant | None = None
    kinds: tuple[Kind, ...] = ()


@dataclass(frozen=True)
class DatasetReport:
    """What was found in a dataset.

    Attributes:
        layout: its name.
        root: the folder that was named.
        sequences: in the order of the dataset.
        problems: of the dataset as a whole first, then those of each sequence together.
    """

    layout: str
    root: Path
    sequences: tuple[SequenceReport, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class SequenceResult:
    """A sequence's figures, its problems, and what the comparison with other sequences needs.

    Attributes:
        report: the figures.
        problems: found in the sequence by itself.
        folder: what a problem of the whole sequence names.
        frame_shape: rows and columns of most of its frames; None where none could be read.
    """

    report: SequenceReport
    problems: tuple[Problem, ...]
    folder: Path
    frame_shape: tuple[int, int] | None = None

    def with_problems(self, more: Iterable[Problem]) -> SequenceResult:
        """Return the same with further problems, their kinds in the report."""
        problems = (*self.problems, *more)
        kinds = tuple(dict.fromkeys(found.kind for found in problems))
        return replace(self, report=replace(self.report, kinds=kinds), problems=problems)
