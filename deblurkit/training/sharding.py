"""FSDP2: each rank keeps a part of the weights, gradients and optimiser states, and borrows the rest.

Xu et al., arXiv:2004.13336, and Rajbhandari et al., arXiv:1910.02054 (ZeRO, stage 3), by `fully_shard`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from deblurkit.training.distributed import Ranks

LEAST_SHARE = 1 / 50  # of the parameters: below it, a block is not worth messages of its own

Value = TypeVar("Value")


def shard(network: nn.Module, *, device: torch.device, ranks: Ranks) -> None:
    """Cut every parameter of ``network`` along its first side, a piece for each rank, on ``device``.

    What is whole at a time is one of `blocks_of`, and what is in none of them from the beginning of the
    forward pass to the end of the backward one. Parameters are replaced: an optimiser is built afterwards.

    Args:
        network: with the same weights on every rank.
        device: of this rank.
        ranks: those that share; all have to call this.
    """
    mesh = init_device_mesh(device.type, (ranks.world_size,))
    blocks = blocks_of(network)
    for part in (*blocks, network):
        part.register_forward_hook(_without_views)  # before the hooks of FSDP2
        fully_shard(part, mesh=mesh, reshard_after_forward=part is not network)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the parts that are made whole one after the other.

    They are the network's own children, and those of its lists, with a fiftieth of the parameters or more:
    stages, groups and the flow of VRT, levels of a U-Net. A block has to be called as a whole; its weights
    are not there for anyone else.
    """
    least = LEAST_SHARE * _values(network)
    children = [
        part
        for child in network.children()
        for part in (child.children() if isinstance(child, nn.ModuleList | nn.Sequential) else [child])
    ]
    return [part for part in children if _values(part) >= least]


def is_sharded(network: nn.Module) -> bool:
    """Return whether `shard` was called on ``network``."""
    return isinstance(network, FSDPModule)


@contextlib.contextmanager
def unsharded(network: nn.Module) -> Iterator[None]:
    """Have all of the weights on every rank in the block, for as many forward passes as each rank likes.

    A forward pass of a sharded network is a matter of all ranks; one inside the block is not. The weights
    take as much memory as in a run without sharding; gradients and optimiser states stay in pieces. All ranks
    have to enter it; a network that is not sharded stays as it is.
    """
    parts = [part for part in network.modules() if isinstance(part, FSDPModule)]
    try:
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not network, recurse=False)


@contextlib.contextmanager
def gathered(network: nn.Module, optimizer: Optimizer, *, is_main: bool) -> Iterator[None]:
    """Have ``state_dict()`` of both give whole tensors on the CPU in the block, on rank 0.

    They are what one process would have, under the same names and numbers, so that files do not depend on
    the ranks. All have to enter the block; in it rank 0 asks alone. Other ranks keep nothing. Where nothing
    is sharded, nothing is done.
    """
    if not is_sharded(network):
        yield
        return
    weights = _whole(network.state_dict(), keep=is_main)
    states = _whole(optimizer.state_dict(), keep=is_main)

    def weights_of(module: nn.Module, found: dict[str, Any], prefix: str, metadata: Any) -> None:
        found.update(weights)

    with contextlib.ExitStack() as hooks:
        hooks.callback(network.register_state_dict_post_hook(weights_of).remove)
        hooks.callback(optimizer.register_state_dict_post_hook(lambda *_: states).remove)
        yield


def cut(state: dict[str, Any], *, network: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Return a loaded checkpoint with ``model`` and ``optimizer`` cut as those here are; others unchanged.

    Args:
        state: with the whole tensors on every rank.
        network: that the weights are for; one that is not sharded takes them as they are.
        optimizer: over its parameters.
    """
    if not is_sharded(network):
        return state
    own = network.state_dict()
    weights = {name: _cut_as(own.get(name), value) for name, value in state["model"].items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    of_parameters = {
        number: {key: _cut_as(parameters[number], value) for key, value in values.items()}
        if number < len(parameters)
        else values
        for number, values in state["optimizer"]["state"].items()
    }
    return state | {"model": weights, "optimizer": state["optimizer"] | {"state": of_parameters}}


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that ranks hold pieces of; all have to ask. Any other is returned as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def are_finite(network: nn.Module) -> bool:
    """Return whether no weight is NaN or infinite; the same on all ranks, which all have to ask."""
    return all(bool(whole(weights.detach().isfinite().all())) for weights in network.parameters())


def held_values(network: nn.Module) -> int:
    """Return the number of values of the weights that this rank keeps between two steps."""
    return sum(_local(parameter).numel() for parameter in network.parameters())


def held_bytes(network: nn.Module, optimizer: Optimizer) -> int:
    """Return the bytes of weights and optimiser states on this rank between two steps."""
    states = [value for values in optimizer.state.values() for value in values.values()]
    held = [_local(tensor) for tensor in (*network.parameters(), *states) if isinstance(tensor, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in held)


def _without_views(module: nn.Module, args: Any, output: Any) -> Any:
    """Return the output as tensors of their own: in a view, the hook that FSDP2 puts there might get lost."""
    if isinstance(output, Tensor):
        return output.clone() if output._is_view() else output
    if isinstance(output, list | tuple):
        return [_without_views(module, args, part) for part in output]
    return output


def _values(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _whole(value: Value, *, keep: bool) -> Value:
    """Return plain values with whole tensors on the CPU; one tensor at a time is whole on a device.

    Where ``keep`` is false this only takes part, and pieces stay pieces.
    """
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if keep else value  # type: ignore[return-value]
    if isinstance(value, Mapping):
        return {key: _whole(part, keep=keep) for key, part in value.items()}  # type: ignore[return-value]
    return value


def _cut_as(own: Any, value: Any) -> Any:
    """Return the piece of ``value`` that ``own`` is of its own, if they are of one size."""
    if not isinstance(own, DTensor) or not isinstance(value, Tensor) or own.shape != value.shape:
        return value
    return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
