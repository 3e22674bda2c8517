"""A running log on the screen: drawn in place on a terminal, a line for each news anywhere else."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deblurkit.analysis.findings import Finding
from deblurkit.analysis.follow import Recent, Update
from deblurkit.analysis.report import Report
from deblurkit.units import format_bytes, format_duration, format_ms, format_share, plural

_LEVELS = "▁▂▃▄▅▆▇█"
_BAR_CELLS = 20
_MOST_PHASES = 8
_MOST_FINDINGS = 5
_QUIET_S = 30.0
_STYLES = {"critical": "red", "warning": "yellow"}


def show_following(
    updates: Generator[Update, None, None], *, console: Console | None = None
) -> Update | None:
    """Show every update as it comes and return the last one; None where there was none.

    Args:
        updates: as `analysis.follow.follow` gives them. Ctrl-C while something is drawn is passed on to it.
        console: standard output by default.
    """
    screen = console if console is not None else Console(highlight=False)
    if not screen.is_terminal:
        return _each(updates, _LineByLine(screen).show)
    with Live(console=screen, auto_refresh=False) as live:
        return _each(updates, lambda update: live.update(follow_screen(update), refresh=True))


def follow_screen(update: Update) -> RenderableType:
    """Return what a terminal shows: newest step, curves, where the time goes, the verdict, what is wrong."""
    parts: list[RenderableType] = [Text(update.source, style="bold", no_wrap=True, overflow="ellipsis")]
    if update.report is not None and update.recent is not None:
        parts += _body(update.report, update.recent)
    footer = Text(_footer(update), style="dim")
    return Group(*parts, footer)


def follow_line(update: Update) -> str:
    """Return an update as a line: newest step, its length, the phases that take most, loss, verdict."""
    report, recent = update.report, update.recent
    if report is None or recent is None:
        return f"{update.source}: {update.notice}"
    fields = [f"step {recent.step:,}"]
    fields += [format_ms(recent.step_ms[-1])] if recent.step_ms else []
    shares = report.phases["share"].nlargest(3)
    fields += [", ".join(f"{name} {format_share(float(share))}" for name, share in shares.items())]
    fields += [f"loss {_number('loss', recent.scalars['loss'][-1])}"] if "loss" in recent.scalars else []
    fields += [
        report.verdict,
        ", ".join(finding.id for finding in report.findings),
        update.notice,
        update.end,
    ]
    return " | ".join(filter(None, fields))


def sparkline(values: Sequence[float], *, from_zero: bool = False) -> str:
    """Return a character for each value, as high as it lies between the least (or zero) and the most.

    A value that is no number is a blank.
    """
    finite = [value for value in values if math.isfinite(value)]
    most = max(finite, default=0.0)
    least = 0.0 if from_zero else min(finite, default=0.0)
    return "".join(_level(value, least, most) for value in values)


def _level(value: float, least: float, most: float) -> str:
    if not math.isfinite(value):
        return " "
    height = (value - least) / (most - least) if most > least else 0.0
    return _LEVELS[round((len(_LEVELS) - 1) * height)]


def _each(updates: Generator[Update, None, None], show: Callable[[Update], None]) -> Update | None:
    last = None
    try:
        for last in updates:
            show(last)
    except KeyboardInterrupt:
        last = updates.throw(KeyboardInterrupt())
        show(last)
    return last


class _LineByLine:
    """Prints the updates that bring something new."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._notice = ""

    def show(self, update: Update) -> None:
        """Print an update, unless it says what the one before has said."""
        if update.new_steps or update.end or update.notice != self._notice:
            self._console.print(Text(follow_line(update)), soft_wrap=True)
        self._notice = update.notice


def _body(report: Report, recent: Recent) -> Iterator[RenderableType]:
    yield Text(_headline(report, recent))
    yield Text()
    yield _curves(recent)
    if recent.phases_ms:
        yield _phases(report, recent)
    yield Text(f"Verdict: {report.verdict}")
    for finding in report.findings[:_MOST_FINDINGS]:
        yield _finding(finding)
    hidden = len(report.findings) - _MOST_FINDINGS
    if hidden > 0:
        yield Text(f"  and {plural(hidden, 'finding')} more in the report")


def _headline(report: Report, recent: Recent) -> str:
    fields = [f"step {recent.step:,}", f"{plural(report.steps, 'step')} read"]
    if "p50" in report.step_ms:
        fields.append(f"median {format_ms(report.step_ms['p50'])}")
    if report.steps_per_second is not None:
        fields.append(f"{report.steps_per_second:,.3g} steps/s")
    if report.samples_per_second is not None:
        fields.append(f"{report.samples_per_second:,.3g} samples/s")
    return "   ".join(fields)


def _curves(recent: Recent) -> Table:
    """Return a line for the length of the newest steps and for each number: newest value, curve, range."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="crop")
    if recent.step_ms:
        newest = format_ms(recent.step_ms[-1])
        grid.add_row("step", newest, Text(sparkline(recent.step_ms, from_zero=True), style="cyan"))
    for name, values in recent.scalars.items():
        grid.add_row(Text(name), _number(name, values[-1]), Text(sparkline(values), style="cyan"))
    return grid


def _phases(report: Report, recent: Recent) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("Phase", no_wrap=True, overflow="ellipsis")
    for title in ("now", "mean", "share"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name, row in report.phases.head(_MOST_PHASES).iterrows():
        now = recent.phases_ms.get(str(name))
        table.add_row(
            Text(str(name)),
            "-" if now is None else format_ms(now),
            format_ms(row["mean_ms"]),
            format_share(row["share"]),
            Text("█" * round(_BAR_CELLS * float(row["share"])), style="cyan"),
        )
    return table


def _finding(finding: Finding) -> Text:
    text = Text("  ")
    text.append(finding.severity, style=_STYLES.get(finding.severity, ""))
    return text.append(f": {finding.title} [{finding.id}]")


def _footer(update: Update) -> str:
    if update.end:
        return f"{update.end[0].upper()}{update.end[1:]}."
    quiet = f"nothing new for {format_duration(update.quiet_s)}" if update.quiet_s >= _QUIET_S else ""
    return "   ".join(filter(None, (update.notice, quiet, "Ctrl-C ends with the whole report")))


def _number(name: str, value: float) -> str:
    """Return a value as its name asks for."""
    if name.endswith("_bytes") and math.isfinite(value):
        return format_bytes(value)
    if name.endswith("_share"):
        return format_share(value)
    return f"{value:.2f} dB" if name == "psnr_db" else f"{value:.4g}"
