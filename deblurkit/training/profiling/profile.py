"""``profile_step``: a few training steps taken, timed, counted and weighed, each in steps of their own."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deblurkit.config.schema import Config
from deblurkit.errors import DeblurkitError, UsageError
from deblurkit.memory.tensors import MemoryClock
from deblurkit.timing.clock import Clock, Mark, clock_for
from deblurkit.timing.module_rows import Language
from deblurkit.timing.module_times import ModuleTimes, is_in_backward
from deblurkit.timing.peaks import peak_of
from deblurkit.training.parts import count_parameters
from deblurkit.training.profiling.counters import WorkClock
from deblurkit.training.profiling.gains import find_gains
from deblurkit.training.profiling.partition import Interval, Names, Piece, pieces
from deblurkit.training.profiling.records import Shape, StepProfile, Subject
from deblurkit.training.profiling.summary import Measured, summarise
from deblurkit.training.profiling.torch_trace import trace_step
from deblurkit.training.profiling.watched import Rows, find_rows
from deblurkit.training.profiling.workplace import Workplace, workplace
from deblurkit.training.step import StepRecord
from deblurkit.training.support import check_supported, without_effect

Tell = Callable[[str], None]
Progress = Callable[[int, int], None]

_COMPILED = (
    "TRAIN.COMPILE_MODEL: the compiled network is one piece; phases are timed, its modules are not, and"
    " operations are counted as if it were not compiled"
)
_COMPILED_MEMORY = "memory is not followed, as on a CPU a compiled network's tensors cannot be seen"
_RANDOM = (
    "random clips that are on the device already: data and transfer are next to nothing; --data measures them"
)
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


@dataclass(frozen=True)
class Shapes:
    """Of the tensors that the first call of each row takes and gives, and how often it is called."""

    inputs: dict[str, tuple[Shape, ...]]
    outputs: dict[str, tuple[Shape, ...]]
    calls: dict[str, int]


def profile_step(
    config: Config,
    *,
    steps: int = 5,
    warmup: int = 2,
    depth: int = 2,
    pattern: str | None = None,
    language: Language = "en",
    use_data: bool = False,
    torch_trace: Path | None = None,
    message: Tell = lambda text: None,
    warn: Tell = lambda text: None,
    progress: Progress = lambda done, total: None,
) -> StepProfile:
    """Return where the time, the operations and the memory of a training step of ``config`` go.

    Args:
        config: the whole configuration; nothing is written to LOG.SAVE_DIR.
        steps: steps that are timed.
        warmup: steps before them. Three more find the modules, count the operations and follow the memory.
        depth: levels of the modules that get rows, as `module_rows` has it.
        pattern: of the modules that get rows, instead.
        language: of the rows' names.
        use_data: take clips by the run's loader; otherwise they are random and of the configured size.
        torch_trace: file that PyTorch's own profiler writes another step to.
        message: told what a run would be told.
        warn: told of settings that change nothing.
        progress: told the steps taken and the number of all.

    Raises:
        DeblurkitError: for anything that the user can mend, a step that does not fit into memory included.
    """
    for text in check_supported(config):
        warn(text)
    total = steps + warmup + 3 + (torch_trace is not None)
    micro_steps = total * config.train.gradient_accumulation_steps + 1
    enough = -(-micro_steps // config.train.gradient_accumulation_steps)
    with (
        _told_of_memory(),
        workplace(config, steps=enough, use_data=use_data, message=message, warn=warn) as place,
    ):
        for text in without_effect(config, device=place.device, total_steps=10**9):
            warn(text)
        if config.train.compile_model:
            place.model.compile(mode=config.train.compile_mode, dynamic=False)
        visit = _Visit(place, progress=progress, total=total)
        rows = visit.rows(depth=depth, pattern=pattern, language=language)
        profile = visit.profile(rows, steps=steps, warmup=warmup)
        if torch_trace is not None:
            trace_step(place, rows, torch_trace)
            visit.took(1)
    return replace(profile, gains=find_gains(profile, config))


class _Visit:
    """Takes the steps of a profile at a workplace, and tells the progress."""

    def __init__(self, place: Workplace, *, progress: Progress, total: int) -> None:
        self.place = place
        self.is_compiled = place.config.train.compile_model
        self._progress, self._total, self._done = progress, total, 0
        progress(0, total)

    def took(self, steps: int) -> None:
        """Count steps as taken."""
        self._done += steps
        self._progress(self._done, self._total)

    def rows(self, *, depth: int, pattern: str | None, language: Language) -> Rows:
        """Return what to watch: nothing of a compiled network."""
        if self.is_compiled:
            if pattern is not None:
                raise UsageError(
                    "--modules: a compiled network has no modules to time; see TRAIN.COMPILE_MODEL"
                )
            found = Rows({}, {}, Names())
        else:
            found = find_rows(self.place, depth=depth, pattern=pattern, language=language)
        self.took(1)
        return found

    def profile(self, rows: Rows, *, steps: int, warmup: int) -> StepProfile:
        """Return the profile, without what to change."""
        clock = clock_for(self.place.device.type, self.place.device)
        timelines, walls = self._timed(rows, clock, steps=steps, warmup=warmup)
        with torch.compiler.set_stance("force_eager") if self.is_compiled else contextlib.nullcontext():
            work, shapes = self._counted(rows)
        peak_bytes = self._weighed()
        place = self.place
        return summarise(
            Measured(
                subject=self._subject(),
                warmup=warmup,
                timelines=timelines,
                wall_seconds=walls,
                work=work,
                work_factor=place.accumulation,
                peak_bytes=peak_bytes,
                calls={row: place.accumulation * count for row, count in shapes.calls.items()},
                inputs=shapes.inputs,
                outputs=shapes.outputs,
                modules=rows.shown,
                parameter_bytes={row: _parameter_bytes(rows.modules_of(row)) for row in rows.shown},
                peak=peak_of(_device_name(place.device), self._precision()),
                notes=tuple(self._notes()),
            )
        )

    def _timed(
        self, rows: Rows, clock: Clock, *, steps: int, warmup: int
    ) -> tuple[list[list[Piece]], list[float]]:
        """Return the pieces of each timed step, in seconds from the start of the first, and their length."""
        times = ModuleTimes(rows.watched, clock) if rows.watched else None
        taken: list[tuple[Mark, Mark, StepRecord]] = []
        try:
            stream = self.place.take_steps(warmup + steps, clock, module_times=times)
            begin = clock.mark()
            for record in stream:
                end = clock.mark()
                taken.append((begin, end, record))
                self.took(1)
                begin = clock.mark()
        finally:
            if times is not None:
                times.remove()
        clock.wait()
        timed = taken[warmup:]
        origin = timed[0][0]

        def position(mark: Mark) -> tuple[float, ...]:
            seconds = clock.elapsed(origin, mark)
            assert seconds is not None  # the clock has waited
            return (seconds,)

        timelines = [pieces(intervals(record, position), rows.names) for _, _, record in timed]
        walls = [position(end)[0] - position(begin)[0] for begin, end, _ in timed]
        return timelines, walls

    def _counted(self, rows: Rows) -> tuple[list[Piece], Shapes]:
        """Return the operations and bytes of a micro-step by row, and the shapes that it met."""
        with _noted_shapes(rows) as shapes, WorkClock() as clock:
            times = ModuleTimes(rows.watched, clock)
            try:
                (record,) = self.place.take_steps(1, clock, module_times=times, accumulation=1)
            finally:
                times.remove()
        self.took(1)
        return pieces(intervals(record, lambda mark: mark), rows.names), shapes

    def _weighed(self) -> dict[str, int]:
        """Return the most memory held in each phase; with accumulation in the second micro-step too."""
        place = self.place
        if self.is_compiled and place.device.type != "cuda":
            self.took(1)
            return {}
        with MemoryClock(place.device, place.kept_tensors()) as clock:
            (record,) = place.take_steps(1, clock, accumulation=min(2, place.accumulation))
        self.took(1)
        peaks: dict[str, int] = {}
        for span in record.spans:
            peaks[span.name] = max(peaks.get(span.name, 0), span.end.peak_bytes)
        return peaks

    def _subject(self) -> Subject:
        place = self.place
        return Subject(
            architecture=place.config.model.arch,
            parameters=count_parameters(place.model),
            device=str(place.device),
            device_name=_device_name(place.device),
            precision=self._precision(),
            blurry_shape=tuple(place.first_batch.blurry.shape),
            spikes_shape=place.spikes_shape,
            accumulation=place.accumulation,
            data="synthetic" if place.is_synthetic else "loader",
            is_compiled=self.is_compiled,
        )

    def _precision(self) -> str:
        """Return the type of most products."""
        half = {torch.bfloat16: "bf16", torch.float16: "fp16"}
        dtype = self.place.precision.dtype
        if dtype is not None:
            return half[dtype]
        is_tf32 = self.place.device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
        return "tf32" if is_tf32 else "fp32"

    def _notes(self) -> Iterator[str]:
        if self.place.is_synthetic:
            yield _RANDOM
        if self.is_compiled:
            yield _COMPILED
            if self.place.device.type != "cuda":
                yield _COMPILED_MEMORY
        name = _device_name(self.place.device)
        if peak_of(name, self._precision()) is None:
            yield f"no peak is known for {name} in {self._precision()}: no utilisation (MFU)"


def intervals(record: StepRecord, position: Callable[[Any], tuple[float, ...]]) -> list[Interval]:
    """Return a step's spans as intervals between positions, less those that take time from others."""
    return [
        Interval(span.name, position(span.start), position(span.end))
        for span in record.spans
        if span.weight > 0
    ]


