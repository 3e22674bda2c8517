"""What is due after which step of a run, as LOG says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deblurkit.config.sections.run import LogSection


@dataclass(frozen=True)
class Due:
    """What is due after a step, counted from 1.

    Attributes:
        log: section of the configuration.
        total_steps: of the run.
        ends_epochs: tells whether so many epochs end with a step: ends_epochs(step, every=...).
    """

    log: LogSection
    total_steps: int
    ends_epochs: Callable[..., bool]

    def report(self, step: int) -> bool:
        """Return whether the loss is told."""
        return _every(step, self.log.timing_console_interval) or self._is_last(step)

    def save(self, step: int) -> bool:
        """Return whether a checkpoint is written."""
        return _every(step, self.log.save_every_steps) or self._is_last(step)

    def picture(self, step: int) -> bool:
        """Return whether a validation draws pictures."""
        return self.ends_epochs(step, every=self.log.pictures_every_epochs)

    def metrics(self, step: int) -> bool:
        """Return whether a validation measures LPIPS: every so many epochs, and at the end."""
        every = self.log.metrics_every_epochs
        return (every > 0 and self._is_last(step)) or self.ends_epochs(step, every=every)

    def validation(self, step: int) -> bool:
        """Return whether all held-out frames are restored; the last step's validation is the summary's."""
        due = _every(step, self.log.val_every_steps) or self.metrics(step) or self.picture(step)
        return due and not self._is_last(step)

    def quick_look(self, step: int) -> bool:
        """Return whether some held-out frames are restored."""
        due = _every(step, self.log.quick_val_every_steps)
        return due and not self._is_last(step) and not self.validation(step)

    def look(self, step: int) -> bool:
        """Return whether held-out frames are restored, all or some."""
        return self.validation(step) or self.quick_look(step)

    def pause(self, step: int) -> bool:
        """Return whether anything comes between a step and the next one."""
        return self.save(step) or self.look(step)

    def _is_last(self, step: int) -> bool:
        return step == self.total_steps


def _every(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
