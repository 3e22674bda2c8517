"""What the numbers of other trainers are called here."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from deblurkit.analysis.formats.line_columns import NO_NUMBERS, Numbers
from deblurkit.timing.records import clean_name

NUMBER = rb"(?:[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d{1,3})?(?!\d)|-?(?:nan|inf|NaN|Infinity)\b)"
_PAIR = re.compile(rb"(?<![\w./-])([A-Za-z_][\w./-]*(?: Loss)?)['\"]?\s?[:=]\s*['\"(\[]?(" + NUMBER + rb")")
_PLAIN_KEY = re.compile(rb"[A-Za-z_][\w./-]*:")
_KNOWN = {
    "loss": "loss",
    "train_loss": "loss",
    "train/loss": "loss",
    "train loss": "loss",
    "loss_total": "loss",
    "total_loss": "loss",
    "loss_all": "loss",
    "l_all": "loss",
    "l_total": "loss",
    "g_loss": "loss",
    "lm_loss": "loss",
    "lr": "learning_rate",
    "learning_rate": "learning_rate",
    "base_lr": "learning_rate/base",
    "psnr": "psnr_db",
    "ssim": "ssim",
    "lpips": "lpips",
    "grad_norm": "grad_norm",
    "gradnorm": "grad_norm",
    "gnorm": "grad_norm",
    "eval_loss": "loss/validation",
    "val_loss": "loss/validation",
    "train_samples_per_second": "samples_per_second",
    "samples_per_second": "samples_per_second",
    "samples/sec": "samples_per_second",
    "currsamplespersec": "samples_per_second",
    "samplespersec": "samples_per_second",
    "loss_scale": "loss_scale",
}
_NO_SCALARS = frozenset(
    ("eta", "epoch", "iter", "it", "step", "time", "data", "data_time", "load_time", "step_time", "iter_time")
    + ("batch_time", "v_num", "warning", "error", "info")
)
_PARTS = re.compile(r"^(?:loss|l)[_/](?=.)|[_/]loss$")
_MOST_LAYOUTS = 5_000
_SEARCHED = 8_192  # bytes; no line of a step is longer


class _Layout(NamedTuple):
    """What is kept of the numbers of a line: their names, and where they stand."""

    names: tuple[str, ...]
    places: tuple[int, ...]
    factors: tuple[float, ...]


_NOT_PLAIN = _Layout((), (), ())


@functools.lru_cache(maxsize=4_096)
def scalar_name(raw: bytes) -> str | None:
    """Return the name of a number in a report; None for what is no series: a time to go, a step's number."""
    name = clean_name(raw.decode("utf-8", "replace"))
    key = name.lower()
    if key in _KNOWN:
        return _KNOWN[key]
    if key in _NO_SCALARS:
        return None
    part = _PARTS.sub("", key)
    return f"loss/{part}" if part != key and part else name


class Names:
    """The names of one log's numbers; the names of a line are looked up together."""

    def __init__(self) -> None:
        self._layouts: dict[tuple[bytes, ...], _Layout] = {}
        self._plain: dict[tuple[bytes, ...], _Layout] = {}
        self._factors: dict[str, float] = {}
        self._own: dict[bytes, str] = {}

    def know(self, raw: bytes, name: str, *, factor: float) -> None:
        """Call what this log calls ``raw`` by another name, and multiply it by ``factor``."""
        self._own[raw] = name
        self._factors[name] = factor

    def numbers(self, text: bytes) -> Numbers:
        """Return the numbers of ``name: value`` and ``name=value`` in ``text``, under our names."""
        words = text[:_SEARCHED].split()
        keys = tuple(words[::2])
        layout = self._plain.get(keys) or self._new_plain_layout(keys)
        if layout is not _NOT_PLAIN and len(words) == 2 * len(keys):
            try:
                return _told(layout, words[1::2])
            except ValueError:
                self._plain[keys] = _NOT_PLAIN
        found = _PAIR.findall(text, 0, _SEARCHED)
        if not found:
            return NO_NUMBERS
        raw, values = zip(*found, strict=True)
        return _told(self._layouts.get(raw) or self._new_layout(raw), values)

    def _new_plain_layout(self, keys: tuple[bytes, ...]) -> _Layout:
        """Return the layout of words that are names with a colon and values in turn, if they are."""
        if len(self._plain) >= _MOST_LAYOUTS:
            self._plain.clear()
        is_plain = all(_PLAIN_KEY.fullmatch(key) for key in keys)
        layout = self._new_layout(tuple([key[:-1] for key in keys])) if is_plain else _NOT_PLAIN
        self._plain[keys] = layout
        return layout

    def _new_layout(self, raw: tuple[bytes, ...]) -> _Layout:
        if len(self._layouts) >= _MOST_LAYOUTS:
            self._layouts.clear()
        names = (self._own.get(key) or scalar_name(key) for key in raw)
        named = {name: place for place, name in enumerate(names) if name is not None}
        factors = tuple(self._factors.get(name, 1.0) for name in named) if self._factors else ()
        layout = self._layouts[raw] = _Layout(tuple(named), tuple(named.values()), factors)
        return layout


def _told(layout: _Layout, values: Sequence[bytes]) -> Numbers:
    told = [float(values[place]) for place in layout.places]
    if layout.factors:
        told = [value * factor for value, factor in zip(told, layout.factors, strict=True)]
    return layout.names, told


def count(text: bytes | None) -> int:
    """Return a whole number that may have thousands commas; -1 where it is none."""
    try:
        return int(text.replace(b",", b"")) if text else -1
    except ValueError:
        return -1


def number(text: bytes | None) -> float:
    """Return a number; NaN where it is none."""
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan
