"""What ranks have to agree on before they train together; each was started, and looks at files, by itself."""

from __future__ import annotations

from pathlib import Path

from deblurkit.config.schema import Config, as_values
from deblurkit.errors import DeblurkitError
from deblurkit.training.distributed import Ranks
from deblurkit.training.resume import OF_LOADING, differences

_NAMED = 3
# Keys that each rank may have its own way: what its node has room for, and where it has its files.
_OF_A_NODE = (
    "LOG.SAVE_DIR",
    "LOG.LANGUAGE",
    *OF_LOADING,
    "MODEL.PRETRAINED",
    "TRAIN.DISTILL.TEACHER",
    "TRAIN.RANK_TIMEOUT_MINUTES",
    "LOSS.VGG_PERCEPTUAL.WEIGHTS",
    "LOSS.LPIPS.WEIGHTS",
)


def require_same_config(ranks: Ranks, config: Config) -> None:
    """Raise a DeblurkitError, on all ranks, if one was started with other settings that decide the result.

    Other steps, or others to stop at, would leave ranks with weights of their own, or waiting for each other.
    """
    first, *others = ranks.gather(as_values(config))
    for rank, other in enumerate(others, start=1):
        found = [change for change in differences(first, other) if not change.key.startswith(_OF_A_NODE)]
        if found:
            told = [f"{key} is {mine} on rank 0 and {its} on rank {rank}" for key, mine, its in found]
            more = f", and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
            raise DeblurkitError(
                f"ranks were started with other settings: {', '.join(told[:_NAMED])}{more}; give every node"
                " the same options"
            )


def require_same_place(ranks: Ranks, what: str, value: int | str | None, place: Path) -> None:
    """Raise a DeblurkitError, on all ranks, unless all have found the same at ``place``."""
    _require_same(
        ranks, what, value, where=f"{place}: ", advice="all nodes need the same folder (a shared file system)"
    )


def require_same_make(ranks: Ranks, what: str, value: int | str | None) -> None:
    """Raise a DeblurkitError, on all ranks, unless all have made the same of their settings."""
    _require_same(ranks, what, value, where="", advice="all nodes need the same packages and files")


def _require_same(ranks: Ranks, what: str, value: int | str | None, *, where: str, advice: str) -> None:
    found = ranks.gather(value)
    for rank, other in enumerate(found):
        if other != found[0]:
            raise DeblurkitError(
                f"{where}ranks do not see the same: {what} is {found[0] or 'none'} on rank 0 and"
                f" {other or 'none'} on rank {rank}; {advice}"
            )
