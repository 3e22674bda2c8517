"""What a step holds where the ranks share the optimiser's states (TRAIN.PARALLEL=fsdp)."""

from __future__ import annotations

from dataclasses import replace

from deblurkit.config.schema import Config
from deblurkit.tuning.overheads import MemoryRow
from deblurkit.tuning.step_memory import STATES, StepMemory


def as_shared(step: StepMemory, config: Config, *, ranks: int) -> StepMemory:
    """Return what a step holds on one of several ranks, from what it holds where each keeps all.

    Args:
        step: of a rank that keeps all, as `predict_step` gives it.
        config: of the run; with TRAIN.PARALLEL=ddp each rank does keep all.
        ranks: that train together.
    """
    return with_shared_states(step, ranks) if config.train.parallel == "fsdp" and ranks > 1 else step


def with_shared_states(step: StepMemory, ranks: int) -> StepMemory:
    """Return what a step holds where each rank keeps a part of the optimiser's states.

    From below: of weights and gradients a rank keeps less as well, but how much there is at the peak depends
    on which are whole just then.

    Args:
        step: of a rank that keeps all.
        ranks: that share.
    """

    def shared(rows: tuple[MemoryRow, ...]) -> tuple[MemoryRow, ...]:
        return tuple(
            replace(row, bytes=-(-(row.bytes or 0) // ranks)) if row.name == STATES else row for row in rows
        )

    rows, after_forward = shared(step.rows), shared(step.after_forward)
    fewer = step.step_peak_bytes - sum(row.bytes or 0 for row in rows)
    phases = {name: size - fewer for name, size in step.phases.items()}
    return replace(step, rows=rows, after_forward=after_forward, phases=phases)
