"""The process of a trial: ``python -m deblurkit.tuning.recommend.trial_child``, a request in, an answer out.

It may run out of memory, hang or be killed: whoever has started it goes on (`trials.run_trial`).
"""

from __future__ import annotations

import itertools
import math
import os
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace

import torch

from deblurkit.config.changed import changed
from deblurkit.config.schema import Config
from deblurkit.data.batch_bytes import largest_clip
from deblurkit.errors import DeblurkitError
from deblurkit.timing.clock import Clock, Mark, clock_for
from deblurkit.training.interrupt import stop_with_launcher
from deblurkit.training.manifest import first_line
from deblurkit.training.out_of_memory import forget, is_out_of_memory
from deblurkit.training.profiling.workplace import Workplace, workplace
from deblurkit.training.step import StepRecord
from deblurkit.training.support import check_supported
from deblurkit.tuning.recommend.records import Memory
from deblurkit.tuning.recommend.trial_request import MOST_TIMES, TrialAnswer, TrialRequest, request_in
from deblurkit.tuning.step_memory import measure_step


def main() -> None:
    """Answer the request on standard input by a line on standard output, which nothing else writes to."""
    stop_with_launcher()
    answers = os.dup(1)
    os.dup2(2, 1)  # libraries that print something do not get in the way of the answer
    answer = attempt(request_in(sys.stdin.read()))
    with open(answers, "w", encoding="utf-8") as out:
        out.write(answer.as_json() + "\n")


def attempt(request: TrialRequest) -> TrialAnswer:
    """Return what came of the steps that were asked for; out of memory is an answer too."""
    try:
        config = at_its_largest(Config.model_validate(request.config))
        return _attempted(config, request)
    except DeblurkitError as error:
        return TrialAnswer("failed", first_line(error))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return TrialAnswer("out of memory", first_line(error), ran_out=_memory_of(error))


def _memory_of(error: Exception) -> Memory:
    """Return which memory has run out, where `is_out_of_memory` says that one has."""
    if isinstance(error, torch.OutOfMemoryError):
        return "device"
    is_of_cpu = isinstance(error, MemoryError) or "CPUAllocator" in str(error)
    return "host" if is_of_cpu or not torch.cuda.is_available() else "device"


def at_its_largest(config: Config) -> Config:
    """Return the configuration without schedules of clips: all are as large as the largest.

    What memory is predicted for is what is timed; most epochs are of that size.
    """
    if len(config.data.crops_by_epoch) == len(config.data.clips_by_epoch) == 1:
        return config
    length, side = largest_clip(config.data)
    settings = {
        "DATA.TRAIN_CROP_SIZE": side,
        "DATA.TRAIN_CROP_EPOCHS": 0,
        "DATA.TRAIN_CLIP_LEN": length,
        "DATA.TRAIN_CLIP_EPOCHS": 0,
    }
    largest = changed(config, settings)
    assert largest is not None  # no schedule that is valid has a part that is not
    return largest


def _attempted(config: Config, request: TrialRequest) -> TrialAnswer:
    for text in check_supported(config):
        _say(text)
    answer = _timed_alone(config, request)
    if request.follow_memory and answer.peak_bytes is None and not config.train.compile_model:
        answer = _followed(config, answer)
    return answer


def _timed_alone(config: Config, request: TrialRequest) -> TrialAnswer:
    """Return the times; nothing of the place is left when this returns."""
    most = request.warmup + MOST_TIMES * request.steps
    with workplace(config, steps=most, use_data=request.use_data, message=_say, warn=_say) as place:
        return _timed(place, request)


def _timed(place: Workplace, request: TrialRequest) -> TrialAnswer:
    device, config = place.device, place.config
    if device.type == "cuda":
        _bound(device, request.device_bytes)
    if config.train.compile_model:
        place.model.compile(mode=config.train.compile_mode, dynamic=False)
    place.done_steps = config.model.freeze_flow_steps  # what holds for most of a run, not for its beginning
    clock = clock_for(device.type, device)
    for _ in place.take_steps(request.warmup, clock):
        pass
    clock.wait()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds, phases = _stretches(place, clock, request)
    on_gpu = device.type == "cuda"
    return TrialAnswer(
        outcome="measured",
        step_seconds=tuple(seconds),
        phases={name: statistics.median(times) for name, times in phases.items()},
        peak_bytes=torch.cuda.max_memory_allocated(device) if on_gpu else None,
        reserved_bytes=torch.cuda.max_memory_reserved(device) if on_gpu else None,
    )


def _bound(device: torch.device, most: int | None) -> None:
    """Have PyTorch run out of memory where a smaller GPU would."""
    if most is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, most / total), device)


def _stretches(
    place: Workplace, clock: Clock, request: TrialRequest
) -> tuple[list[float], dict[str, list[float]]]:
    """Return the seconds of each step that is to be timed, and of each phase in it."""
    seconds: list[float] = []
    phases: dict[str, list[float]] = {}
    count = request.steps
    while count:
        for taken, record in _steps(place, clock, count):
            seconds.append(taken)
            for name, spent in _phases(record, clock).items():
                phases.setdefault(name, []).append(spent)
        count = _still_wanted(seconds, request)
    return seconds, phases


def _steps(place: Workplace, clock: Clock, count: int) -> Iterator[tuple[float, StepRecord]]:
    """Yield some steps and their seconds, once the device has done them all."""
    marks: list[Mark] = [clock.mark()]
    records = []
    for record in place.take_steps(count, clock):
        marks.append(clock.mark())
        records.append(record)
    clock.wait()
    for (start, end), record in zip(itertools.pairwise(marks), records, strict=True):
        yield _elapsed(clock, start, end), record


def _phases(record: StepRecord, clock: Clock) -> dict[str, float]:
    """Return the seconds of a step's phases, its micro-steps together."""
    spent: dict[str, float] = {}
    for span in record.spans:
        spent[span.name] = spent.get(span.name, 0.0) + _elapsed(clock, span.start, span.end)
    return spent


def _elapsed(clock: Clock, start: Mark, end: Mark) -> float:
    seconds = clock.elapsed(start, end)
    assert seconds is not None  # the clock has waited
    return seconds


def _still_wanted(seconds: list[float], request: TrialRequest) -> int:
    """Return how many steps are missing until those that were timed have taken long enough together."""
    missing = request.least_seconds - sum(seconds)
    room = MOST_TIMES * request.steps - len(seconds)
    if missing <= 0 or room <= 0:
        return 0
    return min(room, math.ceil(missing / statistics.fmean(seconds)))


def _followed(config: Config, answer: TrialAnswer) -> TrialAnswer:
    """Return the answer with the peak of the tensors, if there is memory for that step once more."""
    try:
        return replace(answer, peak_bytes=measure_step(config).step_peak_bytes)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        forget(error)
        return answer


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
