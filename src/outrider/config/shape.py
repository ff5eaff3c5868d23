"""Finding one's way in the schema: what stands at a path, and which keys there are."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from outrider.config.schema import Config
from outrider.config.section import Section
from outrider.config.values import Alias, Name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outrider.config.tree import KeyPath


def kind_at(path: KeyPath) -> Any:
    """What the schema says of a path that it knows: a Section, a generic or a type."""
    kind: Any = Config
    for step in path:
        kind = kind_below(kind, step)
    return kind


def kind_below(kind: Any, step: str | int) -> Any:
    """What the schema says of a key of a mapping, or of a position in a list."""
    if is_section(kind):
        return _bare(kind.model_fields[step].annotation)
    return _bare(get_args(kind)[0 if get_origin(kind) is tuple else 1])


def is_section(kind: Any) -> bool:
    """Whether it is a mapping whose keys are fixed."""
    return isinstance(kind, type) and issubclass(kind, Section)


def is_scalar(kind: Any) -> bool:
    """Whether it is written as one text: neither a mapping nor a list."""
    return not is_section(kind) and get_origin(kind) not in {Mapping, tuple}


def is_named(kind: Any) -> bool:
    """Whether it is a mapping whose keys are names that the operator chooses."""
    return get_origin(kind) is Mapping and get_args(kind)[0] in {Name, Alias}


def key_paths(kind: Any = Config) -> Iterator[tuple[str, ...]]:
    """The paths of all settings below a kind; "*" stands for a key that is not fixed."""
    if get_origin(kind) is Mapping:
        yield from (("*", *path) for path in key_paths(kind_below(kind, "*")))
    elif is_section(kind):
        for name in kind.model_fields:
            yield (name,)
            yield from ((name, *path) for path in key_paths(kind_below(kind, name)))


def _bare(annotation: Any) -> Any:
    """The annotation without what pydantic reads from it, and without None."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in {UnionType, Union}:
            annotation = next(arg for arg in get_args(annotation) if arg is not NoneType)
        else:
            return annotation
