"""What could be set to free memory of a resource, each with the most that it may free and its price.

What a step takes is estimated from the rows of a prediction, from above: only what may be worth it is then
predicted anew.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from deblurkit.config.changed import changed
from deblurkit.config.schema import Config
from deblurkit.data.batch_bytes import largest_clip, voxels_on_worker
from deblurkit.errors import DeblurkitError
from deblurkit.memory.tensors import (
    ACTIVATIONS,
    CONSTANTS,
    GRADIENTS,
    INPUTS,
    PARAMETERS,
    TEMPORARIES,
)
from deblurkit.models.registry import smallest_clip
from deblurkit.training.held_out import check_tile
from deblurkit.training.out_of_memory import remedies, validation_remedies
from deblurkit.training.support import can_be_shared
from deblurkit.training.tiling import GRID
from deblurkit.tuning import change_prices as prices
from deblurkit.tuning.change_prices import Situation
from deblurkit.tuning.host_memory import HEAP_GAPS
from deblurkit.tuning.overheads import BATCHES_AHEAD
from deblurkit.tuning.step_memory import EMA, LOSS, LOSS_ACTIVATIONS, STATES, VALIDATION

Settings: TypeAlias = Mapping[str, Any]

_ATTENTION, _MLP = 0.7, 0.5  # of what a stage keeps, at most: each alone
_HALF = 0.5  # of tensors that are in 32 bits
_EIGHT_BIT = 0.75  # of an optimiser's states
_STAGE = re.compile(r"Stage(\d)")
_KEPT = (PARAMETERS, GRADIENTS, CONSTANTS, STATES, EMA, LOSS)  # whatever the clips
_BATCH = "TRAIN.BATCH_SIZE"


@dataclass(frozen=True)
class Option:
    """Settings that may free memory.

    Attributes:
        settings: plain values by dotted name.
        config: the configuration with them; a valid one.
        keeps_result: whether training goes the same way with them.
        may_free: bytes that they free at most, about; infinite where only a prediction tells.
        takes_step: whether the step has to be predicted anew to know.
        price: gives a clause on what they cost.
    """

    settings: Settings
    config: Config
    keeps_result: bool
    may_free: float
    takes_step: bool
    price: Callable[[], str]


def options_for(now: Situation) -> list[Option]:
    """Return what could be set to free memory of ``now.resource``, what may free most first."""
    found = list(_options(now))
    return sorted(found, key=lambda option: -option.may_free)


def with_settings(config: Config, settings: Settings) -> Config | None:
    """Return the configuration with other values, None where no run can have them together."""
    after = changed(config, settings)
    if after is None or (after.train.parallel == "fsdp" and not can_be_shared(after)):
        return None
    return after if _tiles_fit(after) else None


def _tiles_fit(config: Config) -> bool:
    if config.test.tile is None:
        return True
    try:
        check_tile(config.test.tile, config.test.tile_overlap, smallest_clip(config.model))
    except DeblurkitError:
        return False
    return True


def _options(now: Situation) -> Iterator[Option]:
    in_step = now.step is not None and (
        now.resource == "device" or (now.resource == "ram" and now.device_kind == "cpu")
    )
    if in_step:
        for settings, keeps_result in _of_step(now):
            yield from _option(now, settings, keeps_result, takes_step=True)
    if now.resource != "device":
        for settings in _of_host(now):
            yield from _option(now, settings, True, takes_step=False)
        if not in_step:
            for remedy in remedies(now.config):
                if _lever(remedy.settings) == _BATCH:
                    yield from _option(now, remedy.settings, True, takes_step=False)


def _option(now: Situation, settings: Settings, keeps_result: bool, *, takes_step: bool) -> Iterator[Option]:
    """Yield the option where it makes a valid configuration, and another one than there is."""
    after = with_settings(now.config, settings)
    if after is None or after == now.config:
        return
    bound, price = _RULES[_lever(settings)]
    may_free = bound(now, after) if takes_step else math.inf
    if may_free > 0:
        yield Option(settings, after, keeps_result, may_free, takes_step, lambda: price(now, after))


def _lever(settings: Settings) -> str:
    """Return the name of a rule: the first key, with ``+`` where workers of validation go with it."""
    key = next(iter(settings))
    return f"{key}+" if key == "DATALOADER.TRAIN_WORKERS" and len(settings) > 1 else key


def _of_step(now: Situation) -> Iterator[tuple[Settings, bool]]:
    """Yield settings that change what a step or a validation holds, and whether training stays the same."""
    config, in_training = now.config, remedies(now.config)
    for remedy in in_training:
        yield remedy.settings, remedy.keeps_result
    seen = [remedy.settings for remedy in in_training]
    for remedy in validation_remedies(config):
        if remedy.settings not in seen:
            yield remedy.settings, remedy.keeps_result
    if config.test.tile is not None:
        sides = [max(GRID, side // 2 // GRID * GRID) for side in config.test.tile[-2:]]
        yield {"TEST.TILE": [*config.test.tile[:-2], *sides]}, False
    if config.train.ema_decay:
        yield {"TRAIN.EMA_DECAY": 0.0}, False
    if config.loss.vgg_perceptual.weight:
        yield {"LOSS.VGG_PERCEPTUAL.WEIGHT": 0.0}, False
    if config.loss.lpips.weight:
        yield {"LOSS.LPIPS.WEIGHT": 0.0}, False
    if config.train.distill.teacher is not None:
        yield {"TRAIN.DISTILL.TEACHER": None}, False
    if now.world_size > 1:
        yield {"TRAIN.PARALLEL": "fsdp"}, True


def _of_host(now: Situation) -> Iterator[Settings]:
    """Yield settings that change what loading holds; training stays the same with all of them."""
    config, plan = now.config, now.workers(now.config)
    loader, data = config.dataloader, config.data
    if plan.train:
        yield {"DATALOADER.TRAIN_WORKERS": plan.train // 2}
        if loader.train_prefetch_factor > 1:
            yield {"DATALOADER.TRAIN_PREFETCH_FACTOR": loader.train_prefetch_factor // 2}
    if plan.val:
        yield {"DATALOADER.VAL_WORKERS": plan.val // 2}
        if loader.val_prefetch_factor > 1:
            yield {"DATALOADER.VAL_PREFETCH_FACTOR": loader.val_prefetch_factor // 2}
    if now.resource == "shm" and plan.train:
        yield {"DATALOADER.TRAIN_WORKERS": 0, "DATALOADER.VAL_WORKERS": 0}
    if data.use_ram_cache:
        yield {"DATA.CACHE_SIZE_GB": data.cache_size_gb / 2}
        yield {"DATA.USE_RAM_CACHE": False}
    if loader.pin_memory and now.device_kind == "cuda":
        yield {"DATALOADER.PIN_MEMORY": False}
    if voxels_on_worker(data, now.device_kind):
        yield {"DATA.VOXELS_ON": "device"}


def _step_bytes(now: Situation) -> tuple[int, int]:
    """Return the most bytes of a step and of a validation."""
    assert now.step is not None
    return now.step.step_peak_bytes, now.step.phases.get(VALIDATION, 0)


def _scaled(now: Situation, count: float) -> float:
    """Return bytes of a step as the resource sees them: RAM has those of all ranks."""
    if now.resource == "device":
        return count
    return (1 + HEAP_GAPS[now.config.model.arch]) * now.world_size * count


def _in_step(now: Situation, count: float) -> float:
    """Return what of ``count`` bytes of a step lowers the peak; a validation has only the batch in common."""
    in_step, in_validation = _step_bytes(now)
    return _scaled(now, min(count, max(0, in_step - in_validation) + now.row(INPUTS)))


def _of_clips(now: Situation) -> float:
    """Return the bytes at the step's peak that grow with its clips."""
    return _step_bytes(now)[0] - sum(map(now.row, _KEPT))


