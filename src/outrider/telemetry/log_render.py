"""From an entry to the bytes of a line. Runs on the writer thread."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import msgspec
from structlog.dev import ConsoleRenderer

from outrider.core.redaction import redact
from outrider.telemetry.log_event import event_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from outrider.telemetry.log_event import Entry, Event, Fields

# Container runtimes split lines at 16 KiB.
_MAX_TEXT = 8_192


class Layout(Protocol):
    """How a line looks."""

    def __call__(self, line: Fields) -> bytes:
        """The bytes of it, newline included."""


class Renderer:
    """Makes lines. Redaction comes after exceptions were formatted, so that nothing passes beside it."""

    def __init__(self, layout: Layout, secrets: Callable[[], Iterable[str]]) -> None:
        self._layout = layout
        self._secrets = secrets

    def __call__(self, entry: Entry) -> bytes:
        """One line. Never raises: a line that cannot be made is replaced by one that says so."""
        try:
            line = _readable(entry() if callable(entry) else entry)
            return self._layout(_redacted(line, tuple(self._secrets())))
        except Exception as error:  # noqa: BLE001 - one bad line must not end the others
            failure = event_of("error", "log line could not be rendered", {"error": type(error).__name__})
            return json_layout(_readable(failure))

    def drops(self, count: int) -> bytes:
        """The line that tells of lines that are missing."""
        return self(event_of("warning", "log lines dropped", {"count": count}))


def json_layout(line: Fields) -> bytes:
    """One JSON object."""
    try:
        return _encoder.encode(line) + b"\n"
    except (UnicodeEncodeError, OverflowError):  # lone surrogates, huge integers
        return json.dumps(line).encode() + b"\n"


class ConsoleLayout:
    """For eyes, and in colours for those that see them."""

    def __init__(self, *, colors: bool) -> None:
        self._render = ConsoleRenderer(colors=colors, sort_keys=False, pad_event_to=0)

    def __call__(self, line: Fields) -> bytes:
        """One line, and the traceback below it. What is absent is left out; nothing steers the terminal."""
        printable = {
            key: value.translate(_UNPRINTABLE) if isinstance(value, str) else value
            for key, value in line.items()
            if value is not None
        }
        return str(self._render(None, "", printable)).encode(errors="backslashreplace") + b"\n"


_encoder = msgspec.json.Encoder()
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


def _readable(event: Event) -> Fields:
    """The line as a mapping, time and exception in words."""
    moment = datetime.fromtimestamp(event.timestamp, UTC).isoformat(timespec="milliseconds")
    line: Fields = {"timestamp": moment, "level": event.level, "event": event.event, **event.fields}
    if event.traceback is not None:
        line["exception"] = "".join(event.traceback.format()).rstrip()
    return line


def _redacted(line: Fields, secrets: tuple[str, ...]) -> Fields:
    """The line without secrets, and with long texts cut.

    Most lines need neither: one look at all their texts together costs a fraction of a look at each.
    """
    texts: list[str] = []
    _collect(line.values(), texts)
    together = "\n".join(texts)
    if len(together) <= _MAX_TEXT and redact(together, secrets) == together:
        return line
    return {key: _clean(value, secrets) for key, value in line.items()}


def _collect(values: Iterable[object], texts: list[str]) -> None:
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            _collect(value, texts)
            _collect(value.values(), texts)
        elif isinstance(value, list):
            _collect(value, texts)


def _clean(value: object, secrets: tuple[str, ...]) -> object:
    if isinstance(value, str):
        text = redact(value, secrets)
        return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT // 2]} ... {text[-_MAX_TEXT // 2 :]}"
    if isinstance(value, dict):
        return {_clean(key, secrets): _clean(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, secrets) for item in value]
    return value
