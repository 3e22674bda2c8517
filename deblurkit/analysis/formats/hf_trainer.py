"""Reader of what the Trainer of Hugging Face prints: dicts of numbers, and progress bars where there are any.

``{'loss': 2.31, 'grad_norm': 1.2, 'learning_rate': 5e-05, 'epoch': 0.03}`` every few steps,
``{'eval_loss': …, 'eval_runtime': …}`` after an evaluation, ``{'train_runtime': …,
'train_steps_per_second': …}`` at the end.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping

from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.formats.progress_bars import BarSteps, bars_in, training_bar
from deblurkit.analysis.formats.scalar_names import NUMBER, scalar_name
from deblurkit.analysis.tables import RunLog

_LOOKED_AT = 20_000  # lines, to find the training's bar
_KEYS = ("loss", "eval_loss", "train_runtime")
_DICT = re.compile(rb"\{(['\"](?:loss|eval_\w{1,40}|train_runtime)['\"]: [^{}]{1,4000})\}")
_HALF = re.compile(rb"\{['\"](?:loss|eval_loss|train_runtime)['\"]: ?[^{}]*$")
_PAIR = re.compile(rb"['\"]([\w/.-]{1,80})['\"]: ['\"]?(" + NUMBER + rb")")


def looks_like_hf_trainer(head: bytes) -> bool:
    """Return whether a dict of the Trainer's is in the first bytes of a file."""
    return any(key.encode() in head for key in _KEYS) and _DICT.search(head) is not None


def read_hf_trainer(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the steps, losses and evaluations of a Trainer's log.

    Steps come from its progress bar, or from ``step`` in the dicts; without either only their mean length is
    known, from the summary at the end.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if nothing of the format is in it.
    """
    log = LineLog(source, "hf-trainer", expected="{'loss': 2.31, 'learning_rate': 5e-05, 'epoch': 0.03}")
    later = iter(lines)
    first = list(itertools.islice(later, _LOOKED_AT))
    steps = BarSteps(log, training_bar(first))
    for line in itertools.chain(first, later):
        end = 0
        if b"<" in line:
            for bar in bars_in(line):
                steps.take(bar, line)
                end = bar.end
        rest = line[end:] if end else line
        if not take_dict(log, rest):
            log.other(rest)
    return log.finish()


def take_dict(log: LineLog, line: bytes) -> bool:
    """Take in a line of the Trainer's numbers; return False for any other line."""
    if b"{" not in line or (match := _DICT.search(line)) is None:
        is_half = b"{" in line and _HALF.search(line) is not None
        if is_half:
            log.damaged()
        return is_half
    numbers = {key.decode(): float(value) for key, value in _PAIR.findall(match[1])}
    if "train_runtime" in numbers:
        _take_summary(log, line, numbers)
    elif "loss" in numbers:
        _take_losses(log, line, numbers)
    else:
        _take_evaluation(log, line, numbers)
    return True


def _take_losses(log: LineLog, line: bytes, numbers: Mapping[str, float]) -> None:
    step = numbers.get("step", math.nan)
    named = [(scalar_name(key.encode()), value) for key, value in numbers.items()]
    scalars = {name: value for name, value in named if name is not None}
    if step >= 0 and math.isfinite(step) and log.tick_s is None:
        epoch = numbers.get("epoch", math.nan) // 1
        told = (tuple(scalars), tuple(scalars.values()))
        log.step(int(step), line=line, unix_s=log.stamps.find(line), epoch=epoch, numbers=told)
        return
    for name, value in scalars.items():
        log.scalar(name, value, line=line)
    if not math.isfinite(numbers["loss"]):
        log.event("nonfinite", line)


def _take_evaluation(log: LineLog, line: bytes, numbers: Mapping[str, float]) -> None:
    log.event("validation", line, seconds=numbers.get("eval_runtime"))
    for key, name in (("eval_loss", "loss/validation"), ("eval_psnr", "psnr_db"), ("eval_ssim", "ssim")):
        if key in numbers:
            log.scalar(name, numbers[key], line=line)


def _take_summary(log: LineLog, line: bytes, numbers: Mapping[str, float]) -> None:
    runtime, rate = numbers["train_runtime"], numbers.get("train_steps_per_second", 0.0)
    samples = numbers.get("train_samples_per_second", 0.0)
    if rate > 0 and samples > 0:
        log.samples_per_step = round(samples / rate) or None
    done = round(runtime * rate)
    if not len(log) and done > 0:
        log.notes.append(
            "Its steps are not numbered: only their mean is known, evaluations and saving within."
        )
        log.mark(0, elapsed_s=0.0)
        log.step(done, line=line, elapsed_s=runtime, seconds=1 / rate)


FORMAT = LogFormat("Hugging Face Trainer log", looks_like_hf_trainer, read_hf_trainer)
