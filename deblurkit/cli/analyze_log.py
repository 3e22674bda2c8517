"""``deblurkit analyze-log``: what a run's logs say of its time, its memory and its learning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblurkit.cli.options import Json, warn
from deblurkit.errors import DeblurkitError, UsageError

if TYPE_CHECKING:
    from deblurkit.analysis.compare import Comparison
    from deblurkit.analysis.report import Report

FAILED = 3
_LEVELS = ("moderate", "material")


def analyze_log(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Logs of any known trainer, traces, TensorBoard files, packed with gzip or not; folders of"
            " runs; globs; - for standard input.",
        ),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="A B", help="Two logs or runs: say what changed from A to B."),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on",
            metavar="LEVEL",
            help="With --compare: exit 3 if B is slower, moderate or material.",
        ),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(
            "--warmup", min=0, help="Steps to leave out at the front; found by their length if not given."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on while the log grows, until the run ends or Ctrl-C.")
    ] = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the steps as a table.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with pictures.")] = None,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Write TensorBoard events into this folder.")
    ] = None,
    perfetto: Annotated[
        Path | None, typer.Option("--perfetto", help="Write the steps as a trace for Perfetto.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say from a run's logs where its time goes, what is wrong and what to change; or compare two runs."""
    outputs = {"--csv": csv, "--html": html, "--tensorboard": tensorboard, "--perfetto": perfetto}
    _check_call(files or [], compare, fail_on, follow=follow, outputs=outputs, as_json=as_json)
    if follow:
        _follow(files or [], warmup)
        return
    _spare_the_logs([*(files or []), *(compare or ())], outputs)
    from deblurkit.analysis.compare import compare as compared
    from deblurkit.analysis.compare import fails

    reports = [_one(name, warmup) for name in compare] if compare else _all(files or [], warmup)
    comparison = compared(*reports) if compare else None
    written = _export(reports, comparison, csv=csv, html=html, tensorboard=tensorboard, perfetto=perfetto)
    told = _told(reports, comparison, as_json=as_json)
    if not as_json:
        told += "".join(f"{name}: {path}\n" for name, path in written.items())
    typer.echo(told.encode(errors="replace").decode(), nl=False)  # names of files may be no UTF-8
    if comparison is not None and fail_on is not None and fails(comparison, fail_on):
        raise typer.Exit(FAILED)


def _check_call(
    files: Sequence[str],
    compare: tuple[str, str] | None,
    fail_on: str | None,
    *,
    follow: bool,
    outputs: dict[str, Path | None],
    as_json: bool,
) -> None:
    """Raise an error if the options do not go together, or a file could not be written at the end."""
    if bool(files) == (compare is not None):
        raise UsageError("expected logs to report on, or --compare A B")
    if "" in (*files, *(compare or ())):
        raise UsageError("the name of a log is empty: is a variable of the shell unset?")
    if compare == ("-", "-"):
        raise UsageError("--compare - -: standard input can be read once only")
    if fail_on is not None and fail_on not in _LEVELS:
        raise UsageError(f"--fail-on {fail_on}: expected one of {', '.join(_LEVELS)}")
    if fail_on is not None and compare is None:
        raise UsageError("--fail-on: expected --compare A B with it")
    given = [name for name, path in outputs.items() if path is not None]
    if follow and (compare is not None or given or as_json):
        also = ", ".join([*given, *(["--json"] if as_json else []), *(["--compare"] if compare else [])])
        raise UsageError(f"--follow goes with no {also}: it shows a log that grows; run again at its end")
    _check_targets({name: target for name, target in outputs.items() if target is not None})


def _check_targets(outputs: dict[str, Path]) -> None:
    names: dict[Path, str] = {}
    for name, path in outputs.items():
        other = names.setdefault(path.absolute(), name)
        if other != name:
            raise UsageError(f"{other} and {name} name the same place, {path}")
        _check_target(name, path)


