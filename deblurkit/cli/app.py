"""The ``deblurkit`` command: its subcommands, and where an error becomes a line and an exit code."""

from __future__ import annotations

import os
import resource
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from deblurkit import __version__, last_words
from deblurkit.cli import (
    analyze_log,
    check_data,
    config,
    diagnose_memory,
    evaluate,
    prepare_data,
    profile_step,
    recommend_config,
    restore,
    train,
)
from deblurkit.cli.ending import Ending
from deblurkit.errors import DeblurkitError
from deblurkit.render.lasting_stream import lasting
from deblurkit.units import format_bytes

app = typer.Typer(
    name="deblurkit",
    help="Train video-deblurring networks with a spike camera, and know where the time and memory go.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_NO_ROOM = ("failed to map segment", "cannot allocate memory", "cannot create shared object descriptor")
INTERRUPTED = 130  # what shells call a process that SIGINT ended


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deblurkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("restore")(restore.restore)
app.command("analyze-log")(analyze_log.analyze_log)
app.command("check-data")(check_data.check_data)
app.command("profile-step")(profile_step.profile_step)
app.command("diagnose-memory")(diagnose_memory.diagnose_memory)
app.command("recommend-config")(recommend_config.recommend_config)
app.add_typer(prepare_data.app, name="prepare-data")
app.add_typer(config.app, name="config")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with 0 (done), 1 (our error), 2 (usage) or 3 (a check that failed)."""
    ending = Ending()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has SIGHUP ignored, and so it stays
            signal.signal(number, _leave)
    # Threads of a compute library that spin while they wait starve whoever shares the cores with them: two
    # trainings on two cores ran several times slower (benchmarks/shared_cpu.py). Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # MKL does not promise the same bits in two processes unless it is asked to (its manual, "conditional
    # numerical reproducibility"); a resumed run has to be the uninterrupted one. AUTO is as fast.
    os.environ.setdefault("MKL_CBWR", "AUTO")
    code = run(arguments)
    if signal.getsignal(signal.SIGTERM) is _leave:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # in a finalizer an exception would be a traceback
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # likewise
    for number in (signal.SIGHUP, signal.SIGUSR1):  # may be sent twice, and what was to be saved is
        if signal.getsignal(number) is _leave:
            signal.signal(number, signal.SIG_IGN)
    ending.leave(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line on ``arguments`` (the process's own by default) and return its exit code."""
    try:
        result = app(args=arguments, prog_name="deblurkit", standalone_mode=False)
    except DeblurkitError as error:
        if not last_words.leave(error):
            _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        result = INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, `head` for one, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _complain(f"{error.filename or 'output'}: {error.strerror or error}")
        return 1
    except MemoryError as error:
        _complain(f"out of memory{f': {error}' if str(error) else ''}; {_more_memory()}")
        return 1
    except ImportError as error:
        reason = _no_room(error)
        if reason is None:
            raise
        _complain(f"a library could not be loaded, for want of memory: {reason}; {_more_memory()}")
        return 1
    except Exception as error:
        if not hasattr(error, "format_message"):  # Typer's own errors: a wrong option, a missing argument
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr)
            return 2
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context is not None else ""
        message = error.format_message().rstrip(".").replace("Value error, ", "")  # pydantic's, of a choice
        _complain(f"{message}{hint}")
        return int(getattr(error, "exit_code", 2))
    if result == INTERRUPTED:  # Typer turns Ctrl-C into this code without a word
        _complain("interrupted")
    return result if isinstance(result, int) else 0


def _no_room(error: ImportError) -> str | None:
    """Return the loader's words where there was no memory for a library, None where the cause is another."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if any(words in line.lower() for words in _NO_ROOM)), None)


def _more_memory() -> str:
    """Return what can be done about memory that does not suffice."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return "see `free -h`, and ask for less"
    return (
        f"`ulimit -v` says {limit // 1024} ({format_bytes(limit)} of address space, of which a process takes"
        " far more than memory): set `ulimit -v unlimited`, or ask the batch system for more memory"
    )


def _leave(number: int, frame: FrameType | None) -> None:
    """End by an exception, so that what was begun is cleaned up."""
    raise SystemExit(128 + number)


def _complain(message: str) -> None:
    for line in message.splitlines():
        print(f"deblurkit: error: {line}", file=lasting(sys.stderr))
