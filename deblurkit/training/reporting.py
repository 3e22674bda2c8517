"""What a run says of itself: to its observer, its logs, its timing files, and to the checks at its end."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn

from deblurkit.cache.stats import format_cache_stats
from deblurkit.data.batch_bytes import largest_clip
from deblurkit.data.prefetch import LoadTimes
from deblurkit.errors import CheckpointError
from deblurkit.files import write_text
from deblurkit.memory.leaks import Owner
from deblurkit.memory.monitor import MemoryMonitor, cuda_memory
from deblurkit.timing.clock import Clock
from deblurkit.training.journal import Journal
from deblurkit.training.losses import Objective
from deblurkit.training.memory_advice import RunAdvice
from deblurkit.training.memory_watch import MemoryWatch
from deblurkit.training.observer import Observer, Progress, own_warning
from deblurkit.training.parts import RunParts
from deblurkit.training.promise import PromiseOutcome, PromiseWatch
from deblurkit.training.run_evidence import RunEvidence
from deblurkit.training.saving import Saving
from deblurkit.training.step import StepRecord
from deblurkit.training.step_timing import RunTiming
from deblurkit.training.validate import Frames, Validation
from deblurkit.training.verification import as_document, as_lines, reload_differences, verify
from deblurkit.training.vitals import Vitals


class Reporting:
    """Tells of one part of a run while it goes on; on other ranks than the first only of its times.

    Args:
        parts: of the run.
        observer: told of everything.
        clock: that steps are timed by.
        first_step: of this part of the run.
        samples: that all ranks have taken before.
        called: gives what the last step has called.
        objective: whose terms are written down.
        hardware: that the run is on, in words.

    Attributes:
        timing: of the steps.
        load_times: told by the loader what reading samples takes.
        seconds: that steps have taken in this part of the run.
        outside: seconds beside the steps, by what for.
    """

    def __init__(
        self,
        parts: RunParts,
        observer: Observer,
        *,
        clock: Clock,
        first_step: int,
        samples: int,
        called: Callable[[], nn.Module],
        objective: Objective,
        hardware: str | None = None,
    ) -> None:
        config, self._ranks = parts.config, parts.ranks
        folder = config.log.save_dir
        self._parts, self._observer, self._objective = parts, observer, objective
        self._journal = Journal(
            folder / "logs" if self._ranks.is_main else None, tensorboard=config.log.tensorboard
        )
        self.timing = RunTiming(
            config.log,
            parts.model,
            clock=clock,
            folder=folder / "logs",
            first_step=first_step,
            samples_per_step=parts.effective_batch,
            is_compiled=config.train.compile_model,
            scalar=lambda tag, value, step: self._journal.scalars(step, {tag: value}),
            observer=observer,
            called=called,
            ranks=self._ranks,
            started_at=self._ranks.from_main(time.time()),
        )
        self.load_times = LoadTimes()
        self._loaded = LoadTimes()  # what the timing files are not told of yet
        self.seconds = 0.0
        self.outside = {"validation": 0.0, "checkpoints": 0.0}
        self._first_step = first_step
        self._evidence = RunEvidence(device_type=parts.device.type, protocol=config.test.protocol)
        self._vitals = Vitals(folder, device=parts.device) if self._ranks.is_main else None
        self._rate = _Rate(samples)
        self._journal.line(parts.precision.as_line())
        self._promise = self._promise_watch(clock, hardware)
        self._memory = self._memory_watch()
        if self._memory is not None:
            self._memory.begin()

    def begin(self, samples: int) -> None:
        """Begin to count the time of steps, after ``samples`` of them."""
        self._rate = _Rate(samples)
        self.timing.restart()
        if self._promise is not None:
            self._promise.begin()

    def pause(self) -> None:
        """Stop to count the time of steps."""
        self.seconds += self._rate.elapsed_total()
        if self._promise is not None:
            self._promise.pause()
        if self._loaded.samples:
            self.timing.beside("sample loading", self._loaded.seconds, count=self._loaded.samples)
            self._loaded = LoadTimes()

    def done(self, record: StepRecord) -> None:
        """Close a step: note its times, and look at memory where that is due."""
        self.timing.log(record)
        if self._memory is not None:
            self._memory.after_step(record.step)
        if self._promise is not None:
            self._count(record.step, self._promise)

    def note(self, kind: str, content: Mapping[str, object], *, line: str = "") -> None:
        """Write down what is told between two steps and is no time, in the timing log and the run's."""
        self.timing.note(kind, content, line=line)
        if line:
            self._journal.line(line)

    def step(self, record: StepRecord, *, loss: float, samples: int) -> None:
        """Tell of a step.

        Args:
            record: of it.
            loss: mean over the ranks.
            samples: that all ranks have taken by now.
        """
        data_ms = self.timing.data_ms()
        per_second = self._rate.since_last(samples)
        load_ms = self._load_ms()
        total, rate = self._parts.total_steps, record.learning_rate
        progress = Progress(record.step, total, loss, rate, per_second, data_ms, load_ms)
        self._note(progress, steady_loss=self._steady(loss))
        self._journal.line(progress.as_line())
        self._journal.scalars(
            record.step,
            {
                "train/loss": loss,
                "train/learning_rate": rate,
                "train/samples_per_second": per_second,
                "train/data_ms": data_ms,
                "train/load_ms": load_ms,
                **self._terms(),
            },
        )
        self._observer.stepped(progress)

    @contextlib.contextmanager
    def beside(self, name: str) -> Iterator[None]:
        """Count the time of the block beside that of the steps."""
        start = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - start
            self.outside[name] += taken
            self.timing.beside(name, taken)

    def validated(self, step: int, result: Validation, *, is_quick: bool) -> None:
        """Tell of the scores of a validation."""
        self._journal.validation(step, result)
        self._observer.validated(step, result)
        if not is_quick:
            self._evidence.validations.append((step, result.score))

    def picture(self, step: int, image: Frames) -> None:
        """Tell of a picture that was saved."""
        self._journal.picture(step, image)

    def end(self, saving: Saving, *, last_step: int, skipped_steps: int | None) -> None:
        """Say what the whole has taken, and check it: ``verification.json``."""
        beside = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.outside.items())
        self._journal.line(f"beside {self.seconds:.1f} s of steps: {beside}")
        if not self._ranks.is_main:
            return
        evidence, parts = self._evidence, self._parts
        if parts.cache is not None:
            stats = parts.cache.stats()
            evidence.cache_hit_rate = stats.hit_rate
            self._journal.line(format_cache_stats(stats))
            self._observer.message(format_cache_stats(stats))
        evidence.steps = last_step - self._first_step + 1
        evidence.epochs = evidence.steps * parts.accumulation / parts.batches_per_epoch
        evidence.skipped_steps = skipped_steps
        evidence.weights_are_finite = all(bool(p.isfinite().all()) for p in parts.model.parameters())
        if saving.has(last_step):
            path = saving.path(last_step)
            evidence.checkpoint_bytes = path.stat().st_size
            try:
                evidence.reload_differences = reload_differences(path, saving.in_memory())
            except CheckpointError as error:
                evidence.reload_error = str(error)
        if parts.device.type == "cuda":
            evidence.gpu_peak_bytes = torch.cuda.max_memory_reserved(parts.device)
            evidence.gpu_total_bytes = torch.cuda.mem_get_info(parts.device)[1]
        if self._promise is not None:
            evidence.promise = self._promise.end()
        checks = verify(evidence)
        for line in as_lines(checks):
            self._journal.line(line)
        document = json.dumps(as_document(checks), indent=2, ensure_ascii=False, allow_nan=False)
        write_text(parts.config.log.save_dir / "verification.json", document + "\n")
        self._observer.verified(checks)

    @property
    def promise(self) -> PromiseOutcome | None:
        """What has come of PROMISE, once the run has ended; None where nothing is promised."""
        return self._evidence.promise

    def close(self) -> None:
        """Close the files."""
        self.timing.close()
        self._journal.close()

    def _promise_watch(self, clock: Clock, hardware: str | None) -> PromiseWatch | None:
        """Return who looks whether PROMISE is kept; None where there is none, and on other ranks."""
        promised, device = self._parts.config.promise, self._parts.device
        if not promised.is_given or not self._ranks.is_main:
            return None
        has_gpu = device.type == "cuda"
        return PromiseWatch(
            promised,
            clock=clock,
            samples_per_step=self._parts.effective_batch,
            peak_bytes=(lambda: torch.cuda.max_memory_reserved(device)) if has_gpu else None,
            hardware=hardware,
            tell=self._tell_of_promise,
        )

    def _tell_of_promise(self, outcome: PromiseOutcome) -> None:
        self._journal.line(outcome.as_line())
        if outcome.is_kept is False:
            self._observer.message(outcome.as_line())

    def _count(self, step: int, promise: PromiseWatch) -> None:
        """Have a step count that is of the clips that were promised for: the largest of the schedules."""
        if self._parts.clip_size_at(step) == largest_clip(self._parts.config.data):
            promise.after_step()
        else:
            promise.pause()

    def _memory_watch(self) -> MemoryWatch | None:
        """Return who looks at memory; None where LOG.MEMORY_EVERY_STEPS is 0."""
        parts, ranks = self._parts, self._ranks
        if not parts.config.log.memory_every_steps:
            return None
        own = Owner("main", os.getpid()) if ranks.world_size == 1 else Owner("rank", os.getpid(), ranks.rank)
        device, cache = parts.device, parts.cache
        has_gpu = device.type == "cuda"
        return MemoryWatch(
            parts.config.log.memory_every_steps,
            monitor=MemoryMonitor(
                own,
                cuda=(lambda: cuda_memory(device)) if has_gpu else None,
                cuda_reserved=(lambda: torch.cuda.memory_reserved(device)) if has_gpu else None,
                cache_bytes=None if cache is None else lambda: cache.stats().bytes,
            ),
            notes=self,
            warn=own_warning(self._observer, ranks),
            advice=RunAdvice(parts),
            ranks=ranks,
        )

    def _note(self, progress: Progress, *, steady_loss: float) -> None:
        """Keep what the checks at the end look at."""
        evidence = self._evidence
        evidence.losses.append((progress.step, progress.loss))
        evidence.steady_losses.append(steady_loss)
        evidence.clip_sizes.append(self._parts.clip_size_at(progress.step))
        evidence.samples_per_second.append(progress.samples_per_second)
        if progress.samples_per_second > 0:
            evidence.step_ms.append(1e3 * self._parts.effective_batch / progress.samples_per_second)
        if progress.data_ms is not None:
            evidence.data_ms.append(progress.data_ms)
        if self._vitals is not None:
            evidence.vitals.append(self._vitals.look())

    def _steady(self, loss: float) -> float:
        """Return the loss without the terms that are not in every step, as the mean over the ranks."""
        rare = self._objective.rare_terms()
        if not rare:
            return loss
        own = sum(float(value) for name, value in self._objective.terms().items() if name not in rare)
        return self._ranks.mean(own)

    def _terms(self) -> dict[str, float | None]:
        """Return the terms of the loss on this rank, where there are several."""
        terms = self._objective.terms()
        return {f"train/loss/{name}": float(value) for name, value in terms.items() if len(terms) > 1}

    def _load_ms(self) -> float | None:
        """Return what reading a sample has cost since the last report, whichever process has read it [ms]."""
        times = self.load_times
        taken = 1e3 * times.seconds / times.samples if times.samples else None
        self._loaded.seconds += times.seconds
        self._loaded.samples += times.samples
        times.seconds, times.samples = 0.0, 0
        return taken


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
