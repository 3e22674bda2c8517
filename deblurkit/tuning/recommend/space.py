"""The configurations that a search chooses among: every combination of what may be set otherwise.

The effective batch, and so the clips that training sees, is that of the start in all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from deblurkit.config.schema import Config, flat_values
from deblurkit.training.out_of_memory import sizes_at_most
from deblurkit.tuning.change_options import with_settings
from deblurkit.tuning.recommend.records import Candidate, Effect, Settings
from deblurkit.tuning.recommend.schemes import schemes_of
from deblurkit.tuning.step_memory import DeviceKind

MOST_BATCHES = 6  # sizes of a micro-batch
STAGES = 8
FULL_RESOLUTION = (1, 7, 8)  # stages of VRT that hold most: their tokens are the most
_GRID = 8  # px: sides of crops are multiples of it
_EFFECTS: tuple[Effect, ...] = ("none", "rounding", "accuracy")  # each takes the ones before it in

Flags: TypeAlias = tuple[bool, ...]  # one for each stage


@dataclass(frozen=True)
class Choice:
    """One thing that an axis may be set to.

    Attributes:
        words: that tell it from the others of its axis.
        settings: plain values by dotted name; empty for what the start has.
        effect: on training, beside what the start does.
    """

    words: str
    settings: Settings
    effect: Effect = "none"


@dataclass(frozen=True)
class _Given:
    """What the axes are made from: the start, the device, and what is allowed."""

    config: Config
    device_kind: DeviceKind
    allow: frozenset[str]
    clips: int  # of a step on one device: micro-batch x accumulation
    has_bf16: bool
    has_eight_bit: bool
    accuracy_changes: int | None

    @property
    def may_change_results(self) -> bool:
        return "accuracy" in self.allow

    def allows(self, chosen: Sequence[Choice]) -> bool:
        touched = sum(choice.effect == "accuracy" for choice in chosen)
        return self.accuracy_changes is None or touched <= self.accuracy_changes


def search_space(
    config: Config,
    *,
    device_kind: DeviceKind,
    allow: frozenset[str] = frozenset(),
    devices: Sequence[int] = (1,),
    has_bf16: bool = True,
    has_eight_bit: bool = True,
    accuracy_changes: int | None = None,
) -> list[Candidate]:
    """Return every valid configuration of the space, ``config`` itself first; no two are alike.

    Args:
        config: that the search starts from, on the first number of ``devices``.
        device_kind: of the device that the run is for.
        allow: what is left alone otherwise: ``accuracy``, another network or smaller clips; ``bf16`` and
            ``compile`` where they seldom pay, on a CPU.
        devices: numbers of devices, those left out that do not divide the effective batch.
        has_bf16: whether the device multiplies bfloat16; a GPU that does not is offered float16.
        has_eight_bit: whether the optimiser with 8-bit states can be had.
        accuracy_changes: most choices of a candidate that touch accuracy; None: one on each axis that does.
    """
    train = config.train
    effective = train.batch_size * train.gradient_accumulation_steps * devices[0]
    given = _Given(config, device_kind, allow, 0, has_bf16, has_eight_bit, accuracy_changes)
    before = flat_values(config)
    found: dict[tuple[int, Config], Candidate] = {}
    for number in dict.fromkeys(devices):
        if effective % number == 0:
            here = replace(given, clips=effective // number)
            for candidate in _product(here, before, number):
                found.setdefault((number, candidate.config), candidate)
    return _with_telling_axes(list(found.values()))


def learning_rate_rule(config: Config, candidate: Candidate, *, devices: int = 1) -> str:
    """Return what becomes of the learning rate, in a clause with its arithmetic.

    Args:
        config: that the search started from.
        candidate: of its space.
        devices: that the start trains on.
    """
    train, optim = config.train, config.train.optim
    before = train.batch_size * train.gradient_accumulation_steps * devices
    after, base = candidate.effective_batch, optim.base_batch_size
    parts = f"{candidate.batch_size} x {candidate.accumulation} x {candidate.devices} = {after}"
    rate = f"TRAIN.OPTIM.LR stays {optim.lr:g}"
    if before != after:
        return f"the effective batch is {parts} instead of {before} clips; {rate}"
    if optim.lr_scaling == "linear":
        rate += f" and LR_SCALING linear multiplies it by {after} / {base}, as before"
    return f"the effective batch stays {parts} clips, so {rate}"


def _product(given: _Given, before: Mapping[str, Any], devices: int) -> Iterator[Candidate]:
    axes = {axis: [*_valid(given.config, make(given))] for axis, make in AXES.items()}
    for chosen in itertools.product(*axes.values()):
        if not given.allows(chosen):
            continue
        settings = _changing({key: value for each in chosen for key, value in each.settings.items()}, before)
        after = with_settings(given.config, settings) if settings else given.config
        if after is not None:
            words = {axis: each.words for axis, each in zip(axes, chosen, strict=True)}
            effect = max((each.effect for each in chosen), key=_EFFECTS.index)
            yield Candidate(settings, after, {**words, "devices": str(devices)}, effect, devices)


def _valid(config: Config, choices: Iterator[Choice]) -> Iterator[Choice]:
    """Yield choices that make a configuration on their own, or that of the start, and other words each."""
    seen: set[str] = set()
    for choice in choices:
        if choice.words not in seen and (
            not choice.settings or with_settings(config, choice.settings) is not None
        ):
            seen.add(choice.words)
            yield choice


def _changing(settings: Settings, before: Mapping[str, Any]) -> Settings:
    """Return the settings that differ from the start's."""
    return {key: value for key, value in settings.items() if before[key] != value}


