"""Out of memory, explained: what was asked for, what was free, who holds it, and which settings free some."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from deblurkit.config.changed import as_assignments, changed
from deblurkit.config.schema import Config
from deblurkit.errors import DeblurkitError
from deblurkit.memory.gpu import Holder, find_gpu
from deblurkit.training.support import can_be_shared
from deblurkit.units import format_bytes, format_share

_PHRASES = ("out of memory", "can't allocate memory", "not enough memory: you tried", "ALLOC_FAILED")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = r"([\d.]+) ?(bytes|[KMGT]iB)"
_ASKED = re.compile(rf"[Tt]ried to allocate {_SIZE}")
_FREE = re.compile(rf"{_SIZE} (?:is )?free")
_TOTAL = re.compile(rf"total capac[i]?ty of {_SIZE}|{_SIZE} total capac[i]?ty")
_OWN = re.compile(rf"this process has {_SIZE} memory in use")
_UNUSED = re.compile(rf"{_SIZE} is reserved by PyTorch but unallocated")
_OTHER = re.compile(rf"Process (\d+) has {_SIZE} memory in use")

_SHOWN = 3
_FRAGMENTED = 0.1  # of the GPU: reserved and unused memory above it is worth a word
# Shares of the peak that these free in the GoPro VRT at 6x192x192, by storages followed through a step (plain
# network, 100 -> 47 -> 22 GiB; bf16: 22 -> 15). A network whose attention is never kept gains less.
_CHECKPOINT = 0.5
_BF16 = 0.3
_TILE = 256  # px, as training crops are
_GOPRO_FRAME = (720, 1280)
_EIGHT_BITS = 0.01  # three quarters of the optimiser's states, which are a hundredth of VRT's step


@dataclass(frozen=True)
class Request:
    """What an out-of-memory error says of itself [bytes]; None where it does not.

    Attributes:
        asked: what was to be allocated.
        free: what the device had left.
        total: the device's memory.
        unused: what PyTorch has reserved and holds no tensor in.
    """

    asked: int | None
    free: int | None
    total: int | None
    unused: int | None


@dataclass(frozen=True)
class Remedy:
    """Settings that free memory.

    Attributes:
        settings: dotted keys and their values, as ``--set`` takes them.
        share: of the memory of a step that they free, about.
        remark: what they cost, and where the share is from.
        keeps_result: whether training goes the same way with them.
    """

    settings: Mapping[str, Any]
    share: float
    remark: str
    keeps_result: bool

    def as_options(self) -> str:
        """Return the options of the command line."""
        texts = as_assignments(self.settings)
        return " ".join(f"--set '{text}'" if "[" in text else f"--set {text}" for text in texts)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory of a device or of the host has run out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _PHRASES)


def read_request(text: str) -> Request:
    """Return the figures in an error's text; PyTorch has worded it in several ways over the years."""
    return Request(
        asked=_bytes_in(_ASKED, text),
        free=_bytes_in(_FREE, text),
        total=_bytes_in(_TOTAL, text),
        unused=_bytes_in(_UNUSED, text),
    )


def explain(
    error: BaseException,
    config: Config,
    *,
    device: torch.device,
    processes: Sequence[Holder] | None = None,
    found: Sequence[Remedy] | None = None,
    advice: Sequence[str] | None = None,
    world_size: int = 1,
) -> str:
    """Return what a user needs to know, in lines: asked, free, holders, and three remedies.

    Args:
        error: one that `is_out_of_memory`.
        config: of the run that it has ended.
        device: that the run computes on.
        processes: who holds memory of the device; None asks the driver, and takes the error's word where
            that says nothing.
        found: what to propose; None is what frees memory in training (`remedies`).
        advice: lines that are told instead, where settings of a run do not help.
        world_size: processes that train together.
    """
    text = str(error)
    of_host = device.type == "cpu" or "CPUAllocator" in text or isinstance(error, MemoryError)
    request = read_request(text)
    lines = [_headline(request, device, of_host=of_host)]
    if not of_host:
        gpu = find_gpu(device) if processes is None else None
        holders = gpu.holders() if gpu is not None else list(processes or ())
        lines += _holder_lines(holders or _holders_in(text))
        lines += _unused_lines(request)
    if advice is not None:
        return "\n  ".join([*lines, *advice])
    proposed = remedies(config, of_host=of_host) if found is None else found
    lines += _remedy_lines(proposed[:_SHOWN])
    if found is None:
        lines += _alone_lines(config) if world_size == 1 else _together_lines(config, world_size)
    return "\n  ".join(lines)


