"""YAML with line numbers, without surprises: safe, no key twice, numbers as YAML 1.2 reads them.

PyYAML follows YAML 1.1, where ``2e-4`` is text, ``1:30`` is ninety and ``010`` is eight. Here plain scalars
are null, booleans (YAML 1.1's yes, no, on and off among them), decimal numbers or text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deblurkit.errors import ConfigError

LARGEST_FILE = 256 * 1024  # bytes; a configuration has a few thousand
MOST_VALUES = 10_000  # aliases counted at each use, so that a small file cannot unfold into a large one
DEEPEST = 20
_LARGEST_INTEGER = 2**63 - 1
_TAG = "tag:yaml.org,2002:"
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_TOP = "expected keys such as `TRAIN:` at the top"


@dataclass(frozen=True)
class Entry:
    """A value that stands under a chain of keys.

    Attributes:
        path: the keys from the top.
        lines: the line of each key, from 1.
        value: null, boolean, number, text, a list of such, or an empty mapping.
    """

    path: tuple[str, ...]
    lines: tuple[int, ...]
    value: Any


@dataclass
class Document:
    """What a text holds, and what is wrong with it.

    Attributes:
        entries: in the order of the text; a key given twice is there twice.
        problems: (line or None, message).
    """

    entries: list[Entry] = field(default_factory=list)
    problems: list[tuple[int | None, str]] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2 in decimal."""

    yaml_implicit_resolvers: dict[str, Any] = {}


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"(?i:yes|no|true|false|on|off)", list("yYnNtTfFoO")),
    ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def read_text(path: Path) -> str:
    """Return a configuration file's text.

    Raises:
        ConfigError: if it is not there, is too large or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    if len(content) > LARGEST_FILE:
        raise ConfigError(
            [f"{path}: larger than {LARGEST_FILE // 1024} KiB; expected a configuration in YAML"]
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8 text; save the file as UTF-8"]) from error


def parse(text: str) -> Document:
    """Return the values of a YAML mapping with their lines; what is wrong is in the document's problems."""
    document = Document()
    try:
        node = _compose(text)
    except _NotYaml as error:
        document.problems.append((error.line, error.message))
        return document
    if node is None:
        document.problems.append((None, f"empty; {_TOP}"))
    elif not isinstance(node, yaml.MappingNode):
        document.problems.append((_line(node), f"{_TOP}, got {_kind(node)}"))
    else:
        walk = _Walk(document)
        try:
            walk.mapping(node, (), ())
        except _TooMuch as error:
            document.problems.append((error.line, error.message))
    return document


def parse_value(text: str) -> Any:
    """Return one YAML value, such as ``2``, ``[8, 8]`` or ``auto``; a mapping comes as a dict.

    Raises:
        ValueError: if the text is no single value.
    """
    document = Document()
    try:
        node = _compose(text)
        value = None if node is None else _Walk(document).value(node)
    except _NotYaml as error:
        raise ValueError(error.message) from error
    if document.problems:
        raise ValueError(document.problems[0][1])
    return value


def value_as_yaml(value: Any) -> str:
    """Return a plain value on one line of YAML that `parse_value` reads back as the same value."""
    text = _dumped(value)
    try:
        is_same = parse_value(text) == value
    except ValueError:
        is_same = False
    return text if is_same else _dumped(value, default_style='"')


def _dumped(value: Any, default_style: str | None = None) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, default_style=default_style, allow_unicode=True, width=10_000
    )
    return text.removesuffix("\n").removesuffix("\n...")


class _NotYaml(Exception):
    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _TooMuch(_NotYaml):
    """Aliases or brackets that unfold into more than a configuration can be."""