def _with_telling_axes(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates with words on the axes on which they differ."""
    words: dict[str, set[str]] = {}
    for candidate in candidates:
        for axis, choice in candidate.choices.items():
            words.setdefault(axis, set()).add(choice)
    telling = [axis for axis, seen in words.items() if len(seen) > 1]
    return [
        replace(candidate, choices={axis: candidate.choices[axis] for axis in telling})
        for candidate in candidates
    ]


def _batches(given: _Given) -> Iterator[Choice]:
    own = given.config.train.batch_size
    for batch in _micro_batches(given.clips, own):
        settings = {
            "TRAIN.BATCH_SIZE": batch,
            "TRAIN.GRADIENT_ACCUMULATION_STEPS": given.clips // batch,
        }
        yield Choice(f"{batch} x {given.clips // batch}", settings)


def _micro_batches(clips: int, own: int) -> list[int]:
    """Return divisors of ``clips``, ``own`` first if it is one, then from 1 on, evenly spread if too many."""
    divisors = [batch for batch in range(1, clips + 1) if clips % batch == 0]
    if own in divisors:
        divisors.remove(own)
    room = MOST_BATCHES - (clips % own == 0)
    if len(divisors) > room:
        gap = (len(divisors) - 1) / (room - 1)
        divisors = [divisors[round(gap * place)] for place in range(room)]
    return [own, *divisors] if clips % own == 0 else divisors


def _optimizers(given: _Given) -> Iterator[Choice]:
    own = given.config.train.optim.type
    yield Choice(own, {})
    yield Choice("adamw", {"TRAIN.OPTIM.TYPE": "adamw"}, "rounding")
    if given.has_eight_bit:
        yield Choice("adamw8bit", {"TRAIN.OPTIM.TYPE": "adamw8bit"}, "rounding")


def _recomputations(given: _Given) -> Iterator[Choice]:
    yield Choice(_recompute_words(*recomputed(given.config)), {})
    for attention, mlp in _RECOMPUTED if given.config.model.arch == "vrt" else ():
        settings = {
            "MODEL.VRT.USE_CHECKPOINT_ATTN": _as_value(attention),
            "MODEL.VRT.USE_CHECKPOINT_FFN": _as_value(mlp),
        }
        yield Choice(_recompute_words(attention, mlp), settings)


def recomputed(config: Config) -> tuple[Flags, Flags]:
    """Return of each stage whether VRT recomputes its attention, and whether its MLPs (FFN)."""
    vrt = config.model.vrt
    attention, mlp = (
        flags if isinstance(flags, tuple) else (flags,) * STAGES
        for flags in (vrt.use_checkpoint_attn, vrt.use_checkpoint_ffn)
    )
    return attention, mlp


def order_of_need(config: Config) -> tuple[int, int]:
    """Return what orders like configurations by their memory: micro-batch, then what is recomputed."""
    attention, mlp = recomputed(config)
    return config.train.batch_size, -sum((*attention, *mlp))


_NONE, _ALL = (False,) * STAGES, (True,) * STAGES
_FINE = tuple(stage in FULL_RESOLUTION for stage in range(1, STAGES + 1))
_RECOMPUTED = ((_NONE, _NONE), (_ALL, _NONE), (_NONE, _ALL), (_ALL, _ALL), (_FINE, _NONE), (_FINE, _FINE))


def _as_value(flags: Flags) -> bool | list[bool]:
    return flags[0] if len(set(flags)) == 1 else list(flags)


def _recompute_words(attention: Flags, mlp: Flags) -> str:
    if attention == mlp:
        return _in_stages("attention + FFN", attention) or "none"
    return " + ".join(filter(None, (_in_stages("attention", attention), _in_stages("FFN", mlp))))


def _in_stages(what: str, flags: Flags) -> str:
    if not any(flags):
        return ""
    stages = ", ".join(str(stage) for stage, flag in enumerate(flags, start=1) if flag)
    return what if all(flags) else f"{what} in stages {stages}"


def _precisions(given: _Given) -> Iterator[Choice]:
    train, on_gpu = given.config.train, given.device_kind == "cuda"
    yield Choice(train.amp_dtype if train.amp_enabled and train.amp_opt_level != "O0" else "float32", {})
    yield Choice("float32", {"TRAIN.AMP_ENABLED": False}, "rounding")
    if "bf16" in given.allow or (on_gpu and given.has_bf16):
        yield _half("bf16")
    elif on_gpu:
        yield _half("fp16")


def _half(dtype: str) -> Choice:
    settings = {"TRAIN.AMP_ENABLED": True, "TRAIN.AMP_OPT_LEVEL": "O1", "TRAIN.AMP_DTYPE": dtype}
    return Choice(dtype, settings, "rounding")


def _compilations(given: _Given) -> Iterator[Choice]:
    own = given.config.train.compile_model
    words = {True: "on", False: "off"}
    yield Choice(words[own], {})
    if given.device_kind == "cuda" or "compile" in given.allow:
        yield Choice(words[not own], {"TRAIN.COMPILE_MODEL": not own}, "rounding")


def _schemes(given: _Given) -> Iterator[Choice]:
    yield Choice("as given", {})
    if given.may_change_results and given.config.model.arch == "vrt":
        for name, settings in schemes_of(given.config.model).items():
            yield Choice(name, settings, "accuracy")


def _crops(given: _Given) -> Iterator[Choice]:
    data = given.config.data
    side = max(size for _, size in data.crops_by_epoch)
    yield Choice(f"{side} px", {})
    if given.may_change_results:
        for smaller in (side * 3 // 4 // _GRID * _GRID, side // 2 // _GRID * _GRID):
            settings = sizes_at_most(
                smaller, "CROP_SIZE", early=data.train_crops, grows=data.train_crop_epochs > 0
            )
            yield Choice(f"{smaller} px", settings, "accuracy")


def _clips(given: _Given) -> Iterator[Choice]:
    data = given.config.data
    frames = max(length for _, length in data.clips_by_epoch)
    yield Choice(f"{frames} frames", {})
    if given.may_change_results and frames > 3:
        settings = sizes_at_most(
            frames - 2, "CLIP_LEN", early=data.train_clips, grows=data.train_clip_epochs > 0
        )
        yield Choice(f"{frames - 2} frames", settings, "accuracy")


AXES: Mapping[str, Callable[[_Given], Iterator[Choice]]] = {
    "batch": _batches,
    "optimizer": _optimizers,
    "recompute": _recomputations,
    "precision": _precisions,
    "compile": _compilations,
    "scheme": _schemes,
    "crop": _crops,
    "clip": _clips,
}  # what each may be set to, the start's own choice first
