"""A training run: what surrounds the step loop, from the first step to the summary."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import yaml

from deblurkit.cache.stats import format_cache_stats
from deblurkit.config.schema import Config
from deblurkit.data.prefetch import LoadTimes
from deblurkit.errors import CheckpointError, DeblurkitError
from deblurkit.files import check_writable, write_image, write_text
from deblurkit.timing.clock import clock_for
from deblurkit.training import checkpoint
from deblurkit.training.freezing import FrozenFlow
from deblurkit.training.interrupt import InterruptedRun, StopRequest
from deblurkit.training.journal import Journal
from deblurkit.training.losses import build_objective
from deblurkit.training.observer import Observer, Progress, RunPlan
from deblurkit.training.parts import RunParts, assemble, count_parameters
from deblurkit.training.resume import changes, state_to_resume
from deblurkit.training.step import StepRecord, run_steps
from deblurkit.training.step_timing import RunTiming
from deblurkit.training.support import check_supported, without_effect
from deblurkit.training.validate import FramePair, Frames, Validation
from deblurkit.units import plural

Picture = Callable[[FramePair], Frames]

CONFIG_HEAD = "# Written by deblurkit train; the whole configuration of this run.\n"
STOPPING = "stopping after this step and saving; Ctrl-C again to stop at once"


@dataclass(frozen=True)
class Summary:
    """The content of ``summary.json``: steps, seconds spent in them, samples per second, held-out scores.

    ``outside_seconds`` is what this part of the run has spent beside its steps: on validation, checkpoints.
    """

    steps: int
    seconds: float
    samples_per_second: float
    outside_seconds: dict[str, float]
    validation: dict[str, Any]

    def as_json(self) -> str:
        """Return the summary as a JSON document."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def train(
    config: Config, *, observer: Observer, resume: str | None = None, picture: Picture | None = None
) -> Summary:
    """Train as ``config`` says in LOG.SAVE_DIR and return the summary that is written there.

    Args:
        config: the whole configuration; each part gets its section.
        observer: told of the progress.
        resume: ``auto`` goes on from the newest whole checkpoint in LOG.SAVE_DIR, if there is one; a path
            goes on from that file. None starts anew and refuses a folder that already holds a run.
        picture: lays out a before/after image, saved every LOG.PICTURES_EVERY_EPOCHS.

    Raises:
        DeblurkitError: for anything that the user can mend; nothing that was there is lost.
    """
    folder = config.log.save_dir
    if folder.exists() and not folder.is_dir():
        raise DeblurkitError(f"{folder} is a file, a folder expected; choose another one by --output DIR")
    state = state_to_resume(config, resume, warn=observer.warning)
    for text in check_supported(config):
        observer.warning(text)
    check_writable(folder / "config.yaml")  # before the data are opened or drawn
    parts = assemble(config, message=observer.message, warn=observer.warning, from_pretrained=state is None)
    with contextlib.closing(parts):
        for text in without_effect(config, device=parts.device, total_steps=parts.total_steps):
            observer.warning(text)
        run = _Run(parts, observer, picture)
        if state is not None:
            run.restore(state)
        with StopRequest(told=lambda: observer.message(STOPPING)) as stop:
            return run.carry_out(stop)


def plain(config: Config) -> dict[str, Any]:
    """Return the configuration as the YAML's plain values."""
    return config.model_dump(mode="json", by_alias=True)


