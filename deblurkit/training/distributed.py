"""The processes that train together: who is who, what they tell each other, and who sums gradients."""

from __future__ import annotations

import contextlib
import datetime
import gc
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from deblurkit.errors import DeblurkitError, LostPeer
from deblurkit.units import plural

STORE = "DEBLURKIT_STORE"  # a file by which the processes of one machine find each other, without a port
_FAREWELL = 10.0  # seconds that leaving may take after an error
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train together.

    Attributes:
        rank: its number among ``world_size``.
        local_rank: its number among the ``local_world_size`` of its machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes what a run writes once."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Return what every rank has passed in, by rank; all have to call it, with plain values or tensors.

        Values travel as `torch.save` makes them and are read without executing anything.
        """
        if self.world_size == 1:
            return [value]
        packed = _packed(value)
        size = torch.tensor([len(packed)])
        sizes = [torch.zeros_like(size) for _ in range(self.world_size)]
        dist.all_gather(sizes, size)
        longest = max(int(other) for other in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(packed)] = packed
        parts = [torch.zeros_like(padded) for _ in range(self.world_size)]
        dist.all_gather(parts, padded)
        return [_unpacked(part[: int(own)]) for part, own in zip(parts, sizes, strict=True)]

    def from_main(self, value: Any) -> Any:
        """Return what rank 0 has passed in; all have to call it."""
        return self.gather(value if self.is_main else None)[0]

    def from_rank(self, value: Any, *, source: int) -> Any:
        """Return what rank ``source`` has passed in, which it alone sends; all have to call it."""
        if self.world_size == 1:
            return value
        packed = _packed(value if self.rank == source else None)
        size = torch.tensor([len(packed)])
        dist.broadcast(size, src=source)
        content = packed if self.rank == source else torch.zeros(int(size), dtype=torch.uint8)
        dist.broadcast(content, src=source)
        return _unpacked(content)

    def mean(self, value: float) -> float:
        """Return the mean over the ranks; all have to call it."""
        if self.world_size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total) / self.world_size

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block on rank 0, then on the others: what it writes, they find."""
        if not self.is_main:
            self.wait()
        try:
            yield
        finally:
            if self.is_main:
                self.wait()

    def wait(self) -> None:
        """Return once every rank has come here."""
        self.gather(0)


ALONE = Ranks()


class Vote:
    """Asks all ranks the same question in every step, and has the answer a step later: nobody waits for it.

    Args:
        ranks: that all call `ask` as often.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._asked: tuple[Tensor, Any] | None = None

    def ask(self, value: int) -> int:
        """Return the largest value that any rank has passed in the call before this one (alone: in this)."""
        if self._ranks.world_size == 1:
            return value
        answer = 0
        if self._asked is not None:
            before, work = self._asked
            work.wait()
            answer = int(before)
        now = torch.tensor(value)
        self._asked = now, dist.all_reduce(now, op=dist.ReduceOp.MAX, async_op=True)
        return answer

    def close(self) -> None:
        """Wait for what was asked last."""
        if self._asked is not None:
            self._asked[1].wait()
            self._asked = None


def ranks_of_environment() -> Ranks:
    """Return the place that ``torchrun`` gave this process; alone without it.

    Raises:
        DeblurkitError: if the environment says half of it, or nonsense.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    try:
        rank, world_size, local_rank, local_world_size = (int(os.environ[name]) for name in _VARIABLES)
    except (KeyError, ValueError) as error:
        found = ", ".join(f"{name}={os.environ.get(name, '(missing)')}" for name in _VARIABLES)
        raise DeblurkitError(
            f"expected the variables that torchrun sets, whole numbers all of them; got {found}. Start by"
            " `deblurkit train --gpus N` or `torchrun … -m deblurkit train …`, or unset WORLD_SIZE"
        ) from error
    if not (0 <= rank < world_size and 0 <= local_rank < local_world_size <= world_size):
        raise DeblurkitError(
            f"RANK={rank}, WORLD_SIZE={world_size}, LOCAL_RANK={local_rank},"
            f" LOCAL_WORLD_SIZE={local_world_size} do not fit together; start by torchrun"
        )
    return Ranks(rank, world_size, local_rank, local_world_size)


