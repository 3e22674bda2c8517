"""Times as scalars, for TensorBoard or whatever else takes (tag, value, step)."""

from __future__ import annotations

from collections.abc import Callable

from deblurkit.timing.records import UNACCOUNTED, StepTiming


class Scalars:
    """Sends the times of every so many steps as ``timing/{name}`` in milliseconds.

    Args:
        add_scalar: a ``SummaryWriter``'s method, or a function like it: tag, value, step.
        interval: steps from one to the next.
        depth: levels of names that are sent; 1 is the phases alone.
    """

    def __init__(
        self, add_scalar: Callable[[str, float, int], object], *, interval: int = 10, depth: int = 1
    ) -> None:
        self._add_scalar = add_scalar
        self._interval = max(1, interval)
        self._depth = depth

    def write_step(self, timing: StepTiming) -> None:
        """Send one step, if it is its turn; rows that were not measured are left out."""
        if timing.step % self._interval:
            return
        for name, milliseconds in timing.milliseconds.items():
            if name.count("/") < self._depth:
                self._add_scalar(f"timing/{name}", milliseconds, timing.step)
        self._add_scalar(f"timing/{UNACCOUNTED}", timing.unaccounted_ms, timing.step)
        self._add_scalar("timing/step", timing.wall_ms, timing.step)

    def close(self) -> None:
        """Do nothing: the writer is its owner's to close."""