@contextlib.contextmanager
def explained(config: Config, *, device: torch.device, advice: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Have what is out of memory in the block end in the lines of `explain`.

    Args:
        config: of the run whose network is called.
        device: that it is called on.
        advice: gives what to do about it; asked when it has happened.

    Raises:
        DeblurkitError: instead of PyTorch's or Python's error.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise DeblurkitError(explain(error, config, device=device, advice=advice())) from error


def halved(config: Config) -> Config | None:
    """Return the configuration with half the micro-batch and twice the accumulation, None where it is odd.

    The effective batch is the same, and with it the learning rate. Every step takes the same clips where the
    clips of an epoch are a multiple of the batch (BATCH_SIZE x GPUs); else DATALOADER.DROP_LAST leaves out
    fewer of them, and later epochs are cut into steps elsewhere.
    """
    if config.train.batch_size % 2:
        return None
    return changed(config, _divided_batch(config, 2))


def forget(error: BaseException) -> None:
    """Let go of what the frames of an error hold, and hand PyTorch's cache back to the device.

    Before a run is tried again: the tensors of the step that failed live as long as its traceback does.
    """
    seen: BaseException | None = error
    while seen is not None:
        if seen.__traceback__ is not None:
            traceback.clear_frames(seen.__traceback__)
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def remedies(config: Config, *, of_host: bool = False) -> list[Remedy]:
    """Return what is not yet set and would free memory: what keeps the result first, then by the share freed.

    Only what makes a valid configuration is proposed. The shares are estimates by the sizes in it.
    """
    found = [*_batch(config), *_recomputation(config), *_half(config), *_smaller_clips(config)]
    found += _optimizer(config)
    if of_host:
        found += _cache(config)
    return _in_order(config, found)


def validation_remedies(config: Config) -> list[Remedy]:
    """Return what would free memory while held-out frames are restored, in the order of `remedies`."""
    found = list(_half(config))
    batch = config.train.val_batch_size
    if batch > 1:
        found.append(Remedy({"TRAIN.VAL_BATCH_SIZE": 1}, 1 - 1 / batch, "a clip at a time", True))
    if config.test.tile is None:
        share = 1 - _TILE**2 / math.prod(_GOPRO_FRAME)
        remark = "frames in tiles, of GoPro's size by the share; scores differ a little from whole frames'"
        found.append(Remedy({"TEST.TILE": [_TILE, _TILE]}, share, remark, False))
    return _in_order(config, found)


def _in_order(config: Config, found: Sequence[Remedy]) -> list[Remedy]:
    valid = [remedy for remedy in found if changed(config, remedy.settings) is not None]
    return sorted(valid, key=lambda remedy: (not remedy.keeps_result, -remedy.share))


def _batch(config: Config) -> Iterator[Remedy]:
    batch = config.train.batch_size
    if batch == 1:
        return
    parts = next(number for number in range(2, batch + 1) if batch % number == 0)
    yield Remedy(_divided_batch(config, parts), 1 - 1 / parts, "same effective batch, smaller parts", True)


def _recomputation(config: Config) -> Iterator[Remedy]:
    if config.model.arch != "vrt":
        return
    vrt = config.model.vrt
    for key, flags, what in (
        ("USE_CHECKPOINT_ATTN", vrt.use_checkpoint_attn, "attention"),
        ("USE_CHECKPOINT_FFN", vrt.use_checkpoint_ffn, "the MLPs"),
    ):
        stages = flags if isinstance(flags, tuple) else (flags,)
        kept = stages.count(False) / len(stages)
        if kept:
            remark = f"same gradients; the backward pass computes {what} again"
            yield Remedy({f"MODEL.VRT.{key}": True}, _CHECKPOINT * kept, remark, True)


def _half(config: Config) -> Iterator[Remedy]:
    train = config.train
    if train.amp_enabled and train.amp_opt_level != "O0":
        return
    settings = {"TRAIN.AMP_ENABLED": True, "TRAIN.AMP_OPT_LEVEL": "O1", "TRAIN.AMP_DTYPE": "bf16"}
    now = {"TRAIN.AMP_OPT_LEVEL": train.amp_opt_level, "TRAIN.AMP_DTYPE": train.amp_dtype}
    missing = {key: value for key, value in settings.items() if now.get(key) != value}
    yield Remedy(missing, _BF16, "products in 16 bits; compare the accuracy", False)


def _smaller_clips(config: Config) -> Iterator[Remedy]:
    data = config.data
    crop = max(size for _, size in data.crops_by_epoch)
    smaller = crop * 3 // 4 // 8 * 8
    settings = sizes_at_most(smaller, "CROP_SIZE", early=data.train_crops, grows=data.train_crop_epochs > 0)
    remark = f"{smaller} px a side instead of {crop}; less context for the network"
    yield Remedy(settings, 1 - smaller**2 / crop**2, remark, False)
    frames = max(length for _, length in data.clips_by_epoch)
    if frames > 3:
        settings = sizes_at_most(
            frames - 2, "CLIP_LEN", early=data.train_clips, grows=data.train_clip_epochs > 0
        )
        remark = f"{frames - 2} frames instead of {frames}; less context for the network"
        yield Remedy(settings, 2 / frames, remark, False)


def sizes_at_most(size: int, last: str, *, early: Sequence[int], grows: bool) -> dict[str, Any]:
    """Return the settings with which training takes no crop or clip above ``size``; ``last`` is the key."""
    if early and not grows:  # training stays with the first
        return {f"DATA.TRAIN_{last}": size}
    settings: dict[str, Any] = {f"DATA.{last}": size}
    if any(each > size for each in early):
        settings[f"DATA.TRAIN_{last}"] = [min(each, size) for each in early]
    return settings


def _optimizer(config: Config) -> Iterator[Remedy]:
    if config.train.optim.type == "adamw":
        remark = "a quarter of the optimiser's states; small beside the activations"
        yield Remedy({"TRAIN.OPTIM.TYPE": "adamw8bit"}, _EIGHT_BITS, remark, False)


def _cache(config: Config) -> Iterator[Remedy]:
    if config.data.use_ram_cache:
        remark = f"the cache takes up to {config.data.cache_size_gb:g} GiB; slower loading"
        yield Remedy({"DATA.USE_RAM_CACHE": False}, 0.5, remark, True)


def _divided_batch(config: Config, parts: int) -> dict[str, Any]:
    train = config.train
    return {
        "TRAIN.BATCH_SIZE": train.batch_size // parts,
        "TRAIN.GRADIENT_ACCUMULATION_STEPS": train.gradient_accumulation_steps * parts,
    }


def _headline(request: Request, device: torch.device, *, of_host: bool) -> str:
    place = "host memory" if of_host else f"memory of {device}"
    figures = []
    if request.asked is not None:
        figures.append(f"{format_bytes(request.asked)} asked for")
    if request.free is not None:
        figures.append(f"{format_bytes(request.free)} free")
    if request.total is not None:
        figures.append(f"{format_bytes(request.total)} in all")
    return f"{place} has run out" + (f": {', '.join(figures)}" if figures else "")


def _holder_lines(holders: Sequence[Holder]) -> Iterator[str]:
    if not holders:
        return
    told = [
        f"{'this process' if holder.is_this_process else f'process {holder.pid}'}"
        f"{f' of {holder.user}' if holder.user and not holder.is_this_process else ''}"
        f" {'an unknown amount' if holder.bytes is None else format_bytes(holder.bytes)}"
        for holder in holders
    ]
    yield f"held by {', '.join(told)}"
    others = sum(holder.bytes or 0 for holder in holders if not holder.is_this_process)
    if others:
        yield (
            f"{format_bytes(others)} of it is others': take another GPU (CUDA_VISIBLE_DEVICES), or ask for it"
        )


def _unused_lines(request: Request) -> Iterator[str]:
    if request.unused and request.total and request.unused > _FRAGMENTED * request.total:
        yield (
            f"{format_bytes(request.unused)} is reserved by PyTorch in pieces that nothing fits into; the"
            " environment variable PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True joins them"
        )


def _remedy_lines(found: Sequence[Remedy]) -> Iterator[str]:
    if not found:
        yield "every setting that frees memory is on already; a smaller network is left (MODEL.VRT_DEPTHS)"
        return
    yield "settings that free memory (shares of what a step needs are estimates):"
    for remedy in found:
        yield f"  {remedy.as_options()}   about {format_share(remedy.share)}: {remedy.remark}"
    if len(found) > 1:
        left = math.prod(1 - remedy.share for remedy in found)
        yield f"all of them together: about {format_share(1 - left)}"


def _alone_lines(config: Config) -> Iterator[str]:
    if halved(config) is not None and not config.train.auto_halve_batch:
        yield "to have a run do so by itself: --set TRAIN.AUTO_HALVE_BATCH=true"


def _together_lines(config: Config, world_size: int) -> Iterator[str]:
    """Yield what only several processes can do, and what they cannot."""
    shared = changed(config, {"TRAIN.PARALLEL": "fsdp"})
    if config.train.parallel == "ddp" and shared is not None and can_be_shared(shared):
        yield (
            "each rank has a copy of all weights, gradients and optimiser states: with --set"
            f" TRAIN.PARALLEL=fsdp it keeps 1/{world_size} of them (not of the activations)"
        )
    if config.train.auto_halve_batch:
        yield "TRAIN.AUTO_HALVE_BATCH is for one process, and several do without it"


def _holders_in(text: str) -> list[Holder]:
    """Return the processes that the error itself names."""
    others = [Holder(int(pid), None, _size(size, unit)) for pid, size, unit in _OTHER.findall(text)]
    own = _bytes_in(_OWN, text)
    return others if own is None else [Holder(os.getpid(), None, own), *others]


def _bytes_in(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    if match is None:
        return None
    size, unit = (part for part in match.groups() if part is not None)
    return _size(size, unit)


def _size(size: str, unit: str) -> int:
    return int(float(size.rstrip(".")) * _UNITS[unit])
