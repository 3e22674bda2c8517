"""What a run has seen of itself, and the figures that follow from it, or why there is none."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from deblurkit.training.promise import PromiseOutcome
from deblurkit.training.validate import Score
from deblurkit.training.vitals import VitalSigns
from deblurkit.units import MIB, format_bytes, format_ms, format_rate, plural

_FEWEST = 8  # values from which a course can be told: two in each quarter
_FEWEST_EPOCHS = 5  # the first pass hits nothing, so that four can hit 75 % at best
_GROWTH_FLOOR = 64 * MIB  # growth below it is the interpreter's own


@dataclass
class RunEvidence:
    """What a run has seen of itself; empty or None is not known.

    Attributes:
        device_type: ``cpu`` or ``cuda``.
        steps: optimiser steps that this part of the run has taken.
        epochs: passes over the data that it has made.
        losses: (step, loss) at each report.
        steady_losses: likewise, without the terms that are not in every step; empty where all are.
        clip_sizes: frames and side [px] of the training clips at each report; empty where they stay the same.
        validations: (step, score) of each validation.
        protocol: that they were scored by.
        skipped_steps: by the non-finite guard; None where it is off.
        weights_are_finite: at the end.
        reload_differences: what of the last checkpoint is not as it is in memory; empty where all is.
        reload_error: why the last checkpoint could not be read back, where it could not.
        samples_per_second: since the report before, at each report.
        data_ms: a step's wait for data, at each report.
        step_ms: a step's length, at each report.
        cache_hit_rate: share of reads, 0..1, over the run.
        gpu_peak_bytes: most that PyTorch had reserved.
        gpu_total_bytes: memory of the GPU.
        checkpoint_bytes: size of the last checkpoint.
        vitals: the machine at each report.
        promise: what has come of what `recommend-config` has promised; None where there is no promise.
    """

    device_type: str = "cpu"
    steps: int = 0
    epochs: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    steady_losses: list[float] = field(default_factory=list)
    clip_sizes: list[tuple[int, int]] = field(default_factory=list)
    protocol: str = "vrt"
    validations: list[tuple[int, Score]] = field(default_factory=list)
    skipped_steps: int | None = None
    weights_are_finite: bool | None = None
    reload_differences: list[str] | None = None
    reload_error: str | None = None
    samples_per_second: list[float] = field(default_factory=list)
    data_ms: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    cache_hit_rate: float | None = None
    gpu_peak_bytes: int | None = None
    gpu_total_bytes: int | None = None
    checkpoint_bytes: int | None = None
    vitals: list[VitalSigns] = field(default_factory=list)
    promise: PromiseOutcome | None = None


@dataclass(frozen=True)
class Measured:
    """A figure: as a number to compare, and as a person reads it."""

    value: float
    figure: str


class Unknown(str):
    """Why there is no figure."""


def loss_trend(evidence: RunEvidence) -> Measured | Unknown:
    """Return how far the loss has come from the first quarter of the reports to the last [%].

    Of terms that every step has, and of clips of one size: else another sum would look like a rise or fall.
    """
    course = evidence.steady_losses or [loss for _, loss in evidence.losses]
    losses = [loss for loss in _of_last_size(evidence, course) if math.isfinite(loss)]
    if len(losses) < _FEWEST:
        return Unknown(f"{plural(len(losses), 'loss')} reported{_since(evidence)}, {_FEWEST} needed")
    first, *_, last = _quarters(losses)
    change = 100 * (last / first - 1) if first else 0.0
    return Measured(change, f"{first:.5f} -> {last:.5f} ({change:+.1f} %)")


def psnr(evidence: RunEvidence) -> Measured | Unknown:
    """Return the gain in PSNR of the last validation [dB]."""
    if not evidence.validations:
        return Unknown("no validation")
    _, score = evidence.validations[-1]
    figure = f"{score.psnr_db:.2f} dB, {score.gain_db:+.2f} dB against the blurry input"
    return Measured(score.gain_db, f"{figure} ({evidence.protocol})")


def ssim(evidence: RunEvidence) -> Measured | Unknown:
    """Return the gain in SSIM of the last validation."""
    if not evidence.validations:
        return Unknown("no validation")
    _, score = evidence.validations[-1]
    gain = score.ssim - score.ssim_blurry
    return Measured(gain, f"{score.ssim:.4f}, {gain:+.4f} against the blurry input ({evidence.protocol})")


def finite(evidence: RunEvidence) -> Measured | Unknown:
    """Return the share of steps that were skipped [%]; infinite where the weights are no numbers."""
    if evidence.weights_are_finite is False:
        return Measured(math.inf, "the weights are NaN or infinite")
    if evidence.losses and not math.isfinite(evidence.losses[-1][1]) and not evidence.skipped_steps:
        return Measured(math.inf, f"the loss is {evidence.losses[-1][1]}")
    if evidence.weights_are_finite is None or evidence.skipped_steps is None or not evidence.steps:
        return Unknown("TRAIN.NONFINITE_GUARD is off" if evidence.steps else "no step")
    share = 100 * evidence.skipped_steps / evidence.steps
    return Measured(share, f"{evidence.skipped_steps:,} of {plural(evidence.steps, 'step')} skipped")


def reload(evidence: RunEvidence) -> Measured | Unknown:
    """Return how many values of the last checkpoint are other than in memory."""
    differing = evidence.reload_differences
    if evidence.reload_error is not None:
        return Measured(math.inf, f"cannot be read back: {evidence.reload_error}")
    if differing is None:
        return Unknown("no checkpoint was read back")
    if not differing:
        return Measured(0, "equal to memory")
    return Measured(
        len(differing), f"{plural(len(differing), 'value')} other than in memory ({differing[0]})"
    )


def throughput(evidence: RunEvidence) -> Measured | Unknown:
    """Return the median of the reported samples a second."""
    rates = evidence.samples_per_second
    if not rates:
        return Unknown("no report")
    middle = statistics.median(rates)
    return Measured(middle, f"{middle:.2f} samples/s")


def slowdown(evidence: RunEvidence) -> Measured | Unknown:
    """Return how the rate of the last quarter compares with that of the first [%], of clips of one size."""
    rates = _of_last_size(evidence, evidence.samples_per_second)[1:]  # the first steps warm up
    if len(rates) < _FEWEST:
        which = f"{plural(len(rates), 'report')} after the first{_since(evidence)}"
        return Unknown(f"{which}, {_FEWEST} needed")
    first, *_, last = _quarters(rates)
    change = 100 * (last / first - 1) if first else 0.0
    return Measured(change, f"{first:.2f} -> {last:.2f} samples/s ({change:+.1f} %)")


def gpu_busy(evidence: RunEvidence) -> Measured | Unknown:
    """Return the mean of the driver's figures [%]."""
    return _mean_percent([sign.gpu_busy_percent for sign in evidence.vitals], _no_gpu(evidence))


