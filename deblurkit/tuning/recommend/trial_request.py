"""What a trial's process is asked to do, and what it answers: a JSON object each, on its way between them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from deblurkit.tuning.recommend.records import Memory, Outcome


@dataclass(frozen=True)
class TrialRequest:
    """The steps that a trial is to take.

    Attributes:
        config: the whole configuration as plain values.
        steps: that are timed, at least.
        warmup: steps before them.
        least_seconds: that the timed steps take together; at most MOST_TIMES as many are taken for that.
        use_data: take clips by the run's loader; otherwise they are random and of the configured size.
        follow_memory: on a CPU, take a further step whose tensors are followed.
        device_bytes: most that PyTorch may take of a GPU; None: all that is there.
    """

    config: Mapping[str, Any]
    steps: int = 8
    warmup: int = 2
    least_seconds: float = 1.5
    use_data: bool = False
    follow_memory: bool = False
    device_bytes: int | None = None

    def as_json(self) -> str:
        """Return it as `request_in` reads it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class TrialAnswer:
    """What came of the steps; see `records.Trial`.

    Attributes:
        outcome: what it came to.
        detail: why there are no figures; empty where there are.
        step_seconds: of each step that was timed.
        phases: median seconds of a step by phase.
        peak_bytes: most bytes of tensors in a step; None where nobody has counted.
        reserved_bytes: most that the allocator had taken of a GPU; None on a CPU.
        ran_out: the memory that ran out; None where none did.
    """

    outcome: Outcome
    detail: str = ""
    step_seconds: tuple[float, ...] = ()
    phases: Mapping[str, float] | None = None
    peak_bytes: int | None = None
    reserved_bytes: int | None = None
    ran_out: Memory | None = None

    def as_json(self) -> str:
        """Return it as `answer_in` reads it."""
        return json.dumps(asdict(self))


MOST_TIMES = 10


def request_in(text: str) -> TrialRequest:
    """Return the request that `TrialRequest.as_json` has written."""
    return TrialRequest(**json.loads(text))


def answer_in(text: str) -> TrialAnswer | None:
    """Return the answer in the last whole line of what a process has written, None where there is none."""
    for line in reversed(text.splitlines()):
        try:
            values = json.loads(line)
            answer = TrialAnswer(**{**values, "step_seconds": tuple(values["step_seconds"])})
        except (ValueError, TypeError, KeyError):
            continue
        if answer.outcome in get_args(Outcome):
            return answer
    return None
