"""``deblurkit analyze-log``: where the time of a training step went, from its timing log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deblurkit.cli.options import Json
from deblurkit.errors import DeblurkitError


def analyze_log(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Timing logs, text or JSON lines; or runs' folders, or globs."),
    ],
    warmup: Annotated[
        int | None,
        typer.Option(
            "--warmup", min=0, help="Steps to leave out at the front; found by their length if not given."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say from timing logs where the time of a step goes, what limits it and what to change."""
    from deblurkit.analysis.ranks import by_rank, find_straggler
    from deblurkit.analysis.readers import read_log
    from deblurkit.analysis.report import analyze
    from deblurkit.render.analysis import report_as_text, reports_as_json

    logs = [read_log(path) for path in expanded(files)]
    reports = [analyze(log, warmup_steps=warmup) for log in logs]
    if as_json:
        typer.echo(reports_as_json(reports))
        return
    typer.echo("\n".join(report_as_text(report) for report in reports), nl=False)
    for folder, ranks in by_rank(logs).items():
        straggler = find_straggler(ranks)
        if straggler is not None:
            typer.echo(f"\n{folder}: {straggler.as_line()}")


def expanded(files: list[str]) -> list[Path]:
    """Return the paths; a run's folder stands for its timing logs, a glob for what it matches.

    Raises:
        DeblurkitError: if a glob matches nothing, or a folder holds no timing log.
    """
    import glob

    from deblurkit.analysis.readers import logs_of_run

    paths: list[Path] = []
    for name in files:
        if Path(name).is_dir():
            paths += logs_of_run(Path(name))
            continue
        if not glob.has_magic(name) or Path(name).exists():
            paths.append(Path(name))
            continue
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            raise DeblurkitError(
                f"{name}: no file matches; expected timing logs, such as outputs/*/logs/timing_*.log"
            )
        paths += map(Path, matches)
    return paths
