"""YAML text as nested settings, with the line of each. Safe on hostile text: bounded in depth and in size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import yaml
from yaml import CSafeLoader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outrider.config.tree import KeyPath, Value

MAX_BYTES = 1 << 20
_MAX_DEPTH = 32
_MAX_NODES = 20_000  # with every alias written out
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
)
_MERGE = "tag:yaml.org,2002:merge"
_OPENINGS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSINGS = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class YamlError(Exception):
    """The text cannot be read at all. `line` is 0 where it is not known."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(slots=True)
class Document:
    """What a text says: the value, the line of each setting in it, and what is wrong on which line."""

    value: Value = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    faults: list[tuple[int, KeyPath, str]] = field(default_factory=list)


def parse(text: str) -> Document:
    """Read YAML. Scalars stay text, but for nulls. Raises YamlError, and nothing else."""
    try:
        _check_depth(text)
        node = yaml.compose(text, Loader=CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(f"not valid YAML: {error.problem}", mark.line + 1 if mark else 0) from None
    except (yaml.YAMLError, UnicodeEncodeError):
        raise YamlError("not valid YAML: a character that is not allowed") from None
    reader = _Reader()
    if node is not None:
        reader.document.value = reader.read(node, ())
    return reader.document


def _check_depth(text: str) -> None:
    """Refuse deep nesting before `compose`, whose C recursion it would crash."""
    depth = 0
    for event in yaml.parse(text, Loader=CSafeLoader):
        depth += isinstance(event, _OPENINGS) - isinstance(event, _CLOSINGS)
        if depth > _MAX_DEPTH:
            raise YamlError(f"nested deeper than {_MAX_DEPTH} levels", _line(event))


class _Reader:
    """Turns nodes into values. Aliases share nodes, so depth and number are counted here once more."""

    def __init__(self) -> None:
        self.document = Document()
        self._nodes = 0

    def read(self, node: yaml.Node, path: KeyPath) -> Value:
        self._nodes += 1
        if self._nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            raise YamlError("too large once its aliases are written out", _line(node))
        if node.tag not in _TAGS:
            self.document.faults.append((_line(node), path, "YAML tags are not supported"))
            return None
        if isinstance(node, yaml.MappingNode):
            return {key: self.read(child, (*path, key)) for key, child in self._entries(node, path)}
        if isinstance(node, yaml.ScalarNode):
            return None if not node.style and node.value in _NULLS else str(node.value)
        return [self._item(child, (*path, position)) for position, child in enumerate(node.value)]

    def _entries(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, yaml.Node]]:
        first: dict[str, int] = {}
        for key_node, child in node.value:
            line, key = _line(key_node), key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                self.document.faults.append((line, path, "a key must be text"))
            elif key_node.tag == _MERGE:
                self.document.faults.append((line, path, "merge keys (<<) are not supported"))
            elif key in first:
                message = f"duplicate key; it stands on line {first[key]} already"
                self.document.faults.append((line, (*path, key), message))
            else:
                first[key] = self.document.lines[*path, key] = line
                yield key, child

    def _item(self, node: yaml.Node, path: KeyPath) -> Value:
        self.document.lines[path] = _line(node)
        return self.read(node, path)


def _line(marked: yaml.Node | yaml.Event) -> int:
    return marked.start_mark.line + 1 if marked.start_mark else 0
