"""Results kept from one search to the next: JSON objects, a line each, in a file of this user's alone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


def kept_folder(name: str, *, environment: Mapping[str, str] = os.environ) -> Path:
    """Return where results of a kind are kept: ``~/.cache/deblurkit/NAME``, or in XDG_CACHE_HOME."""
    base = Path(environment.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the specification has relative ones passed over
        base = Path(environment.get("HOME") or Path.home()) / ".cache"
    return base / "deblurkit" / name


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a file, oldest first: none of another user's; torn lines are passed over."""
    try:
        if path.stat().st_uid != os.getuid():
            return []
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    return [found for line in lines if (found := _object_in(line)) is not None]


def append_line(path: Path, values: Mapping[str, Any]) -> bool:
    """Add an object to a file by one write, whoever else adds to it; return whether that was possible."""
    line = (json.dumps(dict(values), ensure_ascii=False, allow_nan=False) + "\n").encode()
    try:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, line if _ends_whole(descriptor) else b"\n" + line)
        finally:
            os.close(descriptor)
    except OSError:  # a full disk or a folder that cannot be written: results are kept where they can be
        return False
    return True


def _ends_whole(descriptor: int) -> bool:
    """Return whether the last line of a file has its end; that of a killed writer may not."""
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _object_in(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) else None
    return None
