"""Published weights: read without running anything, and put into a network that they fit, whole or not at all."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from deblurkit.errors import CheckpointError

SPIKE_BRANCH = ("spike_encoder.", "spike_attention.", "fusion.")
CONTAINERS = ("params_ema", "params", "state_dict", "model")
# Made from the sizes of the network, so that a file may leave them out.
COMPUTED = re.compile(r"(^|\.)(relative_position_index|position_bias|spynet\.mean|spynet\.std)$")
_NAMED = 3

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class PretrainedReport:
    """What a file of weights brought.

    Attributes:
        path: the file.
        loaded: tensors that the network took from it.
        missing: parameters and buffers of the spike branch that keep their initial values.
    """

    path: Path
    loaded: int
    missing: tuple[str, ...] = ()

    def as_line(self) -> str:
        """Return one line for the user."""
        line = f"{self.path}: {self.loaded} tensors loaded"
        if not self.missing:
            return line
        return (
            f"{line}; {len(self.missing)} of the spike branch are not in the file and keep their initial"
            f" values ({_first(self.missing)})"
        )


def load_pretrained(model: nn.Module, path: Path) -> PretrainedReport:
    """Put the weights of a published file, or of one of our checkpoints, into ``model``; say what was loaded.

    Args:
        model: on any device and of any floating-point type; what the file holds is converted to it.
        path: a ``.pth`` or ``.pt`` of torch.save, with a state dict or one under a name of CONTAINERS (the
            first of them that is there), or a ``.safetensors``.

    Raises:
        CheckpointError: if the file cannot be read or belongs to another network; the model is as it was.
    """
    saved, own = read_weights(path), model.state_dict()
    _check_fit(own, saved, path)
    lacking = sorted(own.keys() - saved.keys())
    model.load_state_dict(_converted(saved, own, path), strict=False)
    missing = tuple(key for key in lacking if key.startswith(SPIKE_BRANCH))
    return PretrainedReport(path=path, loaded=len(saved), missing=missing)


def read_weights(path: Path) -> Weights:
    """Return the tensors of a file of weights by name, on the CPU, without a ``module.`` before all of them.

    Raises:
        CheckpointError: if it is missing or damaged, holds more than data, or holds no tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a file of weights (.pth, .pt or .safetensors), found none")
    if path.suffix not in (".pth", ".pt", ".safetensors"):
        raise CheckpointError(
            f"{path}: expected a .pth, .pt or .safetensors, got {path.suffix or 'no suffix'}"
        )
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _read_torch_file(path)
    except Exception as error:  # damage makes torch raise many kinds: OSError, EOFError, UnpicklingError …
        raise CheckpointError(f"{path}: {_what_is_wrong(error)}") from error
    weights = _tensors_in(content)
    if not weights:
        raise CheckpointError(
            f"{path}: expected tensors by name, alone or under one of {', '.join(CONTAINERS)}, found none"
        )
    if all(key.startswith("module.") for key in weights):
        return {key.removeprefix("module."): value for key, value in weights.items()}
    return weights


def _read_torch_file(path: Path) -> object:
    """Return what torch.save wrote, mapped instead of copied where the file is of the newer kind."""
    mapped = zipfile.is_zipfile(path)
    if mapped:
        with zipfile.ZipFile(path) as archive:  # torch reads past a wrong checksum in silence
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} does not match its checksum")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _what_is_wrong(error: Exception) -> str:
    """Return why a file could not be read, in one line."""
    text = str(error)
    if refused := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"expected tensors alone, found {refused[1]}, and code from a file is never run;"
            " ask its author for a .safetensors, or for a torch.save of a state dict"
        )
    operand = re.search(r"Unsupported operand \d+", text)
    reason = operand[0] if operand else (text.strip().splitlines() or [type(error).__name__])[0]
    return f"damaged, or no file of weights ({reason}); fetch it again"


def _tensors_in(content: object) -> Weights:
    """Return the tensors by name of a state dict, or of the one that the content holds."""
    if not isinstance(content, Mapping):
        return {}
    for name in CONTAINERS:
        if isinstance(content.get(name), Mapping):
            content = content[name]
            break
    return {
        key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)
    }


def _check_fit(own: Weights, saved: Weights, path: Path) -> None:
    """Raise a CheckpointError, naming keys, if the file belongs to another network."""
    shapes = [key for key in own if key in saved and own[key].shape != saved[key].shape]
    unknown = [key for key in saved if key not in own]
    lacking = [key for key in own if key not in saved and not _may_be_missing(key)]
    if shapes or unknown or lacking:
        found = [
            *_listed(
                "of other shapes than in the network", [_with_shapes(key, own, saved) for key in shapes]
            ),
            *_listed("unknown to the network", unknown),
            *_listed("not in the file", lacking),
        ]
        advice = _advice(shapes, unknown + lacking, own, saved)
        raise CheckpointError(
            f"{path}: expected weights of the network of the MODEL section; {'; '.join(found)}; {advice}"
        )
    other = [
        key for key in saved if key.endswith("relative_position_index") and not _same(own[key], saved[key])
    ]
    if other:
        raise CheckpointError(
            f"{path}: {_first(other)}: numbers the tokens of a window otherwise than the network does;"
            " set MODEL.WINDOW_SIZE to [frames, height, width] of the file"
        )


def _may_be_missing(key: str) -> bool:
    return key.startswith(SPIKE_BRANCH) or COMPUTED.search(key) is not None


def _same(own: Tensor, saved: Tensor) -> bool:
    return torch.equal(own.cpu(), saved.to(own.dtype))


def _with_shapes(key: str, own: Weights, saved: Weights) -> str:
    return f"{key} {tuple(saved[key].shape)} instead of {tuple(own[key].shape)}"


def _listed(what: str, items: list[str]) -> list[str]:
    """Return a phrase with the first items, or nothing where there are none."""
    return [f"{len(items)} {what}: {_first(items)}"] if items else []


def _first(items: Iterable[str]) -> str:
    """Return up to three items and how many more there are."""
    items = list(items)
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(items[:_NAMED]) + more
