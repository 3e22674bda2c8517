"""Reader of the reports of Lightning's SimpleProfiler: totals of a run by action.

``|  action<tab>|  mean (s)<tab>|  calls<tab>|  total (s)<tab>|  percent<tab>|``, or action, mean and total.
Actions lie inside each other and the report does not say which in which: those whose names tell are put in
their place, the others are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.formats.scalar_names import number
from deblurkit.analysis.tables import RunLog, StepRows, is_duration
from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import Beside
from deblurkit.units import plural

_TITLE = b" Profiler Report"
_BAR = re.compile(rb"\t\|\s*")
_HEADER = re.compile(rb"^\|\s+Action\s+\|\s+Mean duration", re.MULTILINE)
_STEP = "run_training_batch"
_LOOP = "run_training_epoch"

# Endings of the actions' names, in Lightning 2 and 1, that are phases of a step.
_PHASES = {
    "data": ("train_dataloader_next", "train_next", "get_train_batch"),
    "transfer": ("batch_to_device",),
    "forward": (".training_step", "model_forward"),
    "backward": (".backward", "model_backward"),
    "optimizer": (".optimizer_step", "optimizer_step_with_closure_0"),
}
# Inside optimizer_step, which calls the training step and the backward pass too.
_IN_OPTIMIZER = (
    "optimizer_zero_grad",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
    "clip_gradients",
)
_IN_STEP = ("on_train_batch_start", "on_train_batch_end")
_BESIDE = {"validation": (".validation_step", "val_next"), "checkpoints": ("save_checkpoint",)}


@dataclass(frozen=True)
class Action:
    """A row of the report; seconds in all, and how often it was called."""

    name: str
    seconds: float
    calls: int


def looks_like_lightning_simple(head: bytes) -> bool:
    """Return whether a table of the SimpleProfiler is in the first bytes of a file."""
    return b"Mean duration" in head and _HEADER.search(head) is not None


def read_lightning_simple(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the means of a step from the last report that holds training steps.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if no report in it holds a training step.
    """
    reports: list[list[Action]] = []
    damaged = 0
    for line in lines:
        if _HEADER.match(line) is not None or _TITLE in line:
            reports.append([])
        elif line.startswith(b"|") and b"\t|" in line and reports:
            action = _action(line)
            if action is None:
                damaged += 1
            elif action.name != "Total":
                reports[-1].append(action)
    with_steps = [actions for actions in reports if _steps(actions)]
    if not with_steps:
        raise DeblurkitError(
            f"{source}: {plural(sum(map(bool, reports)), 'profiler report')} without a training step;"
            f" expected a row {_STEP} as trainer.fit reports it; {plural(damaged, 'row')} could not be read"
        )
    return _log_of(with_steps[-1], source=source, damaged=damaged)


def _action(line: bytes) -> Action | None:
    """Return a row of 3 or 5 columns; None for a damaged one."""
    *cells, end = (cell.strip(b"| ") for cell in _BAR.split(line.rstrip(b" ")))
    if len(cells) not in (3, 5) or end:
        return None
    name = cells[0].decode("utf-8", "replace").replace("/", "|")
    total, mean = number(cells[3 if len(cells) == 5 else 2]), number(cells[1])
    if name == "Total":
        return Action(name, 0.0, 0)
    if not is_duration(total) or not is_duration(mean):
        return None
    calls = number(cells[2]) if len(cells) == 5 else total / mean if mean > 0 else 0.0
    return Action(name, total, round(calls)) if is_duration(calls) else None


def _steps(actions: list[Action]) -> int:
    """Return how many training steps a report is about."""
    named = [action for action in actions if action.name == _STEP] or list(
        _ending(actions, *_PHASES["forward"])
    )
    return max((action.calls for action in named), default=0)


def _ending(actions: Iterable[Action], *endings: str) -> Iterator[Action]:
    return (action for action in actions if action.name.endswith(endings) and "[Callback]" not in action.name)


def _log_of(actions: list[Action], *, source: str, damaged: int) -> RunLog:
    steps = _steps(actions)
    times = {name: 1e3 * seconds / steps for name, seconds in _phases(actions).items()}
    beside = tuple(_beside(actions, steps))
    loop = next((action.seconds for action in actions if action.name == _LOOP), None)
    inside = sum(part.seconds for part in beside if part.name == "validation")
    total_ms = 1e3 * max(0.0, loop - inside) / steps if loop is not None else float("nan")
    rows = StepRows()
    rows.add(steps, total_ms, times, wall_known=loop is not None)
    frame, columns = rows.frames()
    return RunLog(
        source=source,
        format="lightning-simple",
        steps=frame.assign(count=steps),
        times=columns,
        num_steps=steps,
        damaged_lines=damaged,
        notes=(
            "A report of totals, no steps: medians, stalls and warm-up cannot be known.",
            "Its actions lie inside each other; those whose place in a step is not known are left out.",
        ),
        beside=beside,
    )


def _phases(actions: list[Action]) -> dict[str, float]:
    """Return the seconds of each phase of all steps; of the optimiser's what it does not share."""
    longest: dict[str, float] = {}
    for phase, endings in _PHASES.items():
        found = [action.seconds for action in _ending(actions, *endings)]
        if found:
            longest[phase] = max(found)  # one calls the other: the strategy the module
    inner = longest.get("forward", 0.0) + longest.get("backward", 0.0)
    if longest.get("optimizer", 0.0) >= 0.98 * inner:
        longest["optimizer"] = max(0.0, longest.get("optimizer", 0.0) - inner)
    for action in actions:
        if action.name.endswith(_IN_OPTIMIZER) and "optimizer" in longest:
            longest[f"optimizer/{action.name}"] = action.seconds
        elif action.name.endswith(_IN_STEP):
            longest[f"callbacks/{action.name}"] = action.seconds
    return longest


def _beside(actions: list[Action], steps: int) -> Iterator[Beside]:
    for name, endings in _BESIDE.items():
        found = list(_ending(actions, *endings))
        if found:
            seconds = sum(action.seconds for action in found)
            yield Beside(name, seconds, max(action.calls for action in found), steps)


FORMAT = LogFormat("Lightning SimpleProfiler report", looks_like_lightning_simple, read_lightning_simple)
