"""Published weights: read without running anything, put into a network that they fit, or not at all."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from deblurkit.errors import CheckpointError
from deblurkit.models.parts import part_of
from deblurkit.models.sizes import depths_of, sizes_of
from deblurkit.units import plural

CONTAINERS = ("params_ema", "params", "state_dict", "model")
# Made from the sizes of the network, so that a file may leave them out.
COMPUTED = re.compile(r"(^|\.)(relative_position_index|position_bias|spynet\.mean|spynet\.std)$")
_WINDOW = "MODEL.WINDOW_SIZE"
_NAMED = 3
_HEAD_BYTES = 512
_ZIP = b"PK\x03\x04"

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
        ValueError: if the model is on the device ``meta``, which holds no weights.
    """
    if any(tensor.is_meta for tensor in model.state_dict().values()):
        raise ValueError("a network on meta holds no weights; give it memory first, by to_empty(device=...)")
    saved, own = read_weights(path), model.state_dict()
    _check_fit(own, saved, path)
    weights = _converted(saved, own, path)
    _check_token_order(own, weights, path)
    model.load_state_dict(weights, strict=False)
    missing = tuple(key for key in own if key not in saved and part_of(key) == "spikes")
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
    _check_head(path)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _read_torch_file(path)
    except Exception as error:  # damage makes torch raise many kinds: OSError, EOFError, UnpicklingError …
        raise CheckpointError(f"{path}: {_what_is_wrong(error)}") from error
    weights = _tensors_in(content)
    if not weights:
        raise CheckpointError(
            f"{path}: expected tensors by name, alone or under one of {', '.join(CONTAINERS)}, found none"
            + _keys_in(content)
        )
    if all(key.startswith("module.") for key in weights):
        return {key.removeprefix("module."): value for key, value in weights.items()}
    return weights


def _check_head(path: Path) -> None:
    """Raise a CheckpointError if the first bytes are those of something else than the name says."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.lstrip().startswith(b"<"):
        raise CheckpointError(f"{path}: expected a file of weights, got a web page; fetch the file itself")
    if path.suffix != ".safetensors" and head[8:].startswith(b'{"'):
        raise CheckpointError(
            f"{path}: a .safetensors under another name; rename it to {path.with_suffix('.safetensors').name}"
        )
    if head.startswith(_ZIP) and not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path}: damaged: its end is missing; fetch it again")


def _read_torch_file(path: Path) -> object:
    """Return what torch.save wrote, mapped instead of copied where the file is of the newer kind."""
    mapped = zipfile.is_zipfile(path)
    if mapped:
        with zipfile.ZipFile(path) as archive:  # torch reads past a wrong checksum in silence
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} does not match its checksum")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an unusual pickle; what cannot be read is an error in any case
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
    words = re.search(r".*[A-Za-z]{3}.*", text)  # of a file of something else, the reader's error is a byte
    reason = operand[0] if operand else words[0].strip() if words else type(error).__name__
    return f"damaged, or no file of weights ({reason}); fetch it again"


def _keys_in(content: object) -> str:
    """Return a phrase with the first keys of a file whose tensors were not found."""
    keys = [str(key) for key in content] if isinstance(content, Mapping) else []
    return f"; its keys are {_first(keys)}" if keys else ""


def _tensors_in(content: object) -> Weights:
    """Return the tensors by name of a state dict, or of the one that the content holds."""
    if not isinstance(content, Mapping):
        return {}
    held = [content[name] for name in CONTAINERS if isinstance(content.get(name), Mapping)]
    named = held[0] if held else content
    return {key: value for key, value in named.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _check_fit(own: Weights, saved: Weights, path: Path) -> None:
    """Raise a CheckpointError, naming keys, if the file belongs to another network."""
    shapes = [key for key in own if key in saved and own[key].shape != saved[key].shape]
    unknown = [key for key in saved if key not in own]
    lacking = [key for key in own if key not in saved and not _may_be_missing(key)]
    if not (shapes or unknown or lacking):
        return
    keys = _keys_to_set(own, saved)
    if lacking and not (keys or shapes or unknown):
        raise CheckpointError(
            f"{path}: incomplete: {plural(len(lacking), 'tensor')} of the network in the MODEL section"
            f" {'is' if len(lacking) == 1 else 'are'} missing from it ({_first(lacking)}); fetch it again"
        )
    found = [
        *_listed("of other sizes", [_with_sizes(key, own, saved) for key in shapes]),
        *_listed("unknown to the network", unknown),
        *_listed("missing from the file", lacking),
    ]
    advice = f"set {' and '.join(keys)} as in the file" if keys else "no key of MODEL makes such a network"
    raise CheckpointError(
        f"{path}: expected the weights of the network in the MODEL section, got {'; '.join(found)}; {advice}"
    )


def _may_be_missing(key: str) -> bool:
    return part_of(key) == "spikes" or COMPUTED.search(key) is not None


def _keys_to_set(own: Weights, saved: Weights) -> list[str]:
    """Return the configuration keys that differ, with the file's values where its tensors tell them."""
    here, there = sizes_of(own), sizes_of(saved)
    if not there:
        return ["MODEL.ARCH"]
    if here["MODEL.ARCH"] != there["MODEL.ARCH"]:
        return [f"MODEL.ARCH={there['MODEL.ARCH']}"]
    if len(depths_of(own)) != len(depths_of(saved)):
        there.pop("MODEL.VRT.INDEP_RECONSTS", None)  # by default these follow VRT_DEPTHS
    keys = [f"{key}={_as_value(value)}" for key, value in there.items() if here.get(key) != value]
    if _WINDOW not in there and any(_shows_window(key, own, saved) for key in own):
        keys.append(_WINDOW)  # of the window, the tables alone show the product of its sides
    return keys


def _shows_window(key: str, own: Weights, saved: Weights) -> bool:
    return (
        key.endswith(("relative_position_bias_table", "relative_position_index"))
        and key in saved
        and own[key].shape[:1] != saved[key].shape[:1]
    )


def _as_value(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _with_sizes(key: str, own: Weights, saved: Weights) -> str:
    return f"{key} {tuple(saved[key].shape)} for {tuple(own[key].shape)}"


def _listed(what: str, items: list[str]) -> list[str]:
    """Return a phrase with the first items, or nothing where there are none."""
    return [f"{len(items)} {what} ({_first(items)})"] if items else []


def _first(items: Sequence[str]) -> str:
    """Return up to three items and how many more there are."""
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(items[:_NAMED]) + more


def _converted(saved: Weights, own: Weights, path: Path) -> Weights:
    """Return the weights in the network's types; what cannot be converted fails while it is untouched.

    Raises:
        CheckpointError: naming the tensor, if it is not a plain one.
    """
    converted = {}
    for key, value in saved.items():
        try:
            converted[key] = torch.empty_like(own[key], device="cpu").copy_(value)
        except (RuntimeError, NotImplementedError) as error:
            raise CheckpointError(
                f"{path}: expected {key} as a dense tensor, got {value.layout} on {value.device};"
                " save it again as one on the CPU"
            ) from error
    return converted


def _check_token_order(own: Weights, weights: Weights, path: Path) -> None:
    """Raise a CheckpointError if a window of as many tokens has other sides: only the numbers show it."""
    for key in (key for key in weights if key.endswith("relative_position_index")):
        if not torch.equal(own[key].cpu(), weights[key]):
            raise CheckpointError(
                f"{path}: expected {key} of a window as in MODEL.WINDOW_SIZE, got one with other sides;"
                f" set {' and '.join(_keys_to_set(own, weights)) or _WINDOW} as in the file"
            )
