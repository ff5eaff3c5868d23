"""From what pydantic finds to what people read: place, key and what would be right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outrider.config.errors import Problem, suggestion
from outrider.config.shape import kind_at
from outrider.config.tree import Finding, KeyPath, Tree, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_KEY = "[key]"  # what pydantic puts at the end of the path to a key
_MESSAGES = {
    "missing": "is missing",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "decimal_parsing": "must be a number",
    "decimal_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "path_type": "must be a path",
    "string_unicode": "must be valid Unicode text",
    "string_too_short": "must not be empty",
    "tuple_type": "must be a list, such as [a, b]",
    "dict_type": "must be a mapping, such as {{key: value}}",
    "model_type": "must be a mapping, such as {{key: value}}",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "decimal_max_places": "must have at most {decimal_places} decimal places",
    "wrong": "{message}",
}


def explain(error: ValidationError, tree: Tree) -> Iterator[Finding]:
    """What an error says, as findings whose paths are those of the tree."""
    for detail in error.errors(include_url=False, include_input=False):
        if detail["type"] == "findings":
            for finding in detail["ctx"]["findings"]:
                yield finding._replace(path=_as_written(finding.path, tree))
        else:
            yield Finding(_as_written(detail["loc"], tree), _message(detail))


def to_problem(finding: Finding, tree: Tree, elsewhere: str) -> Problem:
    """A finding with its place. `elsewhere` is named where nothing on its path was written."""
    source, line = finding.origin or tree.origin(finding.path) or (elsewhere, 0)
    return Problem(source, line, dotted(finding.path), finding.message)


def _message(detail: ErrorDetails) -> str:
    path = detail["loc"]
    if detail["type"] == "extra_forbidden":
        section = kind_at(path[:-1])
        return f"unknown key; {suggestion(str(path[-1]), list(section.model_fields))}"
    message = _MESSAGES.get(detail["type"])
    if message is None:
        return detail["msg"]
    return message.format_map({name: _plain(value) for name, value in detail.get("ctx", {}).items()})


def _plain(value: Any) -> Any:
    """A bound as people write it: 0 rather than 0.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_written(path: KeyPath, tree: Tree) -> KeyPath:
    """The path that the user wrote: a route may be a list of targets alone, and a target a name."""
    if path[-1:] == (_KEY,):
        path = path[:-1]
    if path[:1] == ("routes",) and path[2:3] == ("targets",):
        if path[4:] == ("target",) and isinstance(tree.get(*path[:4]) or tree.get(*path[:2], path[3]), str):
            path = path[:4]
        if isinstance(tree.get(*path[:2]), list):
            path = (*path[:2], *path[3:])
    return path
