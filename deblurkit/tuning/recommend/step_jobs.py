"""Steps that are predicted together: alike but for the type of the optimiser.

It changes what is held all through a step by the bytes of its states, and nothing else, so that one step on
fake tensors tells those of all types.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from deblurkit.config.schema import Config
from deblurkit.memory.tensors import StorageTracker
from deblurkit.tuning.step_memory import (
    STATES,
    DeviceKind,
    StepMemory,
    fake_place,
    make_states,
    predict_step,
)


@dataclass(frozen=True)
class StepJob:
    """A step that is to be predicted: that of the first configuration, which tells those of all.

    Attributes:
        configs: alike but for the type of the optimiser.
        device_kind: of the device that it is for.
        frame_shape: as `predict_step` takes it.
    """

    configs: tuple[Config, ...]
    device_kind: DeviceKind
    frame_shape: tuple[int, int] | None


def predict_job(job: StepJob) -> list[StepMemory]:
    """Return the memory of a step of each configuration of a job."""
    first, *others = job.configs
    step = predict_step(first, device_kind=job.device_kind, frame_shape=job.frame_shape)
    return [step, *(with_states(step, states_bytes(other)) for other in others)]


def states_bytes(config: Config) -> int:
    """Return the bytes that the optimiser of a configuration keeps from step to step."""
    with fake_place(config, device_kind="cpu") as (place, mode), StorageTracker(fake=mode) as tracker:
        make_states(place)
        states = [value for state in place.optimizer.state.values() for value in state.values()]
        tracker.assign(STATES, [value for value in states if isinstance(value, Tensor)])
        return tracker.by_owner[STATES]


def with_states(step: StepMemory, states: int) -> StepMemory:
    """Return what a step holds with an optimiser that keeps so many bytes from step to step."""
    before = sum(row.bytes or 0 for row in step.rows if row.name == STATES)
    rows, after_forward = (
        tuple(replace(row, bytes=states) if row.name == STATES else row for row in part)
        for part in (step.rows, step.after_forward)
    )
    phases = {name: size + states - before for name, size in step.phases.items()}
    return replace(step, rows=rows, after_forward=after_forward, phases=phases)
