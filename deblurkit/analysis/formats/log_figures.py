"""Numbers that lines between the steps tell in any log: scores, memory, the cache, the size of a step."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from deblurkit.units import MIB

_WORDS = re.compile(rb"psnr|ssim|lpips|memory|hit rate|pu[ _-]util|data time|batch|world")
_SEARCHED = 4_096  # bytes at the front of a line
_SCORE = re.compile(
    rb"\b(psnr|ssim|lpips)(?:[ _]?\(?db\)?)?\W{0,8}?"
    rb"(-?\d{1,3}(?:\.\d*)?(?:[eE][-+]?\d{1,2})?(?!\d)|(?:inf|nan)\b)",
    re.IGNORECASE,
)
_SCORES = {b"psnr": "psnr_db", b"ssim": "ssim", b"lpips": "lpips"}
_STEP = re.compile(rb"\b(?:step|iter(?:ation)?)\W{1,3}(\d[\d,]{0,14})", re.IGNORECASE)
_MEMORY = re.compile(
    rb"Memory - Process: ([\d.]{1,15})MB \([\d.]{1,6}%\), System: [\d.]{1,15}/[\d.]{1,15}GB \(([\d.]{1,6})%\)"
)
_CRITICAL = re.compile(rb"memory usage is critically high \(([\d.]{1,6})%\)")
_HITS = re.compile(rb"hit rate: ([\d.]{1,6})%(?: \((\d{1,15}) hits / (\d{1,15}) misses\))?", re.IGNORECASE)
_CACHE_SIZE = re.compile(rb"- Memory: ([\d.]{1,15}) / ([\d.]{1,15}) MB")
_BUSY = re.compile(rb"\b([gc]pu)[ _-]?util\w*\W{1,4}(\d{1,3}(?:\.\d*)?) ?%", re.IGNORECASE)
_DATA = re.compile(rb"\bdata time: ([\d.]{1,15}) ?ms", re.IGNORECASE)
_WORLD = re.compile(rb"\bworld[ _]size\b[^:=\n]{0,24}[:=]\s*(\d{1,5})\b", re.IGNORECASE)
_BATCH_OF_ALL = re.compile(rb"\btotal train batch size\b[^=:\n]{0,60}[:=]\s*(\d{1,7})\b", re.IGNORECASE)
_BATCH_PER_GPU = re.compile(rb"\bbatch[ _]size[ _]per[ _]gpu\b\W{1,12}(\d{1,6})\b", re.IGNORECASE)
_DECIMAL_MB = 1e6  # the seed's examples give 15678.9 MB as 6.1 % of 256.0 GB


@dataclass(frozen=True)
class Figure:
    """A number that a line tells.

    Attributes:
        name: as ``RunLog.scalars`` has it; or ``world_size``, ``samples_per_step``, ``samples_per_gpu``.
        value: in the unit of its name.
        step: that it belongs to, where the line says so.
    """

    name: str
    value: float
    step: int | None = None


def figures_of(line: bytes) -> Iterator[Figure]:
    """Yield the numbers that a line tells which is no step's."""
    line = line[:_SEARCHED]
    if _WORDS.search(line.lower()) is not None:
        yield from _scores(line)
        yield from _memory(line)
        yield from _cache(line)
        yield from _sizes(line)


def _scores(line: bytes) -> Iterator[Figure]:
    found = _SCORE.findall(line)
    match = _STEP.search(line) if found else None
    step = int(match[1].replace(b",", b"")) if match is not None else None
    seen = set()
    part = "/quick" if b"quick look" in line else ""
    for name, value in found:
        key = name.lower()
        if key not in seen:  # the second one is the best so far, or the input's
            seen.add(key)
            yield Figure(_SCORES[key] + part, float(value), step)


def _memory(line: bytes) -> Iterator[Figure]:
    if (match := _MEMORY.search(line)) is not None:
        found = _STEP.search(line)
        step = int(found[1].replace(b",", b"")) if found is not None else None
        yield from _known("process_memory_bytes", match[1], _DECIMAL_MB, step)
        yield from _known("host_memory_share", match[2], 0.01, step)
    elif (match := _CRITICAL.search(line)) is not None:
        yield from _known("host_memory_share", match[1], 0.01)
    if (match := _DATA.search(line)) is not None:
        yield from _known("data_ms", match[1], 1.0)
    for device, percent in _BUSY.findall(line):
        yield from _known(f"{device.decode().lower()}_utilisation", percent, 0.01)


def _cache(line: bytes) -> Iterator[Figure]:
    if (match := _HITS.search(line)) is not None:
        reads = int(match[2]) + int(match[3]) if match[2] else 0
        if reads:
            yield Figure("cache_hit_rate", int(match[2]) / reads)
        else:
            yield from _known("cache_hit_rate", match[1], 0.01)
    elif (match := _CACHE_SIZE.search(line)) is not None:
        yield from _known("cache_bytes", match[1], MIB)
        yield from _known("cache_max_bytes", match[2], MIB)


def _sizes(line: bytes) -> Iterator[Figure]:
    for name, pattern in (
        ("world_size", _WORLD),
        ("samples_per_step", _BATCH_OF_ALL),
        ("samples_per_gpu", _BATCH_PER_GPU),
    ):
        if (match := pattern.search(line)) is not None and int(match[1]) > 0:
            yield Figure(name, int(match[1]))


def _known(name: str, text: bytes, factor: float, step: int | None = None) -> Iterator[Figure]:
    try:
        value = float(text) * factor
    except ValueError:
        return
    if math.isfinite(value):
        yield Figure(name, value, step)
