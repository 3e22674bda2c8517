"""The seeds' schemes A and B: a smaller VRT, as settings for a network of any size.

Written for the depths 8, 8, 8, 8, 4, 4, 4, 8, windows of 8 and chunks of 64; other networks are made smaller
in the same proportions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from deblurkit.config.schema import ModelSection
from deblurkit.config.sections.model import AttentionSection
from deblurkit.tuning.recommend.records import Settings

_LAST_STAGE = 7  # index of the first group of stage 8
_TOKENS = Fraction(65536, 49152)  # in a chunk: more at a time


@dataclass(frozen=True)
class Scheme:
    """What becomes of a network.

    Attributes:
        depths: factor on the blocks of a stage, by its index; that of stage 8 is for all of its groups.
        window: factor on the height and width of a window.
        chunk: factor on the side of a chunk of attention over time.
        spikes_too: whether the spikes' own attention takes it as well, and not their fusion alone.
    """

    depths: Mapping[int, Fraction]
    window: Fraction
    chunk: Fraction
    spikes_too: bool


SCHEMES = {
    "A": Scheme({1: Fraction(7, 8), 7: Fraction(6, 8)}, Fraction(7, 8), Fraction(80, 64), False),
    "B": Scheme(
        {1: Fraction(6, 8), 2: Fraction(6, 8), 7: Fraction(4, 8)}, Fraction(6, 8), Fraction(96, 64), True
    ),
}


def schemes_of(model: ModelSection) -> dict[str, Settings]:
    """Return the settings of each scheme for a network, those left out that are the same as another's."""
    found: dict[str, Settings] = {}
    for name, scheme in SCHEMES.items():
        settings = _settings(model, scheme)
        if settings not in found.values():
            found[name] = settings
    return found


def _settings(model: ModelSection, scheme: Scheme) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "MODEL.VRT_DEPTHS": _depths(model.vrt_depths, scheme),
        "MODEL.WINDOW_SIZE": _window(model.window_size, scheme),
        **_chunks("FUSE", model.fuse, scheme),
    }
    return settings | (_chunks("SPIKE_TSA", model.spike_tsa, scheme) if scheme.spikes_too else {})


def _depths(depths: Sequence[int], scheme: Scheme) -> list[int]:
    factors = [scheme.depths.get(min(stage, _LAST_STAGE), Fraction(1)) for stage in range(len(depths))]
    return [max(1, int(blocks * factor)) for blocks, factor in zip(depths, factors, strict=True)]


def _window(window: int | tuple[int, int, int], scheme: Scheme) -> int | list[int]:
    if isinstance(window, int):
        return max(1, int(window * scheme.window))
    frames, *sides = window
    return [frames, *(max(1, int(side * scheme.window)) for side in sides)]


def _chunks(name: str, section: AttentionSection, scheme: Scheme) -> dict[str, Any]:
    return {
        f"MODEL.{name}.CHUNK_SIZE": int(section.chunk_size * scheme.chunk),
        f"MODEL.{name}.MAX_BATCH_TOKENS": int(section.max_batch_tokens * _TOKENS),
    }
