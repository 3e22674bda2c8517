"""Why one of several processes ends, left in a file for the one that has started them to say once."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from deblurkit.errors import DeblurkitError, LostPeer
from deblurkit.files import write_text

PATH = "DEBLURKIT_LAST_WORDS"  # the environment's name of that file


@dataclass(frozen=True)
class LastWords:
    """What a process had to say.

    Attributes:
        message: for the user.
        exit_code: of the process.
        is_lost_peer: whether it only ended because another one did.
    """

    message: str
    exit_code: int
    is_lost_peer: bool


def leave(error: DeblurkitError) -> bool:
    """Write down why this process ends; return False where nobody reads that."""
    path = os.environ.get(PATH)
    if path is None:
        return False
    words = LastWords(str(error), error.exit_code, isinstance(error, LostPeer))
    write_text(Path(path), json.dumps(asdict(words), ensure_ascii=False))
    return True


def read(path: Path) -> LastWords | None:
    """Return what was left in a file, None where there is nothing that can be read."""
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
        return LastWords(str(words["message"]), int(words["exit_code"]), bool(words["is_lost_peer"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
