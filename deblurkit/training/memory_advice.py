"""What frees memory while a run goes on: settings of the run, as its configuration has them now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deblurkit.memory.containers import Container, large_containers
from deblurkit.training import out_of_memory
from deblurkit.training.parts import RunParts

_MOST = 3


class RunAdvice:
    """What can be done about a run's memory.

    Args:
        parts: of the run.
    """

    def __init__(self, parts: RunParts) -> None:
        self._parts = parts

    def for_host(self) -> Sequence[str]:
        """Return the settings that free memory of the machine, as options of the command line."""
        found = list(self._of_loading())
        if self._parts.device.type == "cpu":
            remedies = out_of_memory.remedies(self._parts.config)
            found += [remedy.as_options() for remedy in remedies]
        return found[:_MOST]

    def for_gpu(self) -> Sequence[str]:
        """Return the settings that free memory of a GPU, as options of the command line."""
        remedies = out_of_memory.remedies(self._parts.config)
        return [remedy.as_options() for remedy in remedies[:_MOST]]

    def containers(self) -> Sequence[Container]:
        """Return the large Python containers of the training clips."""
        return large_containers(self._parts.clips, name="clips")

    def _of_loading(self) -> Iterator[str]:
        config, workers = self._parts.config, self._parts.workers.train
        ahead = config.dataloader.train_prefetch_factor
        if self._parts.cache is not None:
            now = config.data.cache_size_gb
            yield f"--set DATA.CACHE_SIZE_GB={now / 2:g} (now {now:g})"
        if workers > 1:
            yield f"--set DATALOADER.TRAIN_WORKERS={workers // 2} (now {workers} a process)"
        if workers and ahead > 1:
            yield f"--set DATALOADER.TRAIN_PREFETCH_FACTOR={ahead - 1} (now {ahead})"
