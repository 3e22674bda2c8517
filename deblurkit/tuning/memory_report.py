"""What ``diagnose-memory`` has to say: the machine, what a run will take of it, and how one has ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deblurkit.errors import DeblurkitError
from deblurkit.memory.aftermath import Aftermath, RunEnd, aftermath, read_run_end
from deblurkit.memory.look import Look, Sources, is_seen
from deblurkit.memory.pressure import oom_counts

if TYPE_CHECKING:
    from deblurkit.tuning.run_memory import RunMemory

OUTPUTS = Path("outputs")  # where the presets put their runs
_LOCK, _RECORD = ".lock", "run.json"


@dataclass(frozen=True)
class PastRun:
    """A run that was asked about.

    Attributes:
        folder: of the run; None where only a process's number is known.
        aftermath: how it has ended, and why.
    """

    folder: Path | None
    aftermath: Aftermath


@dataclass(frozen=True)
class MemoryReport:
    """All that was found.

    Attributes:
        look: the machine.
        run: what a configuration will take of it; None where none was given.
        past: how a run has ended; None where none was asked for.
    """

    look: Look
    run: RunMemory | None = None
    past: PastRun | None = None


def past_run(folder: Path, sources: Sources) -> PastRun:
    """Return how the run in a folder has ended.

    Raises:
        DeblurkitError: if there is none in it, or its record cannot be read.
    """
    if not (folder / _RECORD).is_file():
        raise DeblurkitError(
            f"{folder}: expected the folder of a run, with a {_RECORD}; give its LOG.SAVE_DIR, or --output"
        )
    end = read_run_end(folder, hostname=sources.hostname())
    if end.status == "unknown" and end.pid is None and not end.told:
        raise DeblurkitError(
            f"{folder / _RECORD}: expected the record of a run, with its parts; it cannot be read as one, and"
            " no log beside it tells of the run"
        )
    return PastRun(folder, _explained(end, sources))


def past_process(pid: int, sources: Sources, *, outputs: Path = OUTPUTS) -> PastRun | None:
    """Return how the run of a process has ended; None where the process lives.

    Args:
        pid: its number.
        sources: who tells of the machine.
        outputs: folder of runs' folders, among which the process's is looked for.

    Raises:
        DeblurkitError: if neither a run there nor the kernel tells of it.
    """
    if is_seen(sources, pid):
        return None
    end = RunEnd("killed", None, None, None, sources.hostname(), pid, ())
    for folder in _folders_of(pid, outputs):
        end = read_run_end(folder, hostname=sources.hostname())
        return PastRun(folder, _explained(end, sources))
    found = _explained(end, sources)
    causes = tuple(cause for cause in found.causes if cause.certainty == "certain")
    if not causes:
        unread = f"; {found.unseen[0]}" if found.unseen else ""
        raise DeblurkitError(
            f"--pid {pid}: no such process, no run in {outputs}/ that it has left, and no word of it from the"
            f" kernel{unread}; expected one that lives, or give the run's folder"
        )
    return PastRun(None, Aftermath(end, causes, found.unseen))


def _folders_of(pid: int, outputs: Path) -> list[Path]:
    """Return the folders whose lock a process has left behind."""
    locks = [path for path in sorted(outputs.glob(f"*/{_LOCK}")) if (path.parent / _RECORD).is_file()]
    return [path.parent for path in locks if f"process {pid} on " in path.read_text(errors="replace")]


def _explained(end: RunEnd, sources: Sources) -> Aftermath:
    return aftermath(
        end,
        log=sources.kernel_log(),
        counts=oom_counts(sources.machine),
        booted_at=sources.booted_at,
        hostname=sources.hostname(),
    )