class _Walk:
    """Goes through the nodes of a document once for each use, within the limits."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._values = 0

    def mapping(self, node: yaml.MappingNode, path: tuple[str, ...], lines: tuple[int, ...]) -> None:
        """Add the entries under ``node``, which stands at ``path``."""
        self._count(node, depth=len(path))
        self._check_tag(node, "map")
        for name, key, value in self._pairs(node, path):
            here, at = (*path, name), (*lines, _line(key))
            if isinstance(value, yaml.MappingNode) and value.value:
                self.mapping(value, here, at)
            else:
                self._document.entries.append(Entry(here, at, self.value(value)))

    def value(self, node: yaml.Node, *, depth: int = 0) -> Any:
        """Return the plain value of ``node``."""
        self._count(node, depth=depth)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq")
            return [self.value(item, depth=depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map")
            return {name: self.value(value, depth=depth + 1) for name, _, value in self._pairs(node, ())}
        try:
            return _scalar(node)
        except (ValueError, KeyError):
            self._problem(node, f"{node.value[:40]!r} cannot be read as {node.tag.removeprefix(_TAG)}")
            return None

    def _pairs(
        self, node: yaml.MappingNode, path: tuple[str, ...], depth: int = 0
    ) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Yield name, key and value; keys taken in by ``<<`` come last and give way to the mapping's own."""
        self._count(node, depth=depth)
        first: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value.isprintable():
                self._problem(key, f"expected a name as key, got {_kind(key)}")
                continue
            if key.tag == _TAG + "merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            if key.value in first:
                name = ".".join((*path, key.value))
                self._problem(
                    key,
                    f"{name} is given a second time, first on line {first[key.value]}; put both in one place",
                )
            first.setdefault(key.value, _line(key))
            yield key.value, key, value
        yield from self._merged(merged, path, set(first), depth)

    def _merged(
        self, nodes: list[yaml.Node], path: tuple[str, ...], taken: set[str], depth: int
    ) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        for node in nodes:
            if not isinstance(node, yaml.MappingNode):
                self._problem(node, f"<< takes an alias of a mapping, got {_kind(node)}")
                continue
            for name, key, value in self._pairs(node, path, depth + 1):
                if name not in taken:
                    taken.add(name)
                    yield name, key, value

    def _count(self, node: yaml.Node, *, depth: int) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            raise _TooMuch(None, f"more than {MOST_VALUES:,} values once its aliases are written out")
        if depth > DEEPEST:
            raise _TooMuch(_line(node), f"nested deeper than {DEEPEST} levels")

    def _check_tag(self, node: yaml.Node, expected: str) -> None:
        if node.tag != _TAG + expected:
            self._problem(node, f"the tag {_short(node.tag)} is not allowed; expected plain YAML")

    def _problem(self, node: yaml.Node, message: str) -> None:
        problem = (_line(node), message)
        if problem not in self._document.problems:  # an alias is gone through more than once
            self._document.problems.append(problem)


def _compose(text: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ": ".join(part for part in (error.context, error.problem) if part)
        raise _NotYaml(mark.line + 1 if mark else None, f"not valid YAML: {message}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _NotYaml(line, f"not valid YAML: the character U+{ord(text[error.position]):04X}") from error
    except RecursionError as error:
        raise _NotYaml(None, f"nested deeper than {DEEPEST} levels") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # an escape of no character: "\UFFFFFFFF"
        raise _NotYaml(None, f"not valid YAML: {error}") from error
    return node


def _scalar(node: yaml.Node) -> Any:
    text: str = node.value
    kind = node.tag.removeprefix(_TAG)
    if kind == "str":
        text.encode("utf-8")  # a lone surrogate from an escape is no text: UnicodeEncodeError is a ValueError
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return _BOOLEANS[text.lower()]
    digits = text.replace("_", "")
    if kind == "int":
        number = int(digits)
        if abs(number) > _LARGEST_INTEGER:
            raise ValueError(text)
        return number
    if kind == "float":
        return float(re.sub(r"\.(?=[a-z])", "", digits.lower()))  # .inf and .nan
    raise ValueError(text)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a single value"


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
