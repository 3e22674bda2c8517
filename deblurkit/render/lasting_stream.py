"""A text stream that outlives whoever reads it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any, TextIO, cast

_GONE = (errno.EIO, errno.EPIPE)


def lasting(stream: TextIO) -> TextIO:
    """Return a stream that writes to ``stream``, and goes quiet once nobody can read that any more.

    So it is with a terminal that was closed, or a pipe whose reader has ended: no reason to end a long run.
    """
    return cast(TextIO, _Lasting(stream))


class _Lasting:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, if there is anyone to read it."""
        with self._while_read():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, likewise."""
        with self._while_read():
            self._stream.flush()

    @contextlib.contextmanager
    def _while_read(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._go_quiet()

    def _go_quiet(self) -> None:
        """Lead the stream nowhere: what its buffer holds would be an error at the end of the process."""
        with contextlib.suppress(OSError):  # no file of the system
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
