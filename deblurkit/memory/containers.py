"""Python containers of many objects: what forked workers copy page by page, as they only look at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

FEWEST = 10_000  # objects: about a megabyte
_BUILT_IN = (list, tuple, set, frozenset, dict)
_MOST_VISITS = 2_000_000  # objects that are counted: a second
_MOST_MEMBERS = 100  # of a container, into which is looked for further ones
_WITHOUT = ("builtins", "numpy", "torch")  # modules whose classes have no attributes of interest


@dataclass(frozen=True)
class Container:
    """A container of Python objects.

    Attributes:
        path: by which it is reached, such as ``dataset.files``.
        kind: ``list``, ``dict`` …
        objects: in it, and in the containers right inside it; each has a count of references, and is written
            to whenever it is touched. At the least, where there are very many.
    """

    path: str
    kind: str
    objects: int

    def as_words(self) -> str:
        """Return it as a clause."""
        return f"{self.path}, a {self.kind} of {self.objects:,} objects"


def large_containers(root: object, *, name: str, fewest: int = FEWEST, most: int = 3) -> list[Container]:
    """Return the largest containers that an object holds in its attributes, and they in theirs.

    Arrays, tensors and strings are one object each, however long: their content has no counts of references.

    Args:
        root: a dataset, say.
        name: what paths begin with.
        fewest: objects that count as many.
        most: how many to return.
    """
    found = [container for container in _Walk().containers(root, name) if container.objects >= fewest]
    return sorted(found, key=lambda container: container.objects, reverse=True)[:most]


class _Walk:
    """Goes through attributes and members, to each object once."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._left = _MOST_VISITS

    def containers(self, root: object, name: str) -> Iterator[Container]:
        """Yield the containers, outermost ones, that are reached from an object."""
        waiting: list[tuple[object, str]] = [(root, name)]
        while waiting and self._left > 0:
            item, path = waiting.pop()
            if id(item) in self._seen:
                continue
            self._seen.add(id(item))
            if isinstance(item, _BUILT_IN):
                yield Container(path, type(item).__name__, self._count(item))
                waiting += [(member, f"{path}[{key!r}]") for key, member in _members(item)]
            elif getattr(getattr(item, "dtype", None), "hasobject", False):
                yield Container(path, "array", int(getattr(item, "size", 0)))
            else:
                waiting += [(value, f"{path}.{key}") for key, value in _attributes(item)]

    def _count(self, container: Any) -> int:
        """Return the objects in a container and in those right inside it."""
        count, waiting = 0, [container]
        while waiting and self._left > 0:
            item = waiting.pop()
            parts = [*item.keys(), *item.values()] if isinstance(item, dict) else list(item)
            count += len(parts)
            self._left -= len(parts)
            inside = [part for part in parts if isinstance(part, _BUILT_IN)]
            waiting += inside
            self._seen.update(id(part) for part in inside)
        return count


def _members(container: Any) -> Iterator[tuple[object, object]]:
    """Yield the first members of a container that may hold others, each with its key or place."""
    pairs = container.items() if isinstance(container, dict) else enumerate(container)
    for number, (key, member) in enumerate(pairs):
        if number >= _MOST_MEMBERS:
            return
        if not isinstance(member, _BUILT_IN):
            yield key, member


def _attributes(item: object) -> Iterator[tuple[str, object]]:
    """Yield the attributes of an instance of a class of Python; modules, classes and functions have none."""
    if isinstance(item, type) or type(item).__module__.partition(".")[0] in _WITHOUT:
        return
    yield from vars(item).items() if hasattr(item, "__dict__") else ()
    for kind in type(item).__mro__:
        slots = getattr(kind, "__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if not slot.startswith("__") and hasattr(item, slot):
                yield slot, getattr(item, slot)
