"""Predictions made ahead, side by side in processes of their own, none of which outlives who began them."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeAlias

from deblurkit.config.schema import Config
from deblurkit.data.parallel import end_with_parent, without_interrupt
from deblurkit.tuning.step_memory import StepMemory
from deblurkit.units import GIB

Predict: TypeAlias = Callable[..., StepMemory]  # as `step_memory.predict_step`
Asked: TypeAlias = tuple[Config, dict[str, Any]]  # what a prediction is called with

PROCESS_BYTES = 3 * GIB // 2  # of RAM that a process takes at most, about: 1.0 GiB measured for a VRT
_MOST = 8  # processes


class SideBySide:
    """A `Predict` that knows what it will be asked, and has begun with it; use it as a context.

    Args:
        predict: at module level, so that it can be sent to a process.
        processes: that predict at the same time.
    """

    def __init__(self, predict: Predict, *, processes: int) -> None:
        self._predict = predict
        self._others = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")  # a forked copy of a process with threads may hang
        self._pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_prepare)
        self._begun: list[tuple[Asked, Future[StepMemory]]] = []

    def __enter__(self) -> SideBySide:
        return self

    def __exit__(self, *error: object) -> None:
        for _, future in self._begun:
            future.cancel()
        for child in set(multiprocessing.active_children()) - self._others:
            child.terminate()
        self._pool.shutdown()

    def begin(self, asked: Iterable[Asked]) -> None:
        """Begin predictions that may be asked for, in this order; none is begun twice."""
        for each in asked:
            if self._found(each) is None:
                self._begun.append((each, self._submitted(each)))

    def __call__(self, config: Config, /, **about: Any) -> StepMemory:
        """Return a prediction, as soon as it is there; in this process where a child was killed.

        Raises:
            Exception: whatever the prediction has raised.
        """
        self.begin([(config, about)])
        future = self._found((config, about))
        assert future is not None
        try:
            return future.result()
        except BrokenProcessPool:  # memory may be short: one prediction at a time needs least
            return self._predict(config, **about)

    def _submitted(self, asked: Asked) -> Future[StepMemory]:
        try:
            with without_interrupt():  # the pool begins its processes when it is given work
                return self._pool.submit(_predicted, self._predict, asked)
        except BrokenProcessPool as error:
            future: Future[StepMemory] = Future()
            future.set_exception(error)
            return future

    def _found(self, asked: Asked) -> Future[StepMemory] | None:
        return next((future for known, future in self._begun if known == asked), None)


def processes_for(*, cpus: int, available_bytes: int | None) -> int:
    """Return how many processes can predict at the same time.

    Args:
        cpus: that may be used.
        available_bytes: of RAM; None where that is not known.
    """
    room = _MOST if available_bytes is None else available_bytes // PROCESS_BYTES
    return max(1, min(cpus, room, _MOST))


def _predicted(predict: Predict, asked: Asked) -> StepMemory:
    config, about = asked
    return predict(config, **about)


def _prepare() -> None:
    """Prepare a child: one thread does, and it ends when its parent does."""
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()
