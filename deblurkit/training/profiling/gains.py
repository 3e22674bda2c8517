"""What would make a step faster, by Amdahl's arithmetic on what was measured; silent about little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from deblurkit.timing.records import UNACCOUNTED
from deblurkit.training.profiling.records import Gain, StepProfile
from deblurkit.units import format_ms, format_share

if TYPE_CHECKING:
    from deblurkit.config.schema import Config

LEAST_SHARE = 0.05  # of the step: what saves less is not worth a word

Rule = Callable[[StepProfile, "Config"], Iterator[Gain]]


def find_gains(profile: StepProfile, config: Config) -> tuple[Gain, ...]:
    """Return the changes that would save more than `LEAST_SHARE` of a step, most first.

    They are not to be added up: each is worked out by itself.
    """
    found = [gain for rule in RULES for gain in rule(profile, config)]
    worth = [gain for gain in found if gain.saved_ms > LEAST_SHARE * profile.step_ms]
    return tuple(sorted(worth, key=lambda gain: -gain.saved_ms))


def speedup(step_ms: float, saved_ms: float) -> float:
    """Return how many times as fast a step is that takes ``saved_ms`` less (Amdahl, AFIPS 1967)."""
    return step_ms / max(step_ms - saved_ms, 1e-9)


def arithmetic(step_ms: float, saved_ms: float) -> str:
    """Return the sum behind `speedup` in words."""
    left, step = format_ms(step_ms - saved_ms), format_ms(step_ms)
    factor = speedup(step_ms, saved_ms)
    return (
        f"{format_ms(saved_ms)} of a {step} step ({format_share(saved_ms / step_ms)}):"
        f" {step} / ({step} - {format_ms(saved_ms)}) = {step} / {left} = {factor:.2f} times as fast"
    )


def _gain(
    profile: StepProfile, identity: str, title: str, saved_ms: float, keys: tuple[str, ...], cost: str
) -> Gain:
    step = profile.step_ms
    saved = min(saved_ms, 0.999 * step)
    return Gain(identity, title, saved, speedup(step, saved), arithmetic(step, saved), keys, cost)


_RECOMPUTED = {
    "feed_forward": ("MODEL.VRT.USE_CHECKPOINT_FFN", "the feed-forward layers"),
    "attention": ("MODEL.VRT.USE_CHECKPOINT_ATTN", "attention"),
}


def _recompute(profile: StepProfile, config: Config) -> Iterator[Gain]:
    found = {kind: ms for kind, ms in profile.recompute_ms.items() if kind in _RECOMPUTED and ms > 0}
    cost = "Needs memory for what is kept instead; profile with it off to see how much."
    for kind, ms in found.items():
        key, what = _RECOMPUTED[kind]
        yield _gain(profile, f"recompute_{kind}", f"Keep {what} instead of recomputing", ms, (key,), cost)
    if len(found) > 1:
        keys = tuple(_RECOMPUTED[kind][0] for kind in found)
        title = "Recompute nothing in the backward pass"
        yield _gain(profile, "recompute", title, sum(found.values()), keys, cost)


def _data(profile: StepProfile, config: Config) -> Iterator[Gain]:
    yield _gain(
        profile,
        "data",
        "Have the clips ready when a step begins",
        profile.phase_ms("data"),
        ("DATALOADER.TRAIN_WORKERS", "DATALOADER.TRAIN_PREFETCH_FACTOR", "DATA.USE_RAM_CACHE"),
        "At most: all of the waiting hidden. Needs CPU cores that are free, and memory.",
    )


def _transfer(profile: StepProfile, config: Config) -> Iterator[Gain]:
    yield _gain(
        profile,
        "transfer",
        "Bring the clips to the device beside the step before",
        profile.phase_ms("transfer"),
        ("DATALOADER.PIN_MEMORY", "DATA.VOXELS_ON"),
        "At most: all of the transfer hidden.",
    )


def _optimizer(profile: StepProfile, config: Config) -> Iterator[Gain]:
    now = config.train.gradient_accumulation_steps
    yield _gain(
        profile,
        "optimizer",
        f"Take an optimiser step every {2 * now} micro-steps instead of {now}",
        profile.phase_ms("optimizer") / 2,
        ("TRAIN.GRADIENT_ACCUMULATION_STEPS", "TRAIN.OPTIM.LR"),
        "Per clip, half of the optimiser's time; the effective batch doubles, so training changes.",
    )


def _spikes(profile: StepProfile, config: Config) -> Iterator[Gain]:
    if not config.model.use_spike or config.model.arch != "vrt":
        return
    saved = sum(row.own_ms.total for row in profile.rows if _is_spike_branch(row.modules))
    yield _gain(
        profile,
        "spike_branch",
        "Make the spike branch narrower",
        saved,
        ("MODEL.CHANNELS_PER_SCALE", "DATA.NUM_VOXEL_BINS", "MODEL.USE_SPIKE"),
        "At most: the branch gone (MODEL.USE_SPIKE false), and what it restores with it.",
    )


def _is_spike_branch(modules: tuple[str, ...]) -> bool:
    heads = {path.partition(".")[0] for path in modules}
    return bool(heads) and heads <= {"spike_encoder", "spike_attention", "fusion"}


def _flow(profile: StepProfile, config: Config) -> Iterator[Gain]:
    saved = sum(row.ms.backward for row in profile.rows if row.modules == ("spynet",))
    yield _gain(
        profile,
        "flow_backward",
        "Hold the optical flow still",
        saved,
        ("MODEL.FREEZE_FLOW_STEPS", "MODEL.PRETRAINED"),
        "Its backward pass, in the steps in which it is frozen; the flow has to be trained before.",
    )


def _longest_stage(profile: StepProfile, config: Config) -> Iterator[Gain]:
    """Yield what half of the blocks of the longest stage would save; blocks of a stage cost alike."""
    if config.model.arch != "vrt":
        return
    stages = [(row, row.modules[0]) for row in profile.rows if len(row.modules) == 1]
    whole = [(row, path) for row, path in stages if path.startswith("stage") and "." not in path]
    if not whole:
        return
    row, path = max(whole, key=lambda stage: stage[0].ms.total)
    entries = range(7, len(config.model.vrt_depths)) if path == "stage8" else [int(path[5:]) - 1]
    depths = [config.model.vrt_depths[entry] for entry in entries]
    removed = sum(depth // 2 for depth in depths)
    if not removed:
        return
    yield _gain(
        profile,
        "longest_stage",
        f"Halve the blocks of {row.name}, the longest stage ({sum(depths)} to {sum(depths) - removed})",
        row.ms.total * removed / sum(depths),
        ("MODEL.VRT_DEPTHS",),
        "At most, as if a stage were nothing but blocks; another network, to be trained and scored anew.",
    )


def _between(profile: StepProfile, config: Config) -> Iterator[Gain]:
    yield _gain(
        profile,
        "unaccounted",
        "Look at what happens between the phases",
        profile.phase_ms(UNACCOUNTED),
        (),
        "No phase covers it; --torch-profiler shows what the process does then.",
    )


RULES: tuple[Rule, ...] = (_recompute, _data, _transfer, _optimizer, _spikes, _flow, _longest_stage, _between)
