"""Settings before they are validated: nested text, and where each piece was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

Value: TypeAlias = "str | list[Value] | dict[str, Value] | None"
"""A setting as written. Scalars stay text: the schema, not the syntax, decides what they mean."""

KeyPath: TypeAlias = tuple[str | int, ...]
"""The way to a setting: keys, and positions in lists."""


class Origin(NamedTuple):
    """Where a setting was written: in a line of a file, or in an environment variable, whose line is 0."""

    source: str
    line: int = 0


class Finding(NamedTuple):
    """Something wrong with a setting. `origin` is given where it is not the setting's own, `refers_to` where
    a name in it leads nowhere."""

    path: KeyPath
    message: str
    origin: Origin | None = None
    refers_to: str = ""


@dataclass(slots=True)
class Tree:
    """Settings from all sources; what is put later replaces what was there."""

    root: dict[str, Value] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)

    def get(self, *path: str | int) -> Value:
        """The setting at a path, None where there is none."""
        value: Value = self.root
        for step in path:
            if isinstance(value, dict) and isinstance(step, str):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def keys(self, *path: str | int) -> list[str]:
        """The keys of the mapping at a path, none where there is no mapping."""
        value = self.get(*path)
        return list(value) if isinstance(value, dict) else []

    def put(self, path: tuple[str, ...], value: Value, origin: Origin) -> None:
        """Set what stands at a path, in place of all that stood there, making the mappings above it."""
        self.origins = {written: o for written, o in self.origins.items() if written[: len(path)] != path}
        parent = self.root
        for depth, step in enumerate(path[:-1], start=1):
            child = parent.get(step)
            if not isinstance(child, dict):
                child = parent[step] = {}
                self.origins.setdefault(path[:depth], origin)
            parent = child
        parent[path[-1]] = value
        self.origins[path] = origin

    def move(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Put what stands at a path at another one, below a mapping that is there."""
        *above, last = new
        parent = self.get(*above)
        if isinstance(parent, dict):
            parent[last] = self.get(*old)
            self.drop(old)
            length = len(old)
            self.origins = {
                (*new, *path[length:]) if path[:length] == old else path: origin
                for path, origin in self.origins.items()
            }

    def drop(self, path: KeyPath) -> KeyPath:
        """Remove what stands at a path, or the nearest setting around it that has a key; gives its path."""
        while path:
            *above, last = path
            parent = self.get(*above)
            if isinstance(parent, dict) and isinstance(last, str) and last in parent:
                del parent[last]
                break
            path = path[:-1]
        return path

    def origin(self, path: KeyPath) -> Origin | None:
        """Where the setting at a path was written, or the nearest one around it that was."""
        return next(
            (self.origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.origins), None
        )


def dotted(path: KeyPath) -> str:
    """A path as people write it: `routes.fast[0]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
