"""The live view of a run: a bar with an ETA and, below it, where the time of a step goes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from deblurkit.language import resolve_language
from deblurkit.render.lasting_stream import lasting
from deblurkit.render.startup import data_loading_table, run_line
from deblurkit.timing.console import format_frame
from deblurkit.timing.records import StepTiming
from deblurkit.training.observer import Progress as RunProgress
from deblurkit.training.observer import RunPlan
from deblurkit.training.validate import Validation
from deblurkit.training.verification import Check, as_lines

LINES = 10  # progress lines that a run without a terminal prints


class TrainingDisplay:
    """Shows a run on a terminal in place, and as a few plain lines anywhere else; the observer of ``train``.

    Args:
        language: ``auto``, ``en`` or ``zh``, of the start-up table.
        console: where to; standard error by default, so that results stay alone on standard output, and as
            long as there is anyone to read it.
    """

    def __init__(self, *, language: str = "auto", console: Console | None = None) -> None:
        self.console = console if console is not None else _standard_error()
        self._language = resolve_language(language)
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._progress.add_task("train", total=None, state="")
        self._live = Live(self._progress, console=self.console, refresh_per_second=4)
        self._every = self._next_line = 1

    def __enter__(self) -> TrainingDisplay:
        """Begin drawing, if there is a terminal to draw on."""
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        if self.console.is_terminal:
            self._live.stop()

    def message(self, text: str) -> None:
        """Print a line."""
        self._print(text)

    def warning(self, text: str) -> None:
        """Print a line that says it is a warning."""
        self._print(f"deblurkit: warning: {text}", style="yellow")

    def started(self, plan: RunPlan) -> None:
        """Print the start-up table and what is trained."""
        self._print(data_loading_table(plan, language=self._language).rstrip("\n"))
        self._print(run_line(plan))
        self._progress.update(self._task, total=plan.total_steps, completed=plan.first_step - 1)
        self._every = max(1, plan.total_steps // LINES)
        self._next_line = plan.first_step - 1 + self._every

    def stepped(self, progress: RunProgress) -> None:
        """Move the bar on; without a terminal, print about ten lines a run."""
        state = f"loss {progress.loss:.4f}  {progress.samples_per_second:.1f} samples/s" + (
            "" if progress.data_ms is None else f"  data {progress.data_ms:.1f} ms"
        )
        self._progress.update(self._task, completed=progress.step, state=state)
        due = progress.step >= self._next_line or progress.step == progress.total_steps
        if due and not self.console.is_terminal:
            self._next_line = progress.step + self._every
            self._print(progress.as_line())

    def timed(self, timing: StepTiming) -> None:
        """Draw the longest phases of a step under the bar."""
        if self.console.is_terminal:
            frame = Text("\n".join(format_frame(timing)), no_wrap=True, overflow="crop")
            self._live.update(Group(self._progress, frame))

    def validated(self, step: int, result: Validation) -> None:
        """Print the scores of a validation."""
        self._print(f"step {step}: {result.as_words()}, protocol {result.way}")

    def verified(self, checks: Sequence[Check]) -> None:
        """Print how many checks passed at the end, and each that did not."""
        counts, *_ = as_lines(checks)
        self._print(f"{counts} (verification.json)")
        for check in checks:
            if check.verdict in ("warn", "fail"):
                self._print(f"  {check.as_line()}", style="yellow")

    def _print(self, text: str, *, style: str | None = None) -> None:
        self.console.print(text, style=style, markup=False, soft_wrap=True)


def _standard_error() -> Console:
    return Console(file=lasting(sys.stderr), highlight=False)
