"""A run's memory while it goes on: written down, and warned of where it leaks, is copied or runs out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from deblurkit.memory.containers import Container
from deblurkit.memory.leaks import Growth, LeakWatch, Owner
from deblurkit.memory.monitor import MemoryLook, MemoryMonitor
from deblurkit.memory.rows import NEARLY_FULL, as_line, as_row, used_share
from deblurkit.timing.records import MEMORY, MEMORY_WARNING
from deblurkit.training.distributed import ALONE, Ranks
from deblurkit.training.memory_words import copies_text, gpu_text, host_text, leak_text

SAMPLE_EVERY = 5  # steps between two samples of what grows
JUDGE_EVERY = 20  # steps between two verdicts on it
WARM_UP = 20  # steps in which allocators and workers take what they need
_CLOSE_LOOKS = 1e-3  # of the time, that looks between two lines may take
_CONFIRMED = 0.5  # of a growth: what PSS has to show of it
_ADDED = 0.25  # of the pages that a worker has for itself: above it, they are not copies alone
_LIMITS = ("ram", "cgroup")


class Notes(Protocol):
    """Who writes down what is told: the timing log."""

    def note(self, kind: str, content: dict[str, object], *, line: str = "") -> None:
        """Write an object for programs, and a line for people."""
        ...


class Advice(Protocol):
    """What a user can do; asked when there is something to tell."""

    def for_host(self) -> Sequence[str]:
        """Return the settings that free memory of the machine."""
        ...

    def for_gpu(self) -> Sequence[str]:
        """Return the settings that free memory of a GPU."""
        ...

    def containers(self) -> Sequence[Container]:
        """Return the containers of the dataset that workers copy as they read."""
        ...


class MemoryWatch:
    """Looks at memory after steps: a line every so many of them, and warnings, each once in a run.

    Leaks are looked for in what each process has of memory without files, every few steps, as that costs some
    microseconds; PSS, which takes milliseconds, has to confirm them. Between two lines it is read as often as
    a thousandth of the time allows, and so are the limits.

    Args:
        every: steps between two lines.
        monitor: who reads.
        notes: who writes.
        warn: takes what the user should not miss.
        advice: what can be done.
        ranks: the place of this process; of those of a machine, the first tells of the machine.
        clock: seconds.
    """

    def __init__(
        self,
        every: int,
        *,
        monitor: MemoryMonitor,
        notes: Notes,
        warn: Callable[[str], None],
        advice: Advice,
        ranks: Ranks = ALONE,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._every = every
        self._monitor, self._notes, self._warn, self._advice = monitor, notes, warn, advice
        self._ranks, self._clock = ranks, clock
        self._sampled, self._unshared = LeakWatch(), LeakWatch()
        self._lowest: dict[Owner, int] = {}
        self._steps = 0
        self._looked_at, self._cost = clock(), 0.0
        self._told: set[str] = set()

    def begin(self) -> None:
        """Write the first line, before the first step."""
        self._tell(self._look(None), None)

    def after_step(self, step: int) -> None:
        """Look at memory, where it is time to."""
        self._steps += 1
        is_sampled = step % SAMPLE_EVERY == 0 and self._steps >= WARM_UP
        is_line = step % self._every == 0
        if is_line or (is_sampled and self._may_look()):
            look = self._look(step)
            if is_line:
                self._tell(look, step)
        if is_sampled:
            self._sampled.add(step, self._monitor.anonymous())
            if step % JUDGE_EVERY == 0:
                self._judge(step)

    def _may_look(self) -> bool:
        """Return whether there is no look yet to compare with, or long enough ago was the last one."""
        since = self._clock() - self._looked_at
        return not self._lowest or since * _CLOSE_LOOKS >= self._cost

    def _look(self, step: int | None) -> MemoryLook:
        begun = self._clock()
        look = self._monitor.look()
        self._looked_at = self._clock()
        self._cost = self._looked_at - begun
        if step is not None and self._steps >= WARM_UP:
            held = {process.owner: process.held_bytes for process in look.processes}
            self._lowest |= {owner: min(size, self._lowest.get(owner, size)) for owner, size in held.items()}
            known = {each.owner: each.uss_bytes for each in look.workers if each.uss_bytes is not None}
            self._unshared.add(step, known)
        self._warn_of_host(look, step)
        self._warn_of_gpu(look, step)
        return look

    def _tell(self, look: MemoryLook, step: int | None) -> None:
        if look.processes:
            self._notes.note(MEMORY, as_row(look, step=step), line=as_line(look, step=step))

    def _judge(self, step: int) -> None:
        growing = [growth for growth in self._sampled.growing() if growth.owner.kind not in self._told]
        if growing:
            self._tell_of_leaks(growing, self._look(step), step)
        unshared = [] if "copies" in self._told else self._unshared.growing()
        copied = [growth for growth in unshared if self._is_copied(growth)]
        if copied:
            text = copies_text(copied, self._advice.containers())
            self._warn_once("copies", text, step, _row_of(copied[0]) | {"about": "copies"})

    def _tell_of_leaks(self, growing: Sequence[Growth], look: MemoryLook, step: int) -> None:
        """Tell of the leaks that PSS shows too; what PyTorch has reserved it counts itself."""
        now = {process.owner: process.held_bytes for process in look.processes}
        leaks = [growth for growth in growing if growth.owner.kind == "cuda" or self._shows(growth, now)]
        for growth in leaks:
            alike = sum(other.owner.kind == growth.owner.kind for other in leaks) - 1
            text = leak_text(growth, look, alike=alike, ranks=self._ranks.local_world_size)
            self._warn_once(growth.owner.kind, text, step, _row_of(growth))

    def _shows(self, growth: Growth, now: dict[Owner, int]) -> bool:
        owner = growth.owner
        if owner not in now or owner not in self._lowest:
            return False
        return now[owner] - self._lowest[owner] >= _CONFIRMED * growth.grown_bytes

    def _is_copied(self, growth: Growth) -> bool:
        """Return whether a worker has more to itself while it has hardly more: pages that it has copied."""
        return self._sampled.rise(growth.owner) < _ADDED * (growth.last_bytes - growth.first_bytes)

    def _warn_of_host(self, look: MemoryLook, step: int | None) -> None:
        """Tell of the machine, or of a control group, if it is nearly full: of the fullest one."""
        known = [(used_share(limit) or 0.0, limit) for limit in look.limits if limit.kind in _LIMITS]
        share, limit = max(known, key=lambda pair: pair[0], default=(0.0, None))
        if limit is not None and share >= NEARLY_FULL and "host" not in self._told:
            advice, ranks = self._advice.for_host(), self._ranks.local_world_size
            text = host_text(limit, share, look, advice, ranks=ranks)
            self._warn_once("host", text, step, {"about": "host", "share": share, "limit": limit.name})

    def _warn_of_gpu(self, look: MemoryLook, step: int | None) -> None:
        cuda = look.cuda
        share = 0.0 if cuda is None else 1 - cuda.free_bytes / cuda.total_bytes
        if cuda is not None and share >= NEARLY_FULL and "gpu" not in self._told:
            text = gpu_text(cuda, share, self._advice.for_gpu())
            self._warn_once("gpu", text, step, {"about": "gpu", "share": share, "limit": cuda.device})

    def _warn_once(self, about: str, text: str, step: int | None, row: dict[str, object]) -> None:
        if about in self._told:
            return
        self._told.add(about)
        if about != "host" or self._ranks.local_rank == 0:  # all ranks of a machine see that
            self._warn(text)
        when = "" if step is None else f"[Step {step}] "
        line = f"{when}WARNING: {' '.join(text.split())}"
        self._notes.note(MEMORY_WARNING, {"step": step, **row, "text": text}, line=line)


def _row_of(growth: Growth) -> dict[str, object]:
    owner = growth.owner
    return {
        "about": "leak",
        "role": owner.kind,
        "number": owner.number,
        "pid": owner.pid,
        "bytes_per_step": round(growth.slope.per_step),
    }