@contextlib.contextmanager
def _noted_shapes(rows: Rows) -> Iterator[Shapes]:
    """Yield what the forward calls of shown rows take and give, as they come."""
    shapes = Shapes({}, {}, {})

    def note(row: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if is_in_backward():  # made again
                return
            shapes.calls[row] = shapes.calls.get(row, 0) + 1
            shapes.inputs.setdefault(row, shapes_in([*args, *kwargs.values()]))
            shapes.outputs.setdefault(row, shapes_in(output))

        return hook

    handles = [
        module.register_forward_hook(note(row), with_kwargs=True)
        for module, row in rows.watched.items()
        if row in rows.shown
    ]
    try:
        yield shapes
    finally:
        for handle in handles:
            handle.remove()


def shapes_in(value: Any) -> tuple[Shape, ...]:
    """Return the shapes of the tensors in a value, in lists, tuples, mappings and records too."""
    if isinstance(value, Tensor):
        return (tuple(value.shape),)
    if isinstance(value, dict):
        value = list(value.values())
    elif hasattr(value, "__dataclass_fields__"):
        value = list(vars(value).values())
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(shape for item in value for shape in shapes_in(item))


def _parameter_bytes(modules: Sequence[nn.Module]) -> int:
    every = {id(weights): weights for module in modules for weights in module.parameters()}
    return sum(weights.numel() * weights.element_size() for weights in every.values())


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


@contextlib.contextmanager
def _told_of_memory() -> Iterator[None]:
    """Say in one line that a step does not fit, instead of PyTorch's many."""
    try:
        yield
    except RuntimeError as error:
        if not any(text in str(error) for text in _OUT_OF_MEMORY):
            raise
        raise DeblurkitError(
            "a step does not fit into memory; take a smaller DATA.CROP_SIZE, DATA.CLIP_LEN or"
            f" TRAIN.BATCH_SIZE, or recompute more (MODEL.VRT.USE_CHECKPOINT_*): {str(error).splitlines()[0]}"
        ) from error