def _beside(now: Situation) -> float:
    """Return the bytes beside the tensors of a step that grow with its clips, or may."""
    assert now.step is not None
    if now.resource == "device":
        return sum(row.bytes or 0 for row in now.step.overheads if row.name == BATCHES_AHEAD)
    if now.host is None:
        return 0.0
    return max(0.0, now.host.needed_bytes - now.world_size * _step_bytes(now)[0])


def _share_of_clips(now: Situation, share: float) -> float:
    return _in_step(now, share * _of_clips(now)) + share * _beside(now)


def _batch(now: Situation, after: Config) -> float:
    return _share_of_clips(now, 1 - after.train.batch_size / now.config.train.batch_size)


def _crop(now: Situation, after: Config) -> float:
    (_, before), (_, side) = largest_clip(now.config.data), largest_clip(after.data)
    return _share_of_clips(now, 1 - (side / before) ** 2)


def _length(now: Situation, after: Config) -> float:
    (before, _), (frames, _) = largest_clip(now.config.data), largest_clip(after.data)
    apart = 1 if now.config.model.arch == "vrt" else 0  # its flows lie between frames
    share = 1 - (frames - apart) / (before - apart)
    return _of_both(now, share) + share * _beside(now)


def _half(now: Situation, after: Config) -> float:
    return _of_both(now, _HALF)