def _check_target(name: str, path: Path) -> None:
    """Raise an error if nothing can be written there; a device or a pipe would be renamed over."""
    from deblurkit.files import check_writable

    if name == "--tensorboard":
        if path.exists() and not path.is_dir():
            raise DeblurkitError(f"{name} {path}: expected a folder; this is a file")
        return
    is_device = path.exists() and not path.is_file() and not path.is_dir()
    if is_device or path.absolute().parent == Path("/dev"):  # /dev/stdout may be redirected to a file
        raise DeblurkitError(f"{name} {path}: expected the name of a file; this is a device or a pipe")
    check_writable(path)


def _spare_the_logs(files: list[str], outputs: dict[str, Path | None]) -> None:
    """Raise an error if a file that is to be written is one of those that are read."""
    logs = [path for path in expanded(files) if path.exists()]
    for name, target in outputs.items():
        if target is not None and target.exists() and any(map(target.samefile, logs)):
            raise DeblurkitError(f"{name} {target} is one of the logs, and would be lost; give another name")


def _all(files: list[str], warmup: int | None) -> list[Report]:
    from deblurkit.analysis.readers import read_all
    from deblurkit.analysis.runs import merged
    from deblurkit.analysis.several_logs import analyze_all

    return analyze_all(merged(read_all(expanded(files))), warmup_steps=warmup)


def _one(name: str, warmup: int | None) -> Report:
    """Return the report on a log, or on the first rank of a run."""
    reports = _all([name], warmup)
    return min(reports, key=lambda report: (len(report.log.steps) == 0, report.log.rank or 0))


def _follow(files: list[str], warmup: int | None) -> None:
    from deblurkit.analysis.follow import follow, newest
    from deblurkit.render.analysis import report_as_text
    from deblurkit.render.follow import show_following

    paths = expanded(files)
    timed = [path for path in paths if path.name.startswith("timing_")]  # of a run, what has every step
    last = show_following(follow(newest(timed or paths), warmup_steps=warmup))
    if last is not None and last.report is not None:
        typer.echo("\n" + report_as_text(last.report), nl=False)


def _export(
    reports: list[Report],
    comparison: Comparison | None,
    *,
    csv: Path | None,
    html: Path | None,
    tensorboard: Path | None,
    perfetto: Path | None,
) -> dict[str, Path]:
    """Write the files that were asked for; return them by what they are."""
    written: dict[str, Path] = {}
    if csv is not None:
        from deblurkit.render.exports.steps_csv import write_csv

        write_csv(reports, csv)
        written["Table"] = csv
    if html is not None:
        from deblurkit.files import write_text
        from deblurkit.render.analysis_page.page import reports_as_html

        write_text(html, reports_as_html(reports, comparison=comparison))
        written["Page"] = html
    if tensorboard is not None:
        from deblurkit.render.exports.tensorboard_folder import write_tensorboard

        write_tensorboard(reports, tensorboard)
        written["TensorBoard"] = tensorboard
    if perfetto is not None:
        from deblurkit.render.exports.perfetto import write_perfetto

        write_perfetto(reports, perfetto)
        written["Trace"] = perfetto
    return written


def _told(reports: list[Report], comparison: Comparison | None, *, as_json: bool) -> str:
    from deblurkit.render.analysis import report_as_text
    from deblurkit.render.analysis_json import reports_as_json
    from deblurkit.render.compare import comparison_as_json, comparison_as_text

    if comparison is not None:
        return comparison_as_json(comparison) if as_json else comparison_as_text(comparison)
    if as_json:
        return reports_as_json(reports) + "\n"
    return "\n".join(report_as_text(report) for report in reports)


def expanded(files: list[str]) -> list[Path]:
    """Return the paths; a run's folder stands for its logs, a glob for what it matches.

    Of several, timing logs without a finished step are left out, with a warning.

    Raises:
        DeblurkitError: if a glob matches nothing, or a folder holds no log.
    """
    import glob

    from deblurkit.analysis.readers import logs_of_run, with_steps

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
                f"{name}: no file matches; expected logs, such as outputs/*/logs/timing_*.log"
            )
        paths += map(Path, matches)
    kept = with_steps(paths)
    for path in paths:
        if path not in kept:
            warn(f"{path}: left out, as no step was finished in it")
    return kept
