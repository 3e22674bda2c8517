"""What PyTorch has allocated on a GPU, written to a file where it runs out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from deblurkit.config.schema import Config
from deblurkit.training.distributed import Ranks
from deblurkit.training.out_of_memory import is_out_of_memory
from deblurkit.training.parts import pick_device

_MOST_ENTRIES = 100_000  # allocations and frees that are remembered: some 100 MiB of host memory
VIEWER = "https://docs.pytorch.org/memory_viz"


def configured_snapshot(
    config: Config, ranks: Ranks, *, tell: Callable[[str], None]
) -> contextlib.AbstractContextManager[None]:
    """Return what `snapshot_on_out_of_memory` does for a run, if LOG.MEMORY_SNAPSHOT asks for it."""
    if not config.log.memory_snapshot:
        return contextlib.nullcontext()
    device = pick_device(config.train.device, local_rank=ranks.local_rank)
    folder = config.log.save_dir / "logs"
    return snapshot_on_out_of_memory(folder, rank=ranks.rank, device=device, tell=tell)


@contextlib.contextmanager
def snapshot_on_out_of_memory(
    folder: Path,
    *,
    rank: int,
    device: torch.device,
    tell: Callable[[str], None],
    memory: Any = None,
    now: Callable[[], float] = time.time,
) -> Iterator[None]:
    """Have PyTorch remember what it allocates in the block, and write that down if a GPU's memory runs out.

    The file, ``memory_{unix time}.rank{rank}.pickle``, is for PyTorch's viewer.

    Args:
        folder: of the file; made if missing.
        rank: of this process.
        device: that it computes on; but for a GPU there is nothing to remember.
        tell: takes where the file is, or why there is none.
        memory: ``torch.cuda.memory``, or what tests put in its place.
        now: Unix seconds.
    """
    if device.type != "cuda":
        tell(f"LOG.MEMORY_SNAPSHOT: PyTorch remembers allocations of a GPU alone; none are on {device}")
        yield
        return
    memory = torch.cuda.memory if memory is None else memory
    memory._record_memory_history(max_entries=_MOST_ENTRIES)
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error) or (error.__cause__ is not None and is_out_of_memory(error.__cause__)):
            tell(_written(folder / f"memory_{int(now())}.rank{rank}.pickle", memory))
        raise
    finally:
        memory._record_memory_history(enabled=None)


def _written(path: Path, memory: Any) -> str:
    """Write the snapshot and return what to say of it; an error here must not hide the one that it is of."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        memory._dump_snapshot(str(path))
    except (OSError, RuntimeError) as error:
        return f"the snapshot of the GPU's memory could not be written to {path}: {error}"
    return f"what PyTorch had allocated is in {path}; open it with {VIEWER}"
