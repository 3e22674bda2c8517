"""``deblurkit recommend-config``: the fastest configuration that fits, and a promise of how fast it is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblurkit.cli.options import ConfigFile, Json, Overrides, Preset, warn
from deblurkit.cli.quantities import read_duration, read_size
from deblurkit.errors import DeblurkitError, UsageError

if TYPE_CHECKING:
    from deblurkit.config.load import Loaded
    from deblurkit.tuning.recommend.records import Candidate, Recommendation, Row, Trial

FAILED = 3
TRIALS = 10
ROUNDS = 3  # of a verification


class Change(str, Enum):
    """What a search may touch beyond what leaves training as it is."""

    ACCURACY = "accuracy"
    BF16 = "bf16"
    COMPILE = "compile"


Vram = Annotated[
    str | None,
    typer.Option(
        "--vram",
        metavar="SIZE",
        help="Memory of a GPU that may be used, such as 24GiB; on a CPU, of tensors.",
    ),
]
HostMemory = Annotated[
    str | None,
    typer.Option("--host-memory", metavar="SIZE", help="Memory of the machine for all processes of the run."),
]
Gpu = Annotated[
    str | None,
    typer.Option("--gpu", metavar="CARD", help="A card one does not have, such as a6000: a prediction."),
]
Devices = Annotated[int, typer.Option("--devices", min=1, help="GPUs at most; more than 1 is a prediction.")]
TimeBudget = Annotated[
    str | None, typer.Option("--time-budget", metavar="TIME", help="For all trials together, such as 10m.")
]
Trials = Annotated[int, typer.Option("--trials", min=0, help="Configurations that are tried, at most.")]
Allow = Annotated[
    list[Change] | None,
    typer.Option(
        "--allow",
        help="accuracy: another network or other clips; bf16, compile: on a CPU too. May be repeated.",
    ),
]
Data = Annotated[
    bool, typer.Option("--data/--synthetic", help="Trials with clips from the run's loader, or random ones.")
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Run start and recommendation in turns; exit 3 if the promise fails.")
]
Markdown = Annotated[Path | None, typer.Option("--markdown", help="Write the tables in Markdown.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write a page with the Pareto front as a picture.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the recommended configuration, for train.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Take no trial from an earlier search.")]


def recommend_config(
    preset: Preset = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    vram: Vram = None,
    host_memory: HostMemory = None,
    gpu: Gpu = None,
    devices: Devices = 1,
    time_budget: TimeBudget = None,
    trials: Trials = TRIALS,
    allow: Allow = None,
    data: Data = False,
    verify: Verify = False,
    as_json: Json = False,
    markdown: Markdown = None,
    html: Html = None,
    output: Output = None,
    fresh: Fresh = False,
) -> None:
    """Find the fastest configuration that fits, from a few trials; say how sure that is, and check it."""
    _check_call(preset, config)
    bytes_of_device = None if vram is None else read_size("--vram", vram)
    bytes_of_host = None if host_memory is None else read_size("--host-memory", host_memory)
    seconds = None if time_budget is None else read_duration("--time-budget", time_budget)
    files = _Files(markdown, html, output)

    from deblurkit.config.load import load_with_origins
    from deblurkit.tuning.recommend.stopping import Stopping

    loaded = load_with_origins(preset, config, overrides or [], warn=warn)
    files.check(start=config)
    with Stopping(told=_stop_told) as stopping:  # before the imports, which take seconds
        from deblurkit.render.bar import progress_bars
        from deblurkit.tuning.recommend.records import Budget
        from deblurkit.tuning.recommend.run import Question, recommend

        question = Question(
            loaded.config,
            Budget(bytes_of_device, bytes_of_host, trials=trials, seconds=seconds),
            allow=frozenset(change.value for change in allow or ()),
            devices=devices,
            card=gpu,
            use_data=data,
            verify_rounds=ROUNDS if verify else 0,
            fresh=fresh,
        )
        with progress_bars() as on_progress:
            found = recommend(
                question,
                message=_say,
                on_progress=on_progress,
                on_trial=_trial_teller(),
                stopping=stopping,
            )
        named = ""
        try:
            files.write(found, loaded)
            named = "" if as_json else files.named(found)
        finally:  # the answer is told, even where it cannot be written
            _tell(_told(found, loaded, as_json=as_json) + named, may_be_unread=stopping.is_asked)
    _end(found, verify=verify, signal_number=stopping.signal_number)


def _stop_told() -> None:
    _say("interrupted: the answer is what is known by now; Ctrl-C once more leaves without it")


def _tell(text: str, *, may_be_unread: bool) -> None:
    """Print the answer; after Ctrl-C, which ends the reader of a pipe as well, perhaps to nobody."""
    from deblurkit.render.lasting_stream import lasting

    out = lasting(sys.stdout) if may_be_unread else sys.stdout
    out.write(text)
    out.flush()


def _check_call(preset: str | None, config: Path | None) -> None:
    """Raise a UsageError if the options do not say what to start from."""
    if preset is None and config is None:
        raise UsageError(
            "expected what to start from: --preset NAME (try quickstart_vrt) or --config FILE;"
            " `deblurkit config show` lists the presets"
        )


@dataclass(frozen=True)
class _Files:
    """Where a recommendation is written to; None: nowhere."""

    markdown: Path | None
    html: Path | None
    output: Path | None

    def check(self, *, start: Path | None) -> None:
        """Raise now, before long work, if something cannot be written, or would take another's place.

        Args:
            start: the file that the search starts from.
        """
        from deblurkit.files import check_writable

        paths = [path for path in (self.markdown, self.html, self.output) if path is not None]
        for number, path in enumerate(paths):
            if path.resolve() in [other.resolve() for other in paths[:number]]:
                raise UsageError(f"{path}: named by two of --markdown, --html and --output; choose another")
            if start is not None and path.exists() and path.samefile(start):
                raise UsageError(f"{path} is the file of --config, and would be lost; choose another")
            check_writable(path)

    def write(self, found: Recommendation, loaded: Loaded) -> None:
        """Write what was asked for; no configuration where none fits."""
        from deblurkit.files import write_text
        from deblurkit.language import resolve_language
        from deblurkit.render.recommend_markdown import recommendation_as_markdown
        from deblurkit.render.recommend_page import recommendation_as_html

        language = resolve_language(loaded.config.log.language)
        if self.markdown is not None:
            write_text(self.markdown, recommendation_as_markdown(found, language=language))
        if self.html is not None:
            write_text(self.html, recommendation_as_html(found, language=language))
        if self.output is not None and found.best is not None:
            write_text(self.output, _yaml(found, self.output, loaded))

    def named(self, found: Recommendation) -> str:
        """Return a line for each file that was written."""
        output = None if found.best is None else self.output
        named = {"Tables": self.markdown, "Page": self.html, "Configuration": output}
        return "".join(f"{name}: {path}\n" for name, path in named.items() if path is not None)


def _yaml(found: Recommendation, path: Path, loaded: Loaded) -> str:
    import datetime

    from deblurkit.render.recommend_yaml import recommendation_as_yaml

    origins = {key: str(origin) for key, origin in loaded.origins.items()}
    command = shlex.join(["deblurkit", *sys.argv[1:]])
    date = datetime.date.today().isoformat()
    return recommendation_as_yaml(found, path=path, command=command, date=date, origins=origins)


def _told(found: Recommendation, loaded: Loaded, *, as_json: bool) -> str:
    if as_json:
        from deblurkit.render.recommend_json import recommendation_as_json

        return recommendation_as_json(found) + "\n"
    from deblurkit.language import resolve_language
    from deblurkit.render.recommend import recommendation_as_text

    return recommendation_as_text(found, language=resolve_language(loaded.config.log.language))


def _trial_teller() -> Callable[[Candidate, Trial, Row | None], None]:
    """Return what tells of each trial as it ends, with its number."""
    from itertools import count

    from deblurkit.render.recommend import trial_line

    numbers = count(1)
    return lambda candidate, trial, best: _say(trial_line(next(numbers), candidate, trial, best))


def _end(found: Recommendation, *, verify: bool, signal_number: int) -> None:
    """Leave with the code of what was interrupted, of nothing that fits, or of a promise that failed."""
    from deblurkit.training.interrupt import InterruptedRun
    from deblurkit.tuning.recommend.records import INTERRUPTED

    if found.stopped == INTERRUPTED:
        raise InterruptedRun("interrupted", signal_number)
    if found.best is None:
        from deblurkit.tuning.recommend.no_answer import why_no_answer

        raise DeblurkitError(
            why_no_answer(found)
            or f"none of {len(found.rows):,} configurations fits; see the tables for what each needs, and"
            " give more by --vram or --host-memory, or allow other networks and clips by --allow accuracy"
        )
    if verify and found.verification is None and found.best.candidate.settings:
        raise DeblurkitError(
            found.verification_error
            or "--verify: start and recommendation cannot be run in turns here: one does not fit, needs"
            " several GPUs, or is for another card; leave --verify out, or start from one that fits"
        )
    if found.verification is not None and not found.verification.keeps:
        raise typer.Exit(FAILED)


def _say(text: str) -> None:
    """Tell what goes on where it does not mix with results, above the bars that are drawn there."""
    from deblurkit.render.lasting_stream import lasting

    print(text, file=lasting(sys.stderr))  # typer.echo would write past the bars, into their line
