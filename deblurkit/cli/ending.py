"""How a process that trains together with others ends: without taking the interpreter down under gloo."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping


class Ending:
    """The end of this process, after all else that is done at its exit.

    Threads of gloo let go of their last tensors whenever they come to it, and need the interpreter for it.
    One that finds it gone ends the process by SIGABRT, after a run that has gone well. So a rank leaves while
    the interpreter stands. What is registered first at `atexit` is done last: this comes before the imports.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._code = 1  # of an error that nobody has caught
        self._process = os.getpid()
        if environment.get("WORLD_SIZE", "1") != "1":
            atexit.register(self._leave)

    def leave(self, code: int) -> None:
        """End the process with ``code``, as `sys.exit` does."""
        self._code = code
        sys.exit(code)

    def _leave(self) -> None:
        if os.getpid() != self._process:
            return
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # nobody listens any more
                continue
        os._exit(self._code)
