"""Whether recordings are decoded as they were written: by their own statistics, and by the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deblurkit.data.checks.report import Kind, Problem, problem
from deblurkit.data.decoding_checks import check_decoding
from deblurkit.data.simulate import Frame
from deblurkit.data.spikes import ArraySpikes, BitOrder, PackedSpikes, SpikeGeometry

_OTHER_ORDER: dict[BitOrder, BitOrder] = {"lsb": "msb", "msb": "lsb"}


@dataclass(frozen=True)
class Look:
    """Spikes of one exposure, uint8 (T, h, w), and a picture of its middle, RGB uint8 of any size."""

    spikes: Frame
    picture: Frame


def check_recording(path: Path, geometry: SpikeGeometry) -> list[Problem]:
    """Return what the statistics of a ``.dat`` say against its frame size, row length and bit order."""
    found = check_decoding(PackedSpikes(path, geometry))
    if not found:
        return []
    other = replace(geometry, bit_order=_OTHER_ORDER[geometry.bit_order])
    kind: Kind = "geometry" if check_decoding(PackedSpikes(path, other)) else "bit-order"
    return [problem(path, kind, what) for what in found]


def check_orientation(path: Path, looks: Sequence[Look]) -> list[Problem]:
    """Return whether most exposures of a recording match their pictures better when flipped."""
    found = [check_decoding(ArraySpikes(look.spikes), reference=look.picture) for look in looks]
    flipped = [what for line in found for what in line]
    return [problem(path, "flipped", flipped[0])] if 2 * len(flipped) > len(looks) else []