def _of_both(now: Situation, share: float) -> float:
    """Return the part of a step's clips, or of a validation, whichever holds more."""
    in_step, in_validation = _step_bytes(now)
    return _scaled(now, share * (_of_clips(now) if in_step >= in_validation else in_validation))


def _attention(now: Situation, after: Config) -> float:
    return _in_step(now, _ATTENTION * _stages(now, now.config.model.vrt.use_checkpoint_attn))


def _mlps(now: Situation, after: Config) -> float:
    return _in_step(now, _MLP * _stages(now, now.config.model.vrt.use_checkpoint_ffn))


def _stages(now: Situation, flags: bool | tuple[bool, ...]) -> int:
    """Return the bytes of the stages whose flag is off."""
    assert now.step is not None
    held = 0
    for row in now.step.rows:
        stage = _STAGE.search(row.name)
        if stage and not (flags[int(stage[1]) - 1] if isinstance(flags, tuple) else flags):
            held += row.bytes or 0
    return held


def _states(now: Situation, after: Config) -> float:
    return _scaled(now, _EIGHT_BIT * now.row(STATES))


def _mean(now: Situation, after: Config) -> float:
    return _scaled(now, now.row(EMA) + now.row(PARAMETERS))  # the mean, and the weights that it changes with


def _loss(now: Situation, after: Config) -> float:
    assert now.step is not None
    made = sum(row.bytes or 0 for row in now.step.rows if row.name.startswith(LOSS_ACTIVATIONS))
    made += now.row(TEMPORARIES) + now.row(ACTIVATIONS)
    return _scaled(now, now.row(LOSS)) + _in_step(now, made)


def _shared(now: Situation, after: Config) -> float:
    return _scaled(now, now.row(STATES) * (1 - 1 / now.world_size))


def _validation(now: Situation, after: Config) -> float:
    in_step, in_validation = _step_bytes(now)
    return _scaled(now, max(0, in_validation - in_step))


def _untold(now: Situation, after: Config) -> float:
    return math.inf


_Bound: TypeAlias = Callable[[Situation, Config], float]
_Price: TypeAlias = Callable[[Situation, Config], str]
_RULES: dict[str, tuple[_Bound, _Price]] = {
    _BATCH: (_batch, prices.smaller_parts),
    "MODEL.VRT.USE_CHECKPOINT_ATTN": (_attention, prices.attention_again),
    "MODEL.VRT.USE_CHECKPOINT_FFN": (_mlps, prices.mlps_again),
    "TRAIN.AMP_ENABLED": (_half, prices.half_precision),
    "TRAIN.AMP_OPT_LEVEL": (_half, prices.half_precision),
    "DATA.CROP_SIZE": (_crop, prices.smaller_crops),
    "DATA.TRAIN_CROP_SIZE": (_crop, prices.smaller_crops),
    "DATA.CLIP_LEN": (_length, prices.shorter_clips),
    "DATA.TRAIN_CLIP_LEN": (_length, prices.shorter_clips),
    "TRAIN.OPTIM.TYPE": (_states, prices.eight_bits),
    "TRAIN.EMA_DECAY": (_mean, prices.no_mean),
    "LOSS.VGG_PERCEPTUAL.WEIGHT": (_loss, prices.no_vgg),
    "LOSS.LPIPS.WEIGHT": (_loss, prices.no_lpips),
    "TRAIN.DISTILL.TEACHER": (_loss, prices.no_teacher),
    "TRAIN.PARALLEL": (_shared, prices.shared_states),
    "TRAIN.VAL_BATCH_SIZE": (_validation, prices.clip_by_clip),
    "TEST.TILE": (_validation, prices.smaller_tiles),
    "DATALOADER.TRAIN_WORKERS": (_untold, prices.fewer_workers),
    "DATALOADER.TRAIN_WORKERS+": (_untold, prices.no_workers),
    "DATALOADER.TRAIN_PREFETCH_FACTOR": (_untold, prices.less_ready),
    "DATALOADER.VAL_WORKERS": (_untold, prices.fewer_val_workers),
    "DATALOADER.VAL_PREFETCH_FACTOR": (_untold, prices.less_val_ready),
    "DATA.CACHE_SIZE_GB": (_untold, prices.half_the_cache),
    "DATA.USE_RAM_CACHE": (_untold, prices.no_cache),
    "DATALOADER.PIN_MEMORY": (_untold, prices.pageable),
    "DATA.VOXELS_ON": (_untold, prices.voxels_on_device),
}