def data_wait(evidence: RunEvidence) -> Measured | Unknown:
    """Return the mean wait of a step for data [ms]."""
    if not evidence.data_ms:
        return Unknown("steps are not timed (LOG.ENABLE_TIMING_LOG)")
    mean = statistics.fmean(evidence.data_ms)
    return Measured(mean, f"{format_ms(mean)} a step")


def data_share(evidence: RunEvidence) -> Measured | Unknown:
    """Return the share of a step that is spent waiting for data [%]."""
    if not evidence.data_ms or not sum(evidence.step_ms):
        return Unknown("steps are not timed (LOG.ENABLE_TIMING_LOG)")
    share = 100 * statistics.fmean(evidence.data_ms) / statistics.fmean(evidence.step_ms)
    return Measured(share, f"{share:.1f} % of {format_ms(statistics.fmean(evidence.step_ms))}")


def cache_hits(evidence: RunEvidence) -> Measured | Unknown:
    """Return the hit rate of the cache [%]."""
    if evidence.cache_hit_rate is None:
        return Unknown("no cache (DATA.USE_RAM_CACHE)")
    rate = 100 * evidence.cache_hit_rate
    if evidence.epochs < _FEWEST_EPOCHS:
        return Unknown(f"{rate:.1f} % in {evidence.epochs:.1f} epochs, {_FEWEST_EPOCHS} needed")
    return Measured(rate, f"{rate:.1f} %")


def gpu_memory(evidence: RunEvidence) -> Measured | Unknown:
    """Return the share of the GPU's memory that PyTorch has held at most [%]."""
    peak, total = evidence.gpu_peak_bytes, evidence.gpu_total_bytes
    if peak is None or not total:
        return Unknown(_no_gpu(evidence))
    share = 100 * peak / total
    return Measured(share, f"{format_bytes(peak)} of {format_bytes(total)} ({share:.1f} %)")


