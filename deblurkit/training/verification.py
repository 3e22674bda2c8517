"""What a run looks like at its end, point by point: the seeds' list of things to verify after training.

Rules are data: a figure measured from the evidence, and limits. Where the evidence is missing or thin the
verdict is ``unknown``, never ``pass``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from deblurkit.training import run_evidence
from deblurkit.training.checkpoint import load_checkpoint
from deblurkit.training.promise import PEAK_TOLERANCE
from deblurkit.training.run_evidence import Measured, RunEvidence, Unknown
from deblurkit.units import plural

Verdict = Literal["pass", "warn", "fail", "unknown"]
VERDICTS: tuple[Verdict, ...] = ("pass", "warn", "fail", "unknown")
FORMAT = "deblurkit-verification/1"


@dataclass(frozen=True)
class Check:
    """The verdict on one point.

    Attributes:
        id: stable name of the rule.
        verdict: ``unknown`` where the evidence does not carry one.
        figure: what was measured, in words; why nothing was, where it is unknown.
        value: the figure as a number in the rule's unit, None where there is none.
        threshold: the limits in words.
        advice: what to do where it is no pass; else empty.
    """

    id: str
    verdict: Verdict
    figure: str
    value: float | None
    threshold: str
    advice: str

    def as_line(self) -> str:
        """Return verdict, figure, limits and advice on one line."""
        advice = f": {self.advice}" if self.advice else ""
        return f"{self.mark} {self.id}: {self.figure} ({self.threshold}){advice}"

    @property
    def mark(self) -> str:
        """The verdict so that it is seen without colours; ASCII, for any terminal and log."""
        return self.verdict.upper() if self.verdict in ("warn", "fail") else self.verdict


@dataclass(frozen=True)
class Rule:
    """One point of the list.

    Attributes:
        id: stable name.
        measure: the figure, or why there is none.
        better: which way is good.
        passes: the worst value that passes.
        warns: the worst value that is no failure; None: never a failure.
        unit: of value and limits, as it is written behind them.
        advice: what to do where it does not pass.
    """

    id: str
    measure: Callable[[RunEvidence], Measured | Unknown]
    better: Literal["higher", "lower"]
    passes: float
    warns: float | None
    unit: str
    advice: str

    def check(self, evidence: RunEvidence) -> Check:
        """Return the verdict."""
        found = self.measure(evidence)
        if isinstance(found, Unknown):
            return Check(self.id, "unknown", str(found), None, self.threshold, "")
        verdict = self._verdict(found.value)
        value = found.value if math.isfinite(found.value) else None
        advice = "" if verdict == "pass" else self.advice
        return Check(self.id, verdict, found.figure, value, self.threshold, advice)

    @property
    def threshold(self) -> str:
        """The limits in words."""
        good, bad = (">=", "<") if self.better == "higher" else ("<=", ">")
        fails = "" if self.warns is None else f"; fails {bad} {self.warns:g}{self.unit}"
        return f"{good} {self.passes:g}{self.unit}{fails}"

    def _verdict(self, value: float) -> Verdict:
        if math.isnan(value):
            return "fail"
        sign = 1 if self.better == "higher" else -1
        if sign * value >= sign * self.passes:
            return "pass"
        return "warn" if self.warns is None or sign * value >= sign * self.warns else "fail"


def verify(evidence: RunEvidence) -> list[Check]:
    """Return a check for every rule, in the order of the seeds' list: function, speed, resources.

    Where `recommend-config` has promised something, whether it is kept comes after them.
    """
    rules = RULES if evidence.promise is None else (*RULES, *PROMISE_RULES)
    return [rule.check(evidence) for rule in rules]


def as_lines(checks: Sequence[Check]) -> Iterator[str]:
    """Yield the counts of the verdicts, then a line for each check, for a log."""
    count = counts(checks)
    yield (
        f"verification: {count['pass']} passed, {plural(count['warn'], 'warning')}, {count['fail']} failed,"
        f" {count['unknown']} unknown"
    )
    yield from (check.as_line() for check in checks)


def as_document(checks: Sequence[Check]) -> dict[str, Any]:
    """Return ``format``, ``counts`` by verdict, and ``checks``, a row each, as JSON can hold them."""
    return {"format": FORMAT, "counts": counts(checks), "checks": [asdict(check) for check in checks]}


def counts(checks: Sequence[Check]) -> dict[Verdict, int]:
    """Return the number of checks of each verdict."""
    return {verdict: sum(check.verdict == verdict for check in checks) for verdict in VERDICTS}


def reload_differences(path: Path, in_memory: Mapping[str, Any]) -> list[str]:
    """Return what of a checkpoint, read back, is not as it is in memory: dotted names, none where all is.

    Args:
        path: the checkpoint, of the step that memory stands at.
        in_memory: parts of it by their names, such as ``model`` and ``optimizer``, each a ``state_dict()``.

    Raises:
        CheckpointError: if the file cannot be read.
    """
    saved = load_checkpoint(path)
    return [name for part, value in in_memory.items() for name in _differing(saved.get(part), value, part)]


def _differing(saved: Any, now: Any, name: str) -> Iterator[str]:
    if isinstance(now, Mapping) and isinstance(saved, Mapping):
        for key in [*now, *(key for key in saved if key not in now)]:
            yield from _differing(saved.get(key), now.get(key), f"{name}.{key}")
    elif isinstance(now, list | tuple) and isinstance(saved, list | tuple) and len(now) == len(saved):
        for index, (before, after) in enumerate(zip(saved, now, strict=True)):
            yield from _differing(before, after, f"{name}.{index}")
    elif not _is_same(saved, now):
        yield name


def _is_same(saved: Any, now: Any) -> bool:
    if not isinstance(now, Tensor) or not isinstance(saved, Tensor):
        return type(saved) is type(now) and bool(saved == now)
    if saved.shape != now.shape or saved.dtype != now.dtype:
        return False
    there = now.detach().cpu()
    return bool(((saved == there) | (saved.isnan() & there.isnan())).all())


_FASTER_DATA = "DATALOADER.TOTAL_WORKERS or TRAIN_PREFETCH_FACTOR up, DATA.USE_RAM_CACHE, or a packed dataset"

# The seeds' limits: GPU 90 and 50 %, data 10 ms, cache 75 and 60 %, CPU 85 %, host memory 90 %, 1 sample/s.
# TraceML's: data 10 and 20 % of a step. The others are ours.
RULES = (
    Rule(
        id="loss_trend",
        measure=run_evidence.loss_trend,
        better="lower",
        passes=-2,
        warns=10,
        unit=" %",
        advice="the loss no longer falls, or rises: the run has done its work, or TRAIN.OPTIM.LR is too high",
    ),
    Rule(
        id="psnr",
        measure=run_evidence.psnr,
        better="higher",
        passes=0.01,
        warns=-0.1,
        unit=" dB",
        advice="the network does not improve its input: train longer, or look at the data with check-data",
    ),
    Rule(
        id="ssim",
        measure=run_evidence.ssim,
        better="higher",
        passes=0.0001,
        warns=-0.01,
        unit="",
        advice="the network does not improve its input: train longer, or look at the data with check-data",
    ),
    Rule(
        id="finite",
        measure=run_evidence.finite,
        better="lower",
        passes=0,
        warns=5,
        unit=" %",
        advice="the log names the modules: lower TRAIN.OPTIM.LR, or set TRAIN.AMP_DTYPE=bf16",
    ),
    Rule(
        id="checkpoint_reload",
        measure=run_evidence.reload,
        better="lower",
        passes=0,
        warns=0,
        unit="",
        advice="do not rely on this checkpoint: save again to another disk, and report this",
    ),
    Rule(
        id="throughput",
        measure=run_evidence.throughput,
        better="higher",
        passes=1,
        warns=None,
        unit=" samples/s",
        advice="see where a step's time goes: deblurkit analyze-log on the run's folder",
    ),
    Rule(
        id="slowdown",
        measure=run_evidence.slowdown,
        better="higher",
        passes=-8,
        warns=-25,
        unit=" %",
        advice="something came in between: other users of the machine, a slower disk, a hot GPU",
    ),
    Rule(
        id="gpu_busy",
        measure=run_evidence.gpu_busy,
        better="higher",
        passes=90,
        warns=50,
        unit=" %",
        advice="the GPU waits: for data (see data_share), or for a host that hands it small kernels"
        " (TRAIN.COMPILE_MODEL, a larger TRAIN.BATCH_SIZE)",
    ),
    Rule(
        id="data_wait",
        measure=run_evidence.data_wait,
        better="lower",
        passes=10,
        warns=None,
        unit=" ms",
        advice=_FASTER_DATA,
    ),
    Rule(
        id="data_share",
        measure=run_evidence.data_share,
        better="lower",
        passes=10,
        warns=20,
        unit=" %",
        advice=_FASTER_DATA,
    ),
    Rule(
        id="cache_hits",
        measure=run_evidence.cache_hits,
        better="higher",
        passes=75,
        warns=60,
        unit=" %",
        advice="raise DATA.CACHE_SIZE_GB, or set DATALOADER.GROUP_BY_SEQUENCE=true",
    ),
    Rule(
        id="gpu_memory",
        measure=run_evidence.gpu_memory,
        better="lower",
        passes=95,
        warns=None,
        unit=" %",
        advice="little is left for larger frames or other processes: see TRAIN.BATCH_SIZE and MODEL.VRT",
    ),
    Rule(
        id="memory_growth",
        measure=run_evidence.memory_growth,
        better="lower",
        passes=5,
        warns=20,
        unit=" %",
        advice="memory grows with the steps: fewer DATALOADER.TOTAL_WORKERS; report it if that does not help",
    ),
    Rule(
        id="host_memory",
        measure=run_evidence.host_memory,
        better="lower",
        passes=90,
        warns=97,
        unit=" %",
        advice="lower DATA.CACHE_SIZE_GB, DATALOADER.TOTAL_WORKERS or TRAIN_PREFETCH_FACTOR",
    ),
    Rule(
        id="cpu",
        measure=run_evidence.cpu,
        better="lower",
        passes=85,
        warns=97,
        unit=" %",
        advice="fewer DATALOADER.TOTAL_WORKERS, or voxels on the GPU (DATA.VOXELS_ON=device)",
    ),
    Rule(
        id="disk_room",
        measure=run_evidence.disk_room,
        better="higher",
        passes=10,
        warns=2,
        unit=" checkpoints",
        advice="free some space, or lower LOG.KEEP_CHECKPOINTS",
    ),
    Rule(
        id="disk_wait",
        measure=run_evidence.disk_wait,
        better="lower",
        passes=10,
        warns=25,
        unit=" %",
        advice="processors wait for a disk: a packed dataset on a local one, or DATA.USE_RAM_CACHE",
    ),
)

_OTHER_THAN_PROMISED = (
    "another machine, or others on it, or settings changed since: `deblurkit recommend-config` measures anew"
)
PROMISE_RULES = (
    Rule(
        id="promised_rate",
        measure=run_evidence.promised_rate,
        better="higher",
        passes=100,
        warns=None,
        unit=" % of the lowest",
        advice=_OTHER_THAN_PROMISED,
    ),
    Rule(
        id="promised_memory",
        measure=run_evidence.promised_memory,
        better="lower",
        passes=100 * (1 + PEAK_TOLERANCE),
        warns=None,
        unit=" % of it",
        advice=_OTHER_THAN_PROMISED,
    ),
)
