"""What is wrong with a configuration, said so that it can be put right. It shows names, never values."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it stands, which key it is, and what would be right.

    `source` is a file or an environment variable, `line` is 0 where it has none.
    """

    source: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return ": ".join(_printable(part) for part in (place, self.key, self.message) if part)


class ConfigError(Exception):
    """The configuration cannot be used. `problems` holds everything that is wrong, at least one; `str()` has
    a line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=_position))
        super().__init__("\n".join(map(str, self.problems)))


def quoted(name: str) -> str:
    """A name as it is shown in a message: in quotes, and cut where it is very long."""
    return f"'{name[:_LONGEST_NAME]}…'" if len(name) > _LONGEST_NAME else f"'{name}'"


def suggestion(name: str, known: Collection[str]) -> str:
    """The known name that was probably meant, else all of them."""
    close = get_close_matches(name[:_LONGEST_NAME], known, n=1)
    if close:
        return f"did you mean {quoted(close[0])}?"
    return f"known: {', '.join(known)}" if known else "none is known"


def _printable(text: str) -> str:
    """The text with everything escaped that could break a line or a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _position(problem: Problem) -> tuple[bool, str, int, str, str]:
    return not problem.line, problem.source, problem.line, problem.key, problem.message
