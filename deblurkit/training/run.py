"""A training run from its configuration to its summary: what surrounds the step loop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from torch import Tensor, nn
from torch.optim import Optimizer

from deblurkit.config.schema import Config
from deblurkit.data.clips import Clip, TrainingClips
from deblurkit.data.loaders import BatchStream, training_loader
from deblurkit.data.workers import WorkerPlan, available_cpus, plan_workers
from deblurkit.errors import CheckpointError, DeblurkitError
from deblurkit.files import write_text
from deblurkit.models.registry import build_model
from deblurkit.timing.clock import Clock, clock_for
from deblurkit.timing.logger import TimingLogger, set_global_timing_logger
from deblurkit.timing.records import StepTiming
from deblurkit.training import checkpoint
from deblurkit.training.datasets import open_training_data
from deblurkit.training.evaluate import HeldOut
from deblurkit.training.interrupt import InterruptedRun, StopRequest
from deblurkit.training.journal import Journal
from deblurkit.training.losses import charbonnier
from deblurkit.training.optim import Schedule, build_optimizer, build_schedule
from deblurkit.training.precision import Precision
from deblurkit.training.step import StepRecord, run_steps
from deblurkit.training.support import check_supported
from deblurkit.training.validate import FramePair, Frames, Validation


@dataclass(frozen=True)
class RunPlan:
    """What a run is about to do, for a display to say."""

    folder: Path
    device: str
    architecture: str
    parameters: int
    clips: int
    total_steps: int
    first_step: int
    workers: WorkerPlan


@dataclass(frozen=True)
class Progress:
    """How a run stands after a step; rates are over the steps since the last report.

    Attributes:
        data_ms: the step's wait for data, or None where steps are not timed.
    """

    step: int
    total_steps: int
    loss: float
    learning_rate: float
    samples_per_second: float
    data_ms: float | None


@dataclass(frozen=True)
class Summary:
    """The content of ``summary.json``: steps, seconds spent in them, samples per second, held-out scores."""

    steps: int
    seconds: float
    samples_per_second: float
    validation: dict[str, Any]


class Observer(Protocol):
    """Told what a run does; a display, a test or nobody."""

    def message(self, text: str) -> None:
        """Take a line that the user should see."""

    def warning(self, text: str) -> None:
        """Take a line that the user should not miss."""

    def started(self, plan: RunPlan) -> None:
        """Take the plan before the first step."""

    def stepped(self, progress: Progress) -> None:
        """Take the state after a step that is reported."""

    def timed(self, timing: StepTiming) -> None:
        """Take the times of a step that is shown."""

    def validated(self, step: int, result: Validation) -> None:
        """Take the scores of a validation."""


def train(
    config: Config,
    *,
    observer: Observer,
    resume: str | None = None,
    picture: Callable[[FramePair], Frames] | None = None,
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
    for text in check_supported(config):
        observer.warning(text)
    state = _state_to_resume(config.log.save_dir, resume, observer.warning)
    run = _Run(config, observer, picture)
    if state is not None:
        run.restore(state)
    with StopRequest() as stop:
        return run.carry_out(stop)


def pick_device(setting: str) -> torch.device:
    """Return the device that TRAIN.DEVICE names; ``auto`` is the first GPU where there is one.

    Raises:
        DeblurkitError: if a GPU is asked for and none can be used.
    """
    if setting == "cuda" and not torch.cuda.is_available():
        raise DeblurkitError(
            "TRAIN.DEVICE: cuda was asked for and PyTorch finds no usable GPU; see `nvidia-smi`, or set"
            " --set TRAIN.DEVICE=cpu"
        )
    if setting == "auto":
        setting = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(setting, 0) if setting == "cuda" else torch.device(setting)


def _state_to_resume(folder: Path, resume: str | None, warn: Callable[[str], None]) -> dict[str, Any] | None:
    if resume is None:
        if checkpoint.checkpoints_in(folder / "checkpoints"):
            raise DeblurkitError(
                f"{folder} already holds a run; go on with it by --resume auto, or choose another folder by"
                " --output DIR"
            )
        return None
    if resume == "auto":
        return checkpoint.load_newest(folder / "checkpoints", warn=warn)
    return checkpoint.load_checkpoint(Path(resume))


class _Run:
    """The parts of one run, put together from its configuration, and the loop around the step loop."""

    def __init__(
        self, config: Config, observer: Observer, picture: Callable[[FramePair], Frames] | None
    ) -> None:
        self.config = config
        self.observer = observer
        self.picture = picture
        self.folder = config.log.save_dir
        self.device = pick_device(config.train.device)
        self.clock: Clock = clock_for(self.device.type, self.device)
        self.workers = plan_workers(config.dataloader, gpus=1, cpus=available_cpus())
        torch.manual_seed(config.seed)
        dataset = open_training_data(config.data, seed=config.seed, message=observer.message)
        self.clips = TrainingClips(
            dataset.sequences(config.data.train_split),
            clip_length=config.data.clip_len,
            crop_size=config.data.train_crop,
            num_voxel_bins=config.data.num_voxel_bins,
            seed=config.seed,
        )
        self.held_out = HeldOut(
            dataset.sequences(config.data.val_split),
            data=config.data,
            batch_size=config.train.val_batch_size,
            num_workers=self.workers.val,
            prefetch_factor=config.dataloader.val_prefetch_factor,
        )
        self.model = build_model(config.model, num_voxel_bins=config.data.num_voxel_bins).to(self.device)
        self.precision = Precision.from_section(config.train, self.device)
        self.optimizer: Optimizer = build_optimizer(
            config.train.optim, self.model, device=self.device, warn=observer.warning
        )
        self.done_steps = 0
        self.seconds = 0.0
        self.samples = 0
        self.random: Callable[[], None] = lambda: None

    @property
    def accumulation(self) -> int:
        return self.config.train.gradient_accumulation_steps

    @property
    def effective_batch(self) -> int:
        return self.config.train.batch_size * self.accumulation

    def stream(self, *, first_batch: int = 0, num_batches: int = 0) -> BatchStream:
        """Return the run's batches from ``first_batch`` on."""
        return BatchStream(
            len(self.clips),
            batch_size=self.config.train.batch_size,
            seed=self.config.seed,
            first_batch=first_batch,
            num_batches=num_batches,
            drop_last=self.config.dataloader.drop_last,
        )

    @property
    def steps_per_epoch(self) -> int:
        return max(1, self.stream().batches_per_epoch // self.accumulation)

    @property
    def total_steps(self) -> int:
        whole = self.config.train.epochs * self.steps_per_epoch
        return min(whole, self.config.train.max_steps or whole)

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint; its random states are put back just before the first step."""
        for difference in _differences(state["config"], _plain(self.config)):
            self.observer.warning(f"{difference}; the run does not continue exactly as it was")
        checkpoint.restore_run(state, model=self.model, optimizer=self.optimizer, precision=self.precision)
        self.random = lambda: checkpoint.restore_random_states(state["random"])
        self.done_steps = state["step"]
        self.seconds = float(state["extra"]["seconds"])
        self.samples = int(state["extra"]["samples"])

    def carry_out(self, stop: StopRequest) -> Summary:
        """Train to the last step, validate, and write the summary."""
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(_plain(self.config), sort_keys=False, allow_unicode=True)
        write_text(self.folder / "config.yaml", text)
        if self.config.train.compile_model:
            self.model.compile(mode=self.config.train.compile_mode)
        self.observer.started(self._plan())
        journal = Journal(self.folder / "logs", tensorboard=self.config.log.tensorboard)
        timing = self._timing_logger()
        try:
            self._train(timing, journal, stop)
            result = self._validate(journal, picture=False)
        finally:
            set_global_timing_logger(None)
            if timing is not None:
                timing.close()
            journal.close()
        return self._write_summary(result)

    def _train(self, timing: TimingLogger | None, journal: Journal, stop: StopRequest) -> None:
        steps = range(self.done_steps + 1, self.total_steps + 1)
        schedule = self._schedule()
        report = _Reporter(self.total_steps, since=self.samples)
        records = self._steps(steps, schedule)
        self.random()
        if timing is not None:
            timing.restart()
        began = time.perf_counter()
        for record in records:
            self.done_steps = record.step
            self.samples += record.samples
            if timing is not None:
                timing.log_spans(record.spans)
                timing.step()
            if report.is_due(record.step, every=self.config.log.timing_console_interval):
                self._report(report.progress(record, self.samples, timing), journal)
            if self._is_break(record.step, stop):
                self.seconds += time.perf_counter() - began
                self._between_steps(record.step, journal, stop)
                if timing is not None:
                    timing.restart()
                report.restart(self.samples)
                began = time.perf_counter()
        self.seconds += time.perf_counter() - began

    def _steps(self, steps: range, schedule: Schedule) -> Iterator[StepRecord]:
        stream = self.stream(
            first_batch=self.done_steps * self.accumulation, num_batches=len(steps) * self.accumulation
        )
        loader = training_loader(
            self.clips,
            stream,
            num_workers=self.workers.train,
            prefetch_factor=self.config.dataloader.train_prefetch_factor,
            pin_memory=self.config.dataloader.pin_memory and self.device.type == "cuda",
        )
        delta, weight = self.config.loss.charbonnier.delta, self.config.loss.charbonnier.weight

        def loss(restored: Tensor, sharp: Tensor) -> Tensor:
            return weight * charbonnier(restored, sharp, delta=delta)

        return run_steps(
            self.model,
            iter(loader),
            loss=loss,
            optimizer=self.optimizer,
            learning_rate=schedule,
            precision=self.precision,
            clock=self.clock,
            steps=steps,
            accumulation=self.accumulation,
            max_grad_norm=self.config.train.max_grad_norm,
        )

    def _schedule(self) -> Schedule:
        return build_schedule(
            self.config.train.sched,
            self.config.train.optim,
            total_steps=self.total_steps,
            effective_batch=self.effective_batch,
        )

    def _report(self, progress: Progress, journal: Journal) -> None:
        if not math.isfinite(progress.loss):
            raise DeblurkitError(
                f"the loss became {progress.loss} at step {progress.step}; lower TRAIN.OPTIM.LR or turn"
                f" TRAIN.AMP_ENABLED off, and go on from the last checkpoint in {self.folder} by --resume auto"
            )
        journal.line(progress_line(progress))
        journal.scalars(
            progress.step,
            {
                "train/loss": progress.loss,
                "train/learning_rate": progress.learning_rate,
                "train/samples_per_second": progress.samples_per_second,
                "train/data_ms": progress.data_ms,
            },
        )
        self.observer.stepped(progress)

    def _is_break(self, step: int, stop: StopRequest) -> bool:
        return bool(
            stop.signal_number
            or step == self.total_steps
            or self._save_is_due(step)
            or self._validation_is_due(step)
            or self._picture_is_due(step)
        )

    def _save_is_due(self, step: int) -> bool:
        return _every(step, self.config.log.save_every_steps) or step == self.total_steps

    def _validation_is_due(self, step: int) -> bool:
        log = self.config.log
        due = _every(step, log.val_every_steps) or _every(
            step, log.metrics_every_epochs * self.steps_per_epoch
        )
        return due and step < self.total_steps  # the last validation is the summary's

    def _picture_is_due(self, step: int) -> bool:
        return _every(step, self.config.log.pictures_every_epochs * self.steps_per_epoch)

    def _between_steps(self, step: int, journal: Journal, stop: StopRequest) -> None:
        """Save, validate or stop, whatever is due; none of it counts as time of a step."""
        if self._save_is_due(step) or stop.signal_number:
            self._save(step)
        if stop.signal_number:
            raise InterruptedRun(
                f"stopped after step {step} of {self.total_steps}; go on with --resume auto"
                f" (saved in {self.folder / 'checkpoints'})",
                stop.signal_number,
            )
        if self._validation_is_due(step) or self._picture_is_due(step):
            self._validate(journal, picture=self._picture_is_due(step))

    def _save(self, step: int) -> None:
        folder = self.folder / "checkpoints"
        path = checkpoint.checkpoint_path(folder, step)
        try:
            checkpoint.save_checkpoint(
                path,
                step=step,
                config=_plain(self.config),
                model=self.model,
                optimizer=self.optimizer,
                precision=self.precision,
                extra={"seconds": self.seconds, "samples": self.samples},
            )
        except OSError as error:
            raise CheckpointError(
                f"{path}: could not be written ({error.strerror}); the checkpoints before it are whole"
            ) from error
        checkpoint.remove_old(folder, keep=self.config.log.keep_checkpoints)

    def _validate(self, journal: Journal, *, picture: bool) -> Validation:
        result = self.held_out.validate(self.model, precision=self.precision)
        journal.validation(self.done_steps, result)
        self.observer.validated(self.done_steps, result)
        if picture and self.picture is not None:
            image = self.picture(result.example)
            save_picture(self.folder / "pictures" / f"step_{self.done_steps:08d}.png", image)
            journal.picture(self.done_steps, image)
        return result

    def _timing_logger(self) -> TimingLogger | None:
        log = self.config.log
        if not log.enable_timing_log:
            return None
        timing = TimingLogger(
            self.folder / "logs",
            enable_console=log.timing_console,
            enable_file=log.timing_file,
            console_update_interval=log.timing_console_interval,
            file_flush_interval=log.timing_file_interval,
            clock=self.clock,
            first_step=self.done_steps + 1,
            samples_per_step=self.effective_batch,
            show=self.observer.timed,
        )
        set_global_timing_logger(timing)
        return timing

    def _plan(self) -> RunPlan:
        return RunPlan(
            folder=self.folder,
            device=str(self.device),
            architecture=self.config.model.arch,
            parameters=count_parameters(self.model),
            clips=len(self.clips),
            total_steps=self.total_steps,
            first_step=self.done_steps + 1,
            workers=self.workers,
        )

    def _write_summary(self, result: Validation) -> Summary:
        summary = Summary(
            steps=self.done_steps,
            seconds=round(self.seconds, 3),
            samples_per_second=round(self.samples / self.seconds, 3) if self.seconds else 0.0,
            validation={"protocol": result.protocol, **asdict(result.score)},
        )
        write_text(self.folder / "summary.json", json.dumps(asdict(summary), indent=2) + "\n")
        return summary


class _Reporter:
    """Decides which steps are reported, and works out the rate between reports."""

    def __init__(self, total_steps: int, *, since: int) -> None:
        self._total_steps = total_steps
        self.restart(since)

    def restart(self, samples: int) -> None:
        """Count samples and seconds from now on."""
        self._samples, self._time = samples, time.perf_counter()

    def is_due(self, step: int, *, every: int) -> bool:
        return _every(step, every) or step == self._total_steps

    def progress(self, record: StepRecord, samples: int, timing: TimingLogger | None) -> Progress:
        loss = float(record.loss.item())  # waits for the device, before the clock is read
        seconds = time.perf_counter() - self._time
        rate = (samples - self._samples) / seconds if seconds > 0 else 0.0
        self.restart(samples)
        latest = timing.latest if timing is not None else None
        return Progress(
            step=record.step,
            total_steps=self._total_steps,
            loss=loss,
            learning_rate=record.learning_rate,
            samples_per_second=rate,
            data_ms=latest.milliseconds.get("data") if latest is not None else None,
        )


def progress_line(progress: Progress) -> str:
    """Return the line of the training log, in the seed's form."""
    data = "" if progress.data_ms is None else f" | data_time={progress.data_ms:.1f}ms"
    return (
        f"step {progress.step}/{progress.total_steps} | loss={progress.loss:.5f}"
        f" | lr={progress.learning_rate:.3e} | {progress.samples_per_second:.1f} samples/s{data}"
    )


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def save_picture(path: Path, image: Frames) -> None:
    """Write an (H, W, 3) uint8 RGB image as PNG, whole or not at all."""
    import cv2

    from deblurkit.files import replaced_file

    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with replaced_file(path) as file:
        file.write(encoded.tobytes())


def _every(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def _plain(config: Config) -> dict[str, Any]:
    """Return the configuration as the YAML's plain values."""
    return config.model_dump(mode="json", by_alias=True)


# Keys that may change between the parts of one run without changing its numbers.
_FREE = (
    "LOG.",
    "DATALOADER.",
    "TEST.",
    "TRAIN.MAX_STEPS",
    "TRAIN.EPOCHS",
    "TRAIN.VAL_BATCH_SIZE",
    "DATA.ROOT",
)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield what differs between a checkpoint's configuration and the present one, where it matters."""
    for key in sorted(old.keys() | new.keys()):
        name = f"{prefix}{key}"
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now, f"{name}.")
        elif before != now and not name.startswith(_FREE):
            yield f"{name} was {before} in the checkpoint and is {now} now"
