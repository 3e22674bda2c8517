"""The single numbers in an event of TensorBoard, plain or as tensors."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

_PLUGINS = ("", "scalars")
# By TensorFlow's number of a type: how a value's bytes are read, and the field where it may stand instead.
_TYPES = {
    1: ("<f", "float_val"),
    2: ("<d", "double_val"),
    3: ("<i", "int_val"),
    4: ("<B", "int_val"),
    5: ("<h", "int_val"),
    6: ("<b", "int_val"),
    9: ("<q", "int64_val"),
    19: ("<e", "half_val"),
    22: ("<I", "uint32_val"),
    23: ("<Q", "uint64_val"),
}


def scalars_in(event: Any) -> Iterator[tuple[str, float]]:
    """Yield (tag, value) of every scalar in a decoded event (``Event`` of TensorBoard's protocol)."""
    for value in event.summary.value:
        number = _number(value)
        if number is not None and value.tag:
            yield value.tag, number


def _number(value: Any) -> float | None:
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if value.HasField("tensor") and value.metadata.plugin_data.plugin_name in _PLUGINS:
        return _only_element(value.tensor)
    return None


def _only_element(tensor: Any) -> float | None:
    """Return the value of a tensor of one number; None for any other."""
    form, field = _TYPES.get(tensor.dtype, ("", ""))
    if not form or any(dimension.size != 1 for dimension in tensor.tensor_shape.dim):
        return None
    if tensor.tensor_content:
        fits = len(tensor.tensor_content) == struct.calcsize(form)
        return float(struct.unpack(form, tensor.tensor_content)[0]) if fits else None
    values = getattr(tensor, field)
    if len(values) != 1:
        return None
    return _half(values[0]) if field == "half_val" else float(values[0])


def _half(bits: int) -> float:
    return float(struct.unpack("<e", struct.pack("<H", bits & 0xFFFF))[0])