@contextlib.contextmanager
def joined(ranks: Ranks, *, timeout_minutes: float, device: str = "auto") -> Iterator[Ranks]:
    """Meet the other ranks for the block: by gloo between hosts, by NCCL between GPUs.

    Args:
        ranks: of this process.
        timeout_minutes: how long a rank waits for the others before it gives up.
        device: as TRAIN.DEVICE; with ``cpu``, GPUs that are there do not matter.
    """
    if ranks.world_size == 1:
        yield ranks
        return
    has_nccl = device != "cpu" and torch.cuda.is_available() and dist.is_nccl_available()
    if has_nccl:
        if ranks.local_rank >= torch.cuda.device_count():
            raise DeblurkitError(
                f"{ranks.local_world_size} processes on this machine, and PyTorch finds"
                f" {plural(torch.cuda.device_count(), 'GPU')}: start one process a GPU (see `nvidia-smi`)"
            )
        torch.cuda.set_device(ranks.local_rank)
    store = os.environ.get(STORE)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if has_nccl else "gloo",
            init_method="env://" if store is None else f"file://{store}",
            rank=ranks.rank,
            world_size=ranks.world_size,
            timeout=datetime.timedelta(minutes=timeout_minutes),
        )
    except (RuntimeError, ValueError) as error:
        raise DeblurkitError(
            f"rank {ranks.rank} of {ranks.world_size} could not meet the others ({_first_line(error)}); check"
            " MASTER_ADDR, MASTER_PORT and that every node was started"
        ) from error
    try:
        yield ranks
        gc.collect()  # a wrapped network's threads have to end before the group does
        ranks.wait()  # by gloo, which needs no GPU for it
    except BaseException:
        _leave_in_time()
        raise
    dist.destroy_process_group()


def _leave_in_time() -> None:
    """Leave the group after an error, which is told of even where leaving waits for a rank that is lost."""
    leaving = threading.Thread(target=dist.destroy_process_group, name="deblurkit-leave", daemon=True)
    leaving.start()
    leaving.join(timeout=_FAREWELL)


@contextlib.contextmanager
def told_of_lost_peers(ranks: Ranks) -> Iterator[None]:
    """Have what only says that another rank has ended come out of the block as that.

    Raises:
        LostPeer: instead of PyTorch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if ranks.world_size == 1 or not is_loss_of_peer(error):
            raise
        reason = _first_line(error)
        raise LostPeer(f"rank {ranks.rank}: another rank has ended or does not answer ({reason})") from error


def is_loss_of_peer(error: BaseException) -> bool:
    """Return whether an error only says that another rank has ended: that rank knows the reason."""
    if not isinstance(error, RuntimeError) or not dist.is_available():
        return False
    text = str(error).casefold()
    if "out of memory" in text:  # its own
        return False
    signs = ("connection closed by peer", "connection reset", "broken pipe", "gloo", "nccl", "socket")
    return isinstance(error, dist.DistError) or any(sign in text for sign in signs)


def summing(module: nn.Module, *, device: torch.device, accumulation: int) -> nn.Module:
    """Return ``module`` with gradients averaged over the ranks, which share their memory with the buckets.

    Args:
        module: on its device; unchanged where this process is alone, or where it is sharded (`sharding`):
            then it reduces its gradients itself.
        device: of its weights.
        accumulation: micro-steps of a step. With one, the graph is static: what gets a gradient changes only
            where a module is wrapped anew. With more, DDP cannot take it so: its first pass has to sum.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return module
    if isinstance(module, FSDPModule):
        return module
    return DistributedDataParallel(
        module,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        static_graph=accumulation == 1,
    )


def without_sum(module: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a micro-step that is not the last: its gradients stay on this rank for now.

    Those of a sharded network are whole until the last micro-step cuts them.
    """
    if isinstance(module, FSDPModule):
        return _unreduced(module)
    return module.no_sync() if isinstance(module, DistributedDataParallel) else contextlib.nullcontext()


@contextlib.contextmanager
def _unreduced(module: FSDPModule) -> Iterator[None]:
    module.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        module.set_requires_gradient_sync(True)


def _packed(value: Any) -> Tensor:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _unpacked(content: Tensor) -> Any:
    return torch.load(io.BytesIO(content.numpy().tobytes()), map_location="cpu", weights_only=True)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
