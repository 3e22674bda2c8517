"""How the steps of a run are timed: phases, modules, and what reducing gradients over the ranks costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deblurkit.config.sections.run import LogSection
from deblurkit.language import Language, resolve_language
from deblurkit.timing.communication import ROW, CommunicationReader
from deblurkit.timing.logger import TimingLogger, set_global_timing_logger
from deblurkit.timing.module_rows import module_rows
from deblurkit.timing.module_times import ModuleTimes
from deblurkit.timing.overhead import hook_mark_cost_us
from deblurkit.timing.scalars import Scalars
from deblurkit.training.distributed import ALONE, Ranks
from deblurkit.training.step import StepRecord

if TYPE_CHECKING:
    from torch import nn

    from deblurkit.timing.clock import Clock
    from deblurkit.training.observer import Observer

PHASE_NAMES: dict[Language, dict[str, str]] = {
    "en": {},
    "zh": {
        "data": "数据加载",
        "transfer": "数据传输",
        "forward": "前向传播总耗时",
        "loss": "损失计算",
        "backward": "反向传播总耗时",
        "optimizer": "优化器更新",
    },
}


BESIDE_NAMES: dict[Language, dict[str, str]] = {
    "en": {},
    "zh": {"validation": "验证", "checkpoints": "保存检查点", "sample loading": "样本读取"},
}


class RunTiming:
    """Times the steps of a run as LOG asks for it.

    Args:
        log: section of the configuration.
        model: whose modules are timed, if LOG.TIMING_MODULE_DEPTH asks for any.
        clock: of the device.
        folder: of the files.
        first_step: number of the first step.
        samples_per_step: of all ranks.
        is_compiled: whether the network runs as a graph, in which there are no modules.
        scalar: takes (tag, milliseconds, step) of the phases, now and then.
        observer: told what is shown, and what is not measured.
        called: gives what the last step has called, where that is not ``model``.
        ranks: this process's place; every rank writes files of its own.
        started_at: unix time in the files' names, the same on every rank.

    Attributes:
        phase_names: what each phase is called in the log, where that is not its own name.
        module_times: for the step loop; None where modules are not timed.
    """

    def __init__(
        self,
        log: LogSection,
        model: nn.Module,
        *,
        clock: Clock,
        folder: Path,
        first_step: int,
        samples_per_step: int,
        is_compiled: bool,
        scalar: Callable[[str, float, int], None],
        observer: Observer,
        called: Callable[[], nn.Module] | None = None,
        ranks: Ranks = ALONE,
        started_at: float | None = None,
    ) -> None:
        language = resolve_language(log.language if log.timing_language == "auto" else log.timing_language)
        self.phase_names = PHASE_NAMES[language]
        self._language: Language = language
        self._observer = observer
        self._communication = CommunicationReader(called if called is not None else lambda: model)
        self.module_times: ModuleTimes | None = None
        self._is_on = log.enable_timing_log
        self._logger = TimingLogger(
            folder,
            enable_console=log.enable_timing_log and log.timing_console and ranks.is_main,
            enable_file=log.enable_timing_log and log.timing_file,
            console_update_interval=log.timing_console_interval,
            file_flush_interval=log.timing_file_interval,
            clock=clock,
            first_step=first_step,
            rank=ranks.rank,
            world_size=ranks.world_size,
            started_at=started_at,
            samples_per_step=samples_per_step,
            show=observer.timed,
            csv=log.enable_timing_log and log.timing_csv,
            trace_steps=log.timing_trace_steps if log.enable_timing_log else 0,
            budget_percent=log.timing_budget_percent,
            on_over_budget=self._thin_out,
            warn=observer.warning,
            outputs=[Scalars(scalar, interval=log.timing_console_interval)] if log.enable_timing_log else [],
        )
        self._mark_cost_us = 0.0
        self._marks = 0
        if log.enable_timing_log:
            set_global_timing_logger(self._logger)
            self.module_times = self._watched(log, model, clock, language, is_compiled=is_compiled)
            if self.module_times is not None:
                self._mark_cost_us = hook_mark_cost_us(clock)

    def log(self, record: StepRecord) -> None:
        """Close a step."""
        self._logger.log_spans(record.spans)
        found = self._communication.read()
        if found is not None:
            self._logger.log(f"{self._name('backward')}/{ROW}", found.exposed_ms)
        if self.module_times is not None:
            marks, self._marks = self.module_times.marks - self._marks, self.module_times.marks
            self._logger.add_overhead(self._mark_cost_us * marks)
        self._logger.step()

    def beside(self, name: str, seconds: float, *, count: int = 1) -> None:
        """Write down what was done beside the steps: ``validation``, ``checkpoints``, ``sample loading``."""
        self._logger.beside(BESIDE_NAMES[self._language].get(name, name), seconds, count=count)

    def note(self, kind: str, content: Mapping[str, object], *, line: str = "") -> None:
        """Write down what is no time: ``memory``, ``memory_warning``."""
        self._logger.note(kind, content, line=line)

    def restart(self) -> None:
        """Begin the next step's wall time now."""
        self._logger.restart()

    def data_ms(self) -> float | None:
        """Return what the latest step waited for data, None where steps are not timed."""
        latest = self._logger.latest if self._is_on else None
        return None if latest is None else latest.milliseconds.get(self._name("data"))

    def close(self) -> None:
        """Write what is pending and close the files."""
        set_global_timing_logger(None)
        if self.module_times is not None:
            self.module_times.remove()
        self._logger.close()

    def _name(self, phase: str) -> str:
        return self.phase_names.get(phase, phase)

    def _watched(
        self, log: LogSection, model: nn.Module, clock: Clock, language: Language, *, is_compiled: bool
    ) -> ModuleTimes | None:
        if not log.timing_module_depth and log.timing_module_pattern is None:
            return None
        if is_compiled:
            self._observer.message("modules are not timed: a compiled network has none; phases are")
            return None
        depth = None if log.timing_module_pattern is not None else log.timing_module_depth
        rows = module_rows(model, depth=depth, pattern=log.timing_module_pattern, language=language)
        return ModuleTimes(rows, clock, forward=self._name("forward"), backward=self._name("backward"))

    def _thin_out(self, percent: float) -> None:
        """Time fewer modules, as timing has cost more than it may."""
        if self.module_times is None or not self.module_times.num_modules:
            return
        left = self.module_times.thin_out()
        still = f"{left} modules are still timed" if left else "only phases are timed from here on"
        self._observer.message(
            f"timing took {percent:.1f} % of a step, more than LOG.TIMING_BUDGET_PERCENT: {still}"
        )
