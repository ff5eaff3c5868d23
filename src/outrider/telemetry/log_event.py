"""What crosses from whoever logs to the writer thread: plain data, and nothing with a finaliser."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from traceback import TracebackException
from typing import NamedTuple, TypeAlias

Fields: TypeAlias = dict[str, object]


class Event(NamedTuple):
    """One log line."""

    timestamp: float  # Unix seconds
    level: str
    event: str
    fields: Fields
    traceback: TracebackException | None = None


Entry: TypeAlias = Event | Callable[[], Event]
"""A line, or how to make one; called on the writer thread."""

_INNERMOST_FRAMES = 50
_MAX_DEPTH = 5
_SCALARS = frozenset({str, int, float, bool, type(None)})


def event_of(level: str, event: str, fields: Fields, exc_info: object = None) -> Event:
    """A line about now. Keeps no reference to exceptions, frames or objects that are not plain data."""
    for key, value in fields.items():
        if type(value) not in _SCALARS:
            fields[key] = _plain(value, _MAX_DEPTH)
    return Event(time.time(), level, event, fields, _traceback_of(exc_info) if exc_info else None)


def _traceback_of(exc_info: object) -> TracebackException | None:
    """What is needed to print an exception later, without its frames: their locals must die on this thread.

    Source lines are read from disk only when it is printed.
    """
    if isinstance(exc_info, BaseException):
        error: BaseException | None = exc_info
    else:
        error = exc_info[1] if isinstance(exc_info, tuple) else sys.exc_info()[1]
    if error is None:
        return None
    return TracebackException(
        type(error), error, error.__traceback__, limit=-_INNERMOST_FRAMES, lookup_lines=False, compact=True
    )


def _plain(value: object, depth: int) -> object:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, list | tuple) and depth:
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, dict) and depth:
        return {_text_of(key): _plain(item, depth - 1) for key, item in value.items()}
    return _text_of(value)


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - whatever a foreign __str__ does, logging must not fail
        return f"<{type(value).__name__}>"