def memory_growth(evidence: RunEvidence) -> Measured | Unknown:
    """Return how the memory has grown from the second quarter of the run to the last [%]."""
    sizes = _of_last_size(evidence, [float(sign.rss_bytes) for sign in evidence.vitals])
    if len(sizes) < _FEWEST:
        return Unknown(f"{plural(len(sizes), 'look')} at the memory{_since(evidence)}, {_FEWEST} needed")
    _, early, _, late = _quarters(sizes)  # the first quarter fills caches and queues
    growth = 100 * (late / early - 1) if late - early > _GROWTH_FLOOR else 0.0
    return Measured(
        growth, f"{format_bytes(early)} -> {format_bytes(late)} ({100 * (late / early - 1):+.1f} %)"
    )


def host_memory(evidence: RunEvidence) -> Measured | Unknown:
    """Return the most of the machine's memory that was in use [%]."""
    if not evidence.vitals:
        return Unknown("the machine was not looked at")
    most = max(sign.host_used_percent for sign in evidence.vitals)
    return Measured(most, f"{most:.1f} % of the machine's at most, all users together")


def cpu(evidence: RunEvidence) -> Measured | Unknown:
    """Return the mean load of the processors, where the network is elsewhere [%]."""
    if evidence.device_type == "cpu":
        return Unknown("the network itself computes on the CPU")
    return _mean_percent([sign.cpu_percent for sign in evidence.vitals], "the machine was not looked at")


def disk_room(evidence: RunEvidence) -> Measured | Unknown:
    """Return how many checkpoints the disk has room for."""
    if not evidence.vitals or not evidence.checkpoint_bytes:
        return Unknown("no checkpoint was written")
    free = evidence.vitals[-1].disk_free_bytes
    fit = free / evidence.checkpoint_bytes
    return Measured(
        fit, f"{format_bytes(free)} free, a checkpoint takes {format_bytes(evidence.checkpoint_bytes)}"
    )


def disk_wait(evidence: RunEvidence) -> Measured | Unknown:
    """Return the mean share of processor time that waited for a disk [%]."""
    found = _mean_percent([sign.io_wait_percent for sign in evidence.vitals], "not known on this system")
    if isinstance(found, Unknown):
        return found
    last = evidence.vitals[-1]
    if last.written_bytes is None or last.seconds <= 0:
        return found
    return Measured(
        found.value, f"{found.figure}, {format_bytes(last.written_bytes / last.seconds)}/s written"
    )


def promised_rate(evidence: RunEvidence) -> Measured | Unknown:
    """Return the rate of the first steady steps, as a share of the lowest that was promised [%]."""
    found = evidence.promise
    if found is None or found.promised.low is None or found.promised.high is None:
        return Unknown("no rate was promised")
    rate, low, high = found.samples_per_second, found.promised.low, found.promised.high
    if rate is None:
        return Unknown(found.why_unknown)
    figure = f"{format_rate(rate)} samples/s, {format_rate(low)} to {format_rate(high)} promised"
    return Measured(100 * rate / low, figure)


def promised_memory(evidence: RunEvidence) -> Measured | Unknown:
    """Return what the GPU has held at most, as a share of what was promised [%]."""
    found = evidence.promise
    if found is None or found.promised.peak_bytes is None:
        return Unknown("no memory was promised")
    if found.peak_share is None or found.peak_bytes is None:
        return Unknown(_no_gpu(evidence))
    figure = f"{format_bytes(found.peak_bytes)}, {format_bytes(found.promised.peak_bytes)} promised"
    return Measured(100 * found.peak_share, figure)


def _of_last_size(evidence: RunEvidence, values: Sequence[float]) -> list[float]:
    """Return the values of the reports since which the clips have the size that they had last."""
    return list(values[_last_change(evidence.clip_sizes) :])


def _since(evidence: RunEvidence) -> str:
    changed = _last_change(evidence.clip_sizes)
    return f" since the clips grew at step {evidence.losses[changed][0]}" if changed else ""


def _last_change(sizes: Sequence[tuple[int, int]]) -> int:
    """Return the number of the first report from which all clips are of one size."""
    return next((number for number in range(len(sizes) - 1, 0, -1) if sizes[number - 1] != sizes[-1]), 0)


def _mean_percent(values: Sequence[float | None], reason: str) -> Measured | Unknown:
    known = [value for value in values if value is not None]
    if not known:
        return Unknown(reason)
    mean = statistics.fmean(known)
    return Measured(mean, f"{mean:.1f} % in the mean of {plural(len(known), 'look')}")


def _no_gpu(evidence: RunEvidence) -> str:
    return "no GPU in this run" if evidence.device_type == "cpu" else "the driver does not say"


def _quarters(values: Sequence[float]) -> list[float]:
    """Return the median of each quarter of a course."""
    ends = [len(values) * part // 4 for part in range(5)]
    return [statistics.median(values[a:b]) for a, b in zip(ends, ends[1:], strict=False)]
