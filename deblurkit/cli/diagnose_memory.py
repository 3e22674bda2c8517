"""``deblurkit diagnose-memory``: what the machine gives, what a run will take, and who holds the rest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblurkit.cli.options import ConfigFile, Json, Overrides, Preset, warn
from deblurkit.errors import UsageError

if TYPE_CHECKING:
    from deblurkit.config.schema import Config
    from deblurkit.memory.look import Look, Sources
    from deblurkit.tuning.memory_report import MemoryReport, PastRun
    from deblurkit.tuning.run_memory import RunMemory
    from deblurkit.tuning.verdicts import ResourceVerdict

FAILED = 3
_SHORTEST, _LONGEST = 0.2, 86400.0  # seconds from one look to the next
_THRESHOLDS = ("tight", "cannot-know", "does-not-fit")

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="RUN_FOLDER", help="The folder of a run: say how it has ended, and why."),
]
Pid = Annotated[
    int | None,
    typer.Option("--pid", min=1, help="A process: its limits and those below it; why it is gone, if it is."),
]
Watch = Annotated[
    float | None,
    typer.Option("--watch", metavar="SECONDS", help="Look again and again, until Ctrl-C."),
]
Html = Annotated[Path | None, typer.Option("--html", help="Write a page with pictures.")]
FailOn = Annotated[
    str | None,
    typer.Option(
        "--fail-on",
        metavar="VERDICT",
        help="Exit 3 if a resource is as bad: tight, cannot-know or does-not-fit.",
    ),
]
Gpus = Annotated[
    int | None, typer.Option("--gpus", min=1, help="Processes that are to train together, one a GPU.")
]


def diagnose_memory(
    folder: Folder = None,
    preset: Preset = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    gpus: Gpus = None,
    pid: Pid = None,
    watch: Watch = None,
    as_json: Json = False,
    html: Html = None,
    fail_on: FailOn = None,
) -> None:
    """Say what memory this machine gives, who holds it, what a run will take, and why one has ended."""
    is_predicted = preset is not None or config is not None
    of_a_run = {"--set": overrides, "--gpus": gpus, "--fail-on": fail_on}
    alone = {"RUN_FOLDER": folder, "--json": as_json, "--html": html, "--fail-on": fail_on}
    _check_call(folder, pid, {} if is_predicted else of_a_run)
    _check_watch(watch, alone)
    threshold = _threshold(fail_on)

    from deblurkit.config.load import load_config
    from deblurkit.files import check_writable, write_text
    from deblurkit.memory.look import Sources, look
    from deblurkit.tuning.memory_report import MemoryReport

    chosen = load_config(preset, config, overrides or [], warn=warn) if is_predicted else None
    if html is not None:
        check_writable(html)
    sources = Sources()
    past = _past(folder, pid, sources)
    alive = pid if past is None else None
    if watch is not None:
        if past is not None:
            raise UsageError(f"--watch: process {pid} has ended; leave --watch out to see why")
        _watch(sources, chosen, seconds=watch, pid=alive, gpus=gpus or 1)
        return
    seen = look(sources, pid=alive)
    run = None if chosen is None else _predicted(chosen, seen, world_size=gpus or 1)
    report = MemoryReport(seen, run, past)
    if html is not None:
        from deblurkit.render.memory_page import memory_as_html

        write_text(html, memory_as_html(report))
    typer.echo(_told(report, as_json=as_json, html=html), nl=False)
    _fail(report, threshold)


def _check_call(folder: Path | None, pid: int | None, of_a_run: Mapping[str, object]) -> None:
    """Raise a UsageError if options contradict each other, or miss the run that they are of."""
    if folder is not None and pid is not None:
        raise UsageError("RUN_FOLDER and --pid: both say which run; leave one out")
    for name, value in of_a_run.items():
        if value:
            raise UsageError(
                f"{name}: expected a configuration as well: --preset NAME (try quickstart) or --config FILE"
            )


def _check_watch(watch: float | None, alone: Mapping[str, object]) -> None:
    """Raise a UsageError for a period that is none, and for what a screen that goes on has no place for."""
    if watch is None:
        return
    if not _SHORTEST <= watch <= _LONGEST:
        raise UsageError(f"--watch {watch:g}: expected seconds from {_SHORTEST:g} to {_LONGEST:,.0f}")
    for name, value in alone.items():
        if value:
            raise UsageError(f"--watch and {name}: it goes on until Ctrl-C; leave one out")


def _threshold(given: str | None) -> str | None:
    """Return a verdict that makes the command fail, as it is written here."""
    if given is None:
        return None
    threshold = given.replace(" ", "-")
    if threshold not in _THRESHOLDS:
        raise UsageError(f"--fail-on {given}: expected one of {', '.join(_THRESHOLDS)}")
    return threshold


def _past(folder: Path | None, pid: int | None, sources: Sources) -> PastRun | None:
    """Return how the run that was asked for has ended; None where none was, or its process lives."""
    from deblurkit.tuning.memory_report import past_process, past_run

    if folder is not None:
        return past_run(folder, sources)
    return None if pid is None else past_process(pid, sources)


def _predicted(chosen: Config, seen: Look, *, world_size: int) -> RunMemory:
    """Return what a run will take and what would free most, with a word and a bar for what takes long."""
    from deblurkit.render.bar import progress_bar
    from deblurkit.tuning.run_memory import predict_run, predicting_processes, with_changes

    began = time.process_time()
    run = predict_run(chosen, seen, world_size=world_size, message=_say)
    processes = predicting_processes(run, seconds=time.process_time() - began)
    _say("predicting what changes would free …")
    with progress_bar("predictions") as on_progress:
        return with_changes(run, chosen, on_progress=on_progress, processes=processes)


def _watch(sources: Sources, chosen: Config | None, *, seconds: float, pid: int | None, gpus: int) -> None:
    from deblurkit.render.memory_watch import show_watch, watch

    judge = None if chosen is None else _judge(chosen, sources, world_size=gpus)
    frames = watch(sources, seconds=seconds, pid=pid, judge=judge)
    if show_watch(frames, seconds=seconds):
        _say(f"process {pid} has ended")


def _judge(chosen: Config, sources: Sources, *, world_size: int) -> partial[list[ResourceVerdict]]:
    """Return what gives the verdicts on a run at any look, from one prediction."""
    from deblurkit.memory.look import glance
    from deblurkit.tuning.run_memory import judged_again, predict_run

    run = predict_run(chosen, glance(sources), world_size=world_size, message=_say)
    return partial(judged_again, run)


def _told(report: MemoryReport, *, as_json: bool, html: Path | None) -> str:
    if as_json:
        from deblurkit.render.memory_json import memory_as_json

        return _as_utf8(memory_as_json(report)) + "\n"
    from deblurkit.render.memory import memory_as_text

    return _as_utf8(memory_as_text(report)) + ("" if html is None else f"\nPage: {html}\n")


def _as_utf8(text: str) -> str:
    """Return a text that can be written: names of files may be no UTF-8."""
    return text.encode(errors="replace").decode()


def _fail(report: MemoryReport, threshold: str | None) -> None:
    """Leave with the code of a check that failed, if a verdict is as bad as was asked."""
    from deblurkit.tuning.verdicts import failing

    if threshold is None or report.run is None:
        return
    bad = failing(report.run.verdicts, threshold)
    if bad:
        _say(f"--fail-on {threshold}: " + ", ".join(f"{each.name}: {each.verdict}" for each in bad))
        raise typer.Exit(FAILED)


def _say(text: str) -> None:
    """Tell what takes long, where it does not mix with results."""
    typer.echo(text, err=True)