class _Run:
    """One run on its way: its parts, how far it has come, and where it writes."""

    def __init__(self, parts: RunParts, observer: Observer, picture: Picture | None) -> None:
        self.parts = parts
        self.config = parts.config
        self.folder = parts.config.log.save_dir
        self.observer = observer
        self.load_times = LoadTimes()
        self.loaded = LoadTimes()  # what the timing files are not told of yet
        self.outside = {"validation": 0.0, "checkpoints": 0.0}
        self.picture = picture
        self.clock = clock_for(parts.device.type, parts.device)
        self.done_steps = 0
        self.samples = 0
        self.seconds = 0.0
        self.random_states: dict[str, Any] | None = None

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint; its random states are put back just before the first step."""
        keys = [
            f"{key} was {before} in the checkpoint and is {now} now"
            for key, before, now in changes(state["config"], plain(self.config))
        ]
        for change in (*keys, *self._other_lengths(state["extra"])):
            self.observer.warning(f"{change}; the run does not continue exactly as it was")
        parts = self.parts
        checkpoint.restore_run(state, model=parts.model, optimizer=parts.optimizer, precision=parts.precision)
        self.observer.message(f"going on after step {state['step']} of an earlier part of this run")
        self.random_states = state["random"]
        self.done_steps = state["step"]
        self.samples = int(state["extra"]["samples"])
        self.seconds = float(state["extra"]["seconds"])

    def _other_lengths(self, extra: dict[str, Any]) -> Iterator[str]:
        """Yield what the data and the schedule were in a checkpoint, if they are otherwise now."""
        if extra["clips"] != len(self.parts.clips):
            yield f"the training split had {extra['clips']} clips and has {len(self.parts.clips)} now"
        if extra["total_steps"] != self.parts.total_steps and self.config.train.sched.type == "cosine":
            yield f"the schedule was {extra['total_steps']} steps long and is {self.parts.total_steps} now"

    def carry_out(self, stop: StopRequest) -> Summary:
        """Train to the last step, validate, and write the summary."""
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        self._write_config()
        if self.config.train.compile_model:
            # Each shape is a graph of its own: what depends on shapes alone is a constant of it.
            self.parts.model.compile(mode=self.config.train.compile_mode, dynamic=False)
            self.observer.message("compiling: the first step takes minutes")
        self.observer.started(self._plan())
        journal = Journal(self.folder / "logs", tensorboard=self.config.log.tensorboard)
        timing = self._timing(journal)
        try:
            self._train(timing, journal, stop)
            result = self._validate(timing, journal, stop)
            journal.line(self._outside_line())
            if self.parts.cache is not None:
                text = format_cache_stats(self.parts.cache.stats())
                journal.line(text)
                self.observer.message(text)
        finally:
            timing.close()
            journal.close()
        return self._write_summary(result)

    def _write_config(self) -> None:
        """Write config.yaml; that of the part of the run before stays beside it where it was another."""
        path = self.folder / "config.yaml"
        text = CONFIG_HEAD + yaml.safe_dump(plain(self.config), sort_keys=False, allow_unicode=True)
        before = path.read_text(encoding="utf-8") if path.is_file() else text
        if not before.startswith(CONFIG_HEAD):
            raise DeblurkitError(
                f"{path} is there already and was not written by a run; choose another folder by --output DIR"
            )
        if before != text and self.done_steps:
            path.rename(self.folder / f"config_until_step_{self.done_steps:08d}.yaml")
        write_text(path, text)

    def _train(self, timing: RunTiming, journal: Journal, stop: StopRequest) -> None:
        rate = _Rate(self.samples)
        for record in self._steps(timing):
            self.done_steps = record.step
            self.samples += record.samples
            timing.log(record)
            if self._is_reported(record.step):
                self._report(record, rate, timing, journal)
            if stop.signal_number or self._is_pause(record.step):
                self.seconds += rate.elapsed_total()
                self._pause(record.step, timing, journal, stop)
                timing.restart()
                rate = _Rate(self.samples)
        self.seconds += rate.elapsed_total()

    def _steps(self, timing: RunTiming) -> Iterator[StepRecord]:
        parts = self.parts
        batches = parts.batches(done_steps=self.done_steps, times=self.load_times)
        if self.random_states is not None:
            checkpoint.restore_random_states(self.random_states)
        return run_steps(
            parts.model,
            batches,
            objective=build_objective(self.config.loss),
            optimizer=parts.optimizer,
            learning_rate=parts.schedule,
            precision=parts.precision,
            clock=self.clock,
            steps=range(self.done_steps + 1, parts.total_steps + 1),
            accumulation=parts.accumulation,
            max_grad_norm=self.config.train.max_grad_norm,
            module_at=FrozenFlow(parts.model, steps=self.config.model.freeze_flow_steps).module_at,
            module_times=timing.module_times,
            phase_names=timing.phase_names,
        )

    def _is_reported(self, step: int) -> bool:
        return _every(step, self.config.log.timing_console_interval) or step == self.parts.total_steps

    def _report(self, record: StepRecord, rate: _Rate, timing: RunTiming, journal: Journal) -> None:
        loss = float(record.loss.item())  # waits for the device, so the rate below is of finished work
        self._require_finite(math.isfinite(loss), f"the loss became {loss}")
        data_ms = timing.data_ms()
        per_second = rate.since_last(self.samples)
        progress = Progress(
            record.step,
            self.parts.total_steps,
            loss,
            record.learning_rate,
            per_second,
            data_ms,
            self._load_ms(),
        )
        journal.line(progress.as_line())
        journal.scalars(
            record.step,
            {
                "train/loss": loss,
                "train/learning_rate": record.learning_rate,
                "train/samples_per_second": per_second,
                "train/data_ms": data_ms,
                "train/load_ms": progress.load_ms,
            },
        )
        self.observer.stepped(progress)

    def _load_ms(self) -> float | None:
        """Return what reading a sample has cost since the last report, whichever process has read it [ms]."""
        times = self.load_times
        taken = 1e3 * times.seconds / times.samples if times.samples else None
        self.loaded.seconds += times.seconds
        self.loaded.samples += times.samples
        times.seconds, times.samples = 0.0, 0
        return taken

    def _tell_loading(self, timing: RunTiming) -> None:
        """Have the timing files say what reading samples has cost, beside the steps that ran meanwhile."""
        if self.loaded.samples:
            timing.beside("sample loading", self.loaded.seconds, count=self.loaded.samples)
            self.loaded = LoadTimes()

    def _require_finite(self, is_finite: bool, what: str) -> None:
        if not is_finite:
            raise DeblurkitError(
                f"{what} at or before step {self.done_steps}; lower TRAIN.OPTIM.LR or turn TRAIN.AMP_ENABLED"
                f" off. What was saved in {self.folder} before is whole (--resume auto goes on from there)"
            )

    def _save_is_due(self, step: int) -> bool:
        return _every(step, self.config.log.save_every_steps) or step == self.parts.total_steps

    def _picture_is_due(self, step: int) -> bool:
        return self.parts.ends_epochs(step, every=self.config.log.pictures_every_epochs)

    def _validation_is_due(self, step: int) -> bool:
        log = self.config.log
        due = _every(step, log.val_every_steps) or self.parts.ends_epochs(
            step, every=log.metrics_every_epochs
        )
        is_last = step == self.parts.total_steps  # whose validation is the summary's
        return (due and not is_last) or self._picture_is_due(step)

    def _is_pause(self, step: int) -> bool:
        return self._save_is_due(step) or self._validation_is_due(step)

    def _pause(self, step: int, timing: RunTiming, journal: Journal, stop: StopRequest) -> None:
        """Save, stop or validate, whatever is due; none of it counts as a step's time."""
        self._tell_loading(timing)
        are_finite = all(bool(weights.isfinite().all()) for weights in self.parts.model.parameters())
        self._require_finite(are_finite, "the weights became NaN or infinite")
        if self._save_is_due(step) or stop.signal_number:
            with self._outside("checkpoints", timing):
                self._save(step)
        self._leave_if_asked(stop)
        if self._validation_is_due(step):
            self._validate(timing, journal, stop)

    def _leave_if_asked(self, stop: StopRequest) -> None:
        """Raise InterruptedRun if a signal has come; called where the last step is saved or can be."""
        if not stop.signal_number:
            return
        folder = self.folder / "checkpoints"
        if not checkpoint.checkpoint_path(folder, self.done_steps).exists():
            self._save(self.done_steps)
        raise InterruptedRun(
            f"stopped after step {self.done_steps} of {self.parts.total_steps}, which is saved in {folder};"
            " go on with --resume auto",
            stop.signal_number,
        )

    def _outside_line(self) -> str:
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.outside.items())
        return f"beside {self.seconds:.1f} s of steps: {parts}"

    @contextlib.contextmanager
    def _outside(self, name: str, timing: RunTiming) -> Iterator[None]:
        """Count the time of the block beside that of the steps."""
        start = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - start
            self.outside[name] += taken
            timing.beside(name, taken)

    def _save(self, step: int) -> None:
        folder = self.folder / "checkpoints"
        path = checkpoint.checkpoint_path(folder, step)
        try:
            checkpoint.save_checkpoint(
                path,
                step=step,
                config=plain(self.config),
                model=self.parts.model,
                optimizer=self.parts.optimizer,
                precision=self.parts.precision,
                extra={
                    "seconds": self.seconds,
                    "samples": self.samples,
                    "clips": len(self.parts.clips),
                    "total_steps": self.parts.total_steps,
                },
            )
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "inline_container" not in str(error):
                raise  # torch turns a full disk into a RuntimeError of its archive writer; others are others'
            others = plural(len(checkpoint.checkpoints_in(folder)), "checkpoint")
            raise CheckpointError(
                f"{path}: could not be written ({str(error).splitlines()[0]}); free some space."
                f" {others} before it can be read"
            ) from error
        checkpoint.remove_old(folder, keep=self.config.log.keep_checkpoints)

    def _validate(self, timing: RunTiming, journal: Journal, stop: StopRequest) -> Validation:
        step = self.done_steps
        with (
            self._outside("validation", timing),
            torch.compiler.set_stance("force_eager"),
        ):  # a crop's graph does not fit whole frames
            result = self.parts.held_out.validate(
                self.parts.model,
                precision=self.parts.precision,
                progress=lambda done, total: self._leave_if_asked(stop),
            )
        journal.validation(step, result)
        self.observer.validated(step, result)
        if self.picture is not None and self._picture_is_due(step):
            image = self.picture(result.example)
            write_image(self.folder / "pictures" / f"step_{step:08d}.png", image)
            journal.picture(step, image)
        return result

    def _timing(self, journal: Journal) -> RunTiming:
        return RunTiming(
            self.config.log,
            self.parts.model,
            clock=self.clock,
            folder=self.folder / "logs",
            first_step=self.done_steps + 1,
            samples_per_step=self.parts.effective_batch,
            is_compiled=self.config.train.compile_model,
            scalar=lambda tag, value, step: journal.scalars(step, {tag: value}),
            observer=self.observer,
        )

    def _plan(self) -> RunPlan:
        parts, loader = self.parts, self.config.dataloader
        return RunPlan(
            folder=self.folder,
            device=str(parts.device),
            architecture=self.config.model.arch,
            parameters=count_parameters(parts.model),
            clips=len(parts.clips),
            total_steps=parts.total_steps,
            first_step=self.done_steps + 1,
            batch_size=self.config.train.batch_size,
            accumulation=parts.accumulation,
            workers=parts.workers,
            train_prefetch_factor=loader.train_prefetch_factor,
            val_prefetch_factor=loader.val_prefetch_factor,
        )

    def _write_summary(self, result: Validation) -> Summary:
        summary = Summary(
            steps=self.done_steps,
            seconds=round(self.seconds, 3),
            samples_per_second=round(self.samples / self.seconds, 3) if self.seconds else 0.0,
            outside_seconds={name: round(seconds, 3) for name, seconds in self.outside.items()},
            validation={"protocol": result.protocol, **result.score.as_dict()},
        )
        write_text(self.folder / "summary.json", summary.as_json() + "\n")
        return summary


class _Rate:
    """Samples per second since the last question, and seconds since the beginning."""

    def __init__(self, samples: int) -> None:
        self._began = self._asked = time.perf_counter()
        self._samples = samples

    def since_last(self, samples: int) -> float:
        """Return the rate since this was asked before, given the samples by now."""
        now = time.perf_counter()
        rate = (samples - self._samples) / max(now - self._asked, 1e-9)
        self._samples, self._asked = samples, now
        return rate

    def elapsed_total(self) -> float:
        """Return the seconds since this was made."""
        return time.perf_counter() - self._began


def _every(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
