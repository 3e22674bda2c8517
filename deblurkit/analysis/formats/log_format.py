"""What a format of logs is to the registry in `deblurkit.analysis.readers`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from deblurkit.analysis.tables import RunLog

ReadLines: TypeAlias = Callable[..., RunLog]  # (lines: Iterable[bytes], *, source: str)
ReadBytes: TypeAlias = Callable[..., RunLog]  # (file: BinaryIO, *, source: str)
Recognises: TypeAlias = Callable[[bytes], bool]


@dataclass(frozen=True)
class LogFormat:
    """A format: what to call it, how to tell it by the first bytes, how to read it.

    Attributes:
        name: what messages call it.
        recognises: told the first MiB of the file: of a text format free of colour codes and NUL bytes, with
            a line feed for every line end; of a binary one as it is (decompressed).
        read: of a text format ``read(lines, source=...)`` with clean lines as bytes without their ends; of a
            binary one ``read(file, source=...)`` with a file at its beginning that can only be read on.
        is_binary: which of the two.
    """

    name: str
    recognises: Recognises
    read: ReadLines | ReadBytes
    is_binary: bool = False
