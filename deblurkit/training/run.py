"""A training run: what surrounds the step loop, from the first step to the summary."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from deblurkit.config.schema import Config, as_values
from deblurkit.data.loaders import told_of_killed_workers
from deblurkit.errors import DeblurkitError
from deblurkit.files import check_writable, write_image, write_text
from deblurkit.memory.monitor import own_workers
from deblurkit.timing.clock import Clock, clock_for
from deblurkit.training import checkpoint, metrics, out_of_memory
from deblurkit.training.agreement import require_same_config, require_same_make, require_same_place
from deblurkit.training.distributed import (
    Ranks,
    Vote,
    joined,
    ranks_of_environment,
    summing,
    told_of_lost_peers,
)
from deblurkit.training.due import Due
from deblurkit.training.ema import Ema
from deblurkit.training.freezing import FrozenFlow
from deblurkit.training.guard import NonFiniteGuard
from deblurkit.training.interrupt import InterruptedRun, StopRequest, stop_with_launcher
from deblurkit.training.manifest import dataset_identity, read_manifest, recorded, run_manifest
from deblurkit.training.memory_snapshot import configured_snapshot
from deblurkit.training.objective import lpips_of, objective_of
from deblurkit.training.observer import Observer, RunPlan, Silent
from deblurkit.training.parts import RunParts, assemble, count_parameters, pick_device
from deblurkit.training.reporting import Reporting
from deblurkit.training.resume import state_of_all
from deblurkit.training.run_folder import held, write_config
from deblurkit.training.saving import Saving
from deblurkit.training.sharding import are_finite, unsharded
from deblurkit.training.step import StepRecord, run_steps
from deblurkit.training.support import check_supported, without_effect
from deblurkit.training.validate import FramePair, Frames, Validation
from deblurkit.units import plural

Picture = Callable[[FramePair], Frames]
Hardware = Callable[[Literal["cpu", "cuda"]], str]

STOPPING = "stopping after this step and saving; Ctrl-C again to stop at once"


@dataclass(frozen=True)
class Summary:
    """The content of ``summary.json``: steps, seconds spent in them, samples per second, held-out scores.

    ``outside_seconds`` is what this part of the run has spent beside its steps: on validation, checkpoints.
    ``promise`` is what has come of PROMISE, on rank 0; None, and not in the file, where there is none.
    """

    steps: int
    seconds: float
    samples_per_second: float
    outside_seconds: dict[str, float]
    validation: dict[str, Any]
    promise: dict[str, Any] | None = None

    def as_json(self) -> str:
        """Return the summary as a JSON document."""
        values = asdict(self)
        if self.promise is None:
            del values["promise"]
        return json.dumps(values, indent=2, allow_nan=False)


def train(
    config: Config,
    *,
    observer: Observer,
    resume: str | None = None,
    picture: Picture | None = None,
    hardware: Hardware | None = None,
) -> Summary:
    """Train as ``config`` says in LOG.SAVE_DIR and return the summary that is written there.

    Where ``torchrun`` (or `launch`) has set the environment, this is one of several processes; all return
    the same summary, and rank 0 alone tells the observer and writes what is written once.

    Args:
        config: the whole configuration; each part gets its section.
        observer: told of the progress.
        resume: ``auto`` goes on from the newest whole checkpoint in LOG.SAVE_DIR, if there is one; a path
            goes on from that file. None starts anew and refuses a folder that already holds a run.
        picture: lays out a before/after image, saved every LOG.PICTURES_EVERY_EPOCHS.
        hardware: says what a kind of device is here, as PROMISE.HARDWARE does.

    Raises:
        DeblurkitError: for anything that the user can mend; nothing that was there is lost.
    """
    stop_with_launcher()
    ranks = ranks_of_environment()
    listener = observer if ranks.is_main else Silent()
    section = config.train
    with (
        told_of_lost_peers(ranks),
        joined(ranks, timeout_minutes=section.rank_timeout_minutes, device=section.device),
        held(config.log.save_dir) if ranks.is_main else contextlib.nullcontext(),
    ):
        return _train_within_memory(config, ranks, listener, resume, picture, hardware)


def _train_within_memory(
    config: Config,
    ranks: Ranks,
    observer: Observer,
    resume: str | None,
    picture: Picture | None,
    hardware: Hardware | None,
) -> Summary:
    """Train, and again with half the micro-batch if memory does not suffice and AUTO_HALVE_BATCH is set."""
    while True:
        try:
            with configured_snapshot(config, ranks, tell=observer.message):
                return _train_once(config, ranks, observer, resume, picture, hardware)
        except Exception as error:
            if not out_of_memory.is_out_of_memory(error):
                raise
            wanted = config.train.auto_halve_batch and ranks.world_size == 1
            smaller = out_of_memory.halved(config) if wanted else None
            if smaller is None:
                device = pick_device(config.train.device, local_rank=ranks.local_rank)
                text = out_of_memory.explain(error, config, device=device, world_size=ranks.world_size)
                raise DeblurkitError(text) from error
            observer.warning(
                f"out of memory: TRAIN.BATCH_SIZE goes from {config.train.batch_size} to"
                f" {smaller.train.batch_size}, with twice the accumulation; going on from the last checkpoint"
            )
            out_of_memory.forget(error)
        has_saved = checkpoint.holds_any(config.log.save_dir / "checkpoints")
        config, resume = smaller, "auto" if has_saved else resume


def _train_once(
    config: Config,
    ranks: Ranks,
    observer: Observer,
    resume: str | None,
    picture: Picture | None,
    hardware: Hardware | None,
) -> Summary:
    folder = config.log.save_dir
    require_same_config(ranks, config)
    state = state_of_all(config, resume, ranks=ranks, warn=observer.warning)
    step = None if state is None else int(state["step"])
    require_same_place(ranks, "the step to go on after", step, folder)
    for text in check_supported(config):
        observer.warning(text)
    if ranks.is_main:
        check_writable(folder / "config.yaml")  # before the data are opened or drawn
    ranks.wait()  # until all have read what is there
    parts = assemble(
        config,
        message=observer.message,
        warn=observer.warning,
        from_pretrained=state is None,
        ranks=ranks,
    )
    with contextlib.closing(parts):
        digest = (dataset_identity(config.data.root) or {}).get("manifest_sha256")
        require_same_place(ranks, "the dataset's manifest", digest, config.data.root)
        require_same_make(ranks, "the optimiser", type(parts.optimizer).__name__)
        for text in without_effect(config, device=parts.device, total_steps=parts.total_steps):
            observer.warning(text)
        run = _Run(parts, observer, picture, hardware)
        if ranks.world_size > 1:
            require_same_make(ranks, "the networks of the loss", str(run.objective.fingerprints()))
        if state is not None:
            run.restore(state)
        del state  # all of it on the host, beside what was made of it
        with StopRequest(told=lambda: observer.message(STOPPING)) as stop, told_of_killed_workers():
            return run.carry_out(stop)


class _Run:
    """One run on its way: its parts, how far it has come, and what is due when."""

    def __init__(
        self, parts: RunParts, observer: Observer, picture: Picture | None, hardware: Hardware | None = None
    ) -> None:
        self.parts = parts
        self.config = parts.config
        self.ranks = parts.ranks
        self.folder = parts.config.log.save_dir
        self.observer = observer
        self.picture = picture
        self.hardware = hardware
        self.due = Due(parts.config.log, parts.total_steps, parts.ends_epochs)
        train = parts.config.train
        self.ema = Ema(parts.model, decay=train.ema_decay) if train.ema_decay else None
        self.guard = NonFiniteGuard.from_section(train, parts.model, warn=observer.warning)
        self.objective = objective_of(
            parts.config, model=parts.model, precision=parts.precision, warn=observer.warning
        )
        self.lpips = lpips_of(
            parts.config,
            frame_shape=parts.held_out.clips.sequences[0].frame_shape,
            device=parts.device,
            ranks=parts.ranks,
            warn=observer.warning,
        )
        self.saving = Saving(parts, ema=self.ema, guard=self.guard, networks=self.objective.fingerprints())
        self.called = FrozenFlow(parts.model, steps=parts.config.model.freeze_flow_steps, wrap=self._summing)
        self.done_steps = 0
        self.samples = 0
        self.seconds_before = 0.0  # of steps in earlier parts of the run
        self.skipped_before = 0
        self.random_states: list[dict[str, Any]] | None = None
        self.add_to_record: Callable[[dict[str, Any]], None] | None = None
        self.has_told_pids = False

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint; its random states are put back just before the first step."""
        for change in self.saving.restore(state):
            self.observer.warning(f"{change}; the run does not continue exactly as it was")
        other_scores = self.saving.other_scores()
        if other_scores is not None:
            self.observer.warning(other_scores)
        self.observer.message(f"going on after step {state['step']} of an earlier part of this run")
        self.random_states = state["random"]
        self.done_steps = state["step"]
        self.samples = int(state["extra"]["samples"])
        self.seconds_before = float(state["extra"]["seconds"])
        self.skipped_before = self.guard.skipped if self.guard is not None else 0

    def carry_out(self, stop: StopRequest) -> Summary:
        """Train to the last step, validate, check, and write the summary."""
        if not self.ranks.is_main:
            return self._carry_out(stop)
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_config(self.folder, self.config, done_steps=self.done_steps)
        with (
            recorded(self.folder / "run.json", self._manifest(), last_step=lambda: self.done_steps) as add,
            told_of_lost_peers(self.ranks),
        ):
            self.add_to_record = add
            return self._carry_out(stop)

    def _carry_out(self, stop: StopRequest) -> Summary:
        parts = self.parts
        if self.config.train.compile_model:
            # Each shape is a graph of its own: what depends on shapes alone is a constant of it.
            parts.model.compile(mode=self.config.train.compile_mode, dynamic=False)
            self.observer.message("compiling: the first step takes minutes")
        self.observer.started(self._plan())
        clock = clock_for(parts.device.type, parts.device)
        reporting = Reporting(
            parts,
            self.observer,
            clock=clock,
            first_step=self.done_steps + 1,
            samples=self.samples,
            called=lambda: self.called.module,
            objective=self.objective,
            hardware=self._hardware_in_words(),
        )
        with contextlib.closing(reporting):
            self._repeat_cut_off_validation(reporting, stop)
            self._train(reporting, clock, stop)
            result = self._validate(reporting, stop)
            skipped = self.guard.skipped - self.skipped_before if self.guard is not None else None
            with self.saving.whole(), unsharded(parts.model):  # rank 0 checks alone
                reporting.end(self.saving, last_step=self.done_steps, skipped_steps=skipped)
        return self._write_summary(result, reporting)

    def _hardware_in_words(self) -> str | None:
        """Return what the run is on, where that is to be compared with what a promise was measured on."""
        if self.hardware is None or self.config.promise.hardware is None or not self.ranks.is_main:
            return None
        return self.hardware("cuda" if self.parts.device.type == "cuda" else "cpu")

    def _manifest(self) -> dict[str, Any]:
        protocol = self.config.test.protocol
        return run_manifest(
            as_values(self.config),
            dataset_root=self.config.data.root,
            world_size=self.ranks.world_size,
            device=self.parts.device,
            protocol={"name": protocol, "text": metrics.PROTOCOL_TEXTS[protocol]},
            first_step=self.done_steps + 1,
            earlier=read_manifest(self.folder / "run.json"),
        )

    def _repeat_cut_off_validation(self, reporting: Reporting, stop: StopRequest) -> None:
        """Score the step that a kill has kept from being scored: which checkpoint is the best rests on it."""
        if self.done_steps and self.due.validation(self.done_steps):
            scored = self.ranks.from_main(self.saving.scored_until())
            if scored < self.done_steps:
                self._validate(reporting, stop)

    def _train(self, reporting: Reporting, clock: Clock, stop: StopRequest) -> None:
        vote = Vote(self.ranks)
        reporting.begin(self.samples)
        for record in self._steps(reporting, clock):
            self.done_steps = record.step
            self.samples += record.samples * self.ranks.world_size
            if self.ema is not None:
                self.ema.update(self.parts.model, record.step)
            reporting.done(record)
            self._tell_pids()
            if self.due.report(record.step):
                self._report(record, reporting)
            asked = vote.ask(stop.signal_number)
            if asked or self.due.pause(record.step):
                reporting.pause()
                self._pause(record.step, reporting, stop, asked=asked)
                reporting.begin(self.samples)
        vote.close()
        reporting.pause()

    def _tell_pids(self) -> None:
        """Have the record say, once workers are there, which processes the run is: should one be killed."""
        if self.has_told_pids:
            return
        self.has_told_pids = True
        of_ranks = self.ranks.gather({"main": os.getpid(), "workers": own_workers()})
        if self.add_to_record is not None:
            self.add_to_record({"pids": of_ranks})

    def _steps(self, reporting: Reporting, clock: Clock) -> Iterator[StepRecord]:
        parts = self.parts
        batches = parts.batches(done_steps=self.done_steps, times=reporting.load_times)
        self._restore_random_states()
        return run_steps(
            parts.model,
            batches,
            objective=self.objective,
            optimizer=parts.optimizer,
            learning_rate=parts.schedule,
            precision=parts.precision,
            clock=clock,
            steps=range(self.done_steps + 1, parts.total_steps + 1),
            accumulation=parts.accumulation,
            max_grad_norm=self.config.train.max_grad_norm,
            guard=self.guard,
            module_at=self.called.module_at,
            module_times=reporting.timing.module_times,
            phase_names=reporting.timing.phase_names,
        )

    def _restore_random_states(self) -> None:
        if self.random_states is None:
            return
        ranks, seed = self.ranks, self.config.seed
        remark = checkpoint.restore_random_states(
            self.random_states, rank=ranks.rank, world_size=ranks.world_size, seed=seed
        )
        if remark is not None:
            self.observer.warning(remark)

    def _summing(self, module: torch.nn.Module) -> torch.nn.Module:
        return summing(module, device=self.parts.device, accumulation=self.parts.accumulation)

    def _report(self, record: StepRecord, reporting: Reporting) -> None:
        loss = self.ranks.mean(float(record.loss.item()))  # waits, so that rates are of finished work
        is_skipped = False
        if self.guard is not None:
            self.guard.settle()
            is_skipped = self.guard.last_skipped_step == record.step
        self._require_finite(math.isfinite(loss) or is_skipped, f"the loss became {loss}")
        reporting.step(record, loss=loss, samples=self.samples)

    def _require_finite(self, is_finite: bool, what: str) -> None:
        if not is_finite:
            raise DeblurkitError(
                f"{what} at or before step {self.done_steps}; lower TRAIN.OPTIM.LR or turn TRAIN.AMP_ENABLED"
                f" off. What was saved in {self.folder} before is whole (--resume auto goes on from there)"
            )

    def _pause(self, step: int, reporting: Reporting, stop: StopRequest, *, asked: int) -> None:
        """Save, stop or validate, whatever is due; none of it counts as a step's time."""
        if self.guard is not None:
            self.guard.settle()
        self._require_finite(are_finite(self.parts.model), "the weights became NaN or infinite")
        looks = self.due.look(step)
        # A signal in the middle of a validation finds other weights in place, or other ranks elsewhere: by
        # then the step has to be saved.
        if self.due.save(step) or asked or looks:
            self._save(step, reporting)
        if asked:
            self._leave(asked)
        if looks:
            self._validate(reporting, stop, is_quick=not self.due.validation(step))

    def _leave_if_asked(self, stop: StopRequest) -> None:
        """Leave if a signal has come; called where the last step is saved."""
        if stop.signal_number:
            self._leave(stop.signal_number)

    def _leave(self, signal_number: int) -> None:
        raise InterruptedRun(
            f"stopped after step {self.done_steps} of {self.parts.total_steps}, which is saved in"
            f" {self.saving.folder}; go on with --resume auto",
            signal_number,
        )

    def _save(self, step: int, reporting: Reporting) -> None:
        with reporting.beside("checkpoints"):
            seconds = self.seconds_before + reporting.seconds
            self.saving.save(step, seconds=seconds, samples=self.samples)

    def _validate(self, reporting: Reporting, stop: StopRequest, *, is_quick: bool = False) -> Validation:
        """Score the held-out split, on all ranks together; by the running mean of weights if there is one."""
        step, model = self.done_steps, self.parts.model
        averaged = self.ema.swapped(model) if self.ema is not None else contextlib.nullcontext()
        with (
            reporting.beside("validation"),
            self._memory_explained(),
            torch.compiler.set_stance("force_eager"),  # a crop's graph does not fit whole frames
            averaged,
            unsharded(model),
        ):
            result = self.parts.held_out.validate(
                model,
                precision=self.parts.precision,
                progress=lambda done, total: self._leave_if_asked(stop),
                ranks=self.ranks,
                quick=is_quick,
                lpips=self.lpips if self.due.metrics(step) and not is_quick else None,
            )
        if result.frames_not_finite:
            self.observer.warning(
                f"validation after step {step}: {plural(result.frames_not_finite, 'frame')} came out NaN or"
                " infinite and have no score; float16 (TRAIN.AMP_DTYPE) may be too narrow for whole frames"
            )
        reporting.validated(step, result, is_quick=is_quick)
        if not is_quick:
            self._keep_if_best(step, result.score.psnr_db, reporting)
        if self.picture is not None and self.ranks.is_main and self.due.picture(step):
            image = self.picture(result.example)
            write_image(self.folder / "pictures" / f"step_{step:08d}.png", image)
            reporting.picture(step, image)
        return result

    @contextlib.contextmanager
    def _memory_explained(self) -> Iterator[None]:
        """Have what is out of memory in the block say what would help there: other settings than a step's."""
        try:
            yield
        except Exception as error:
            if not out_of_memory.is_out_of_memory(error):
                raise
            found = out_of_memory.validation_remedies(self.config)
            text = out_of_memory.explain(error, self.config, device=self.parts.device, found=found)
            raise DeblurkitError(f"in the validation after step {self.done_steps}: {text}") from error

    def _keep_if_best(self, step: int, psnr_db: float, reporting: Reporting) -> None:
        is_best = self.ranks.from_main(self.ranks.is_main and self.saving.is_best(psnr_db))
        if is_best and not self.ranks.from_main(self.saving.has(step)):
            self._save(step, reporting)
        if self.ranks.is_main and self.saving.has(step):
            self.saving.keep_if_best(step, psnr_db)

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
            world_size=self.ranks.world_size,
        )

    def _write_summary(self, result: Validation, reporting: Reporting) -> Summary:
        seconds = self.seconds_before + reporting.seconds
        summary = Summary(
            steps=self.done_steps,
            seconds=round(seconds, 3),
            samples_per_second=round(self.samples / seconds, 3) if seconds else 0.0,
            outside_seconds={name: round(taken, 3) for name, taken in reporting.outside.items()},
            validation=result.as_dict(),
            promise=None if reporting.promise is None else reporting.promise.as_dict(),
        )
        if self.ranks.is_main:
            write_text(self.folder / "summary.json", summary.as_json() + "\n")
        return summary
