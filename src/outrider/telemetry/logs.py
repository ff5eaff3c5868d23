"""Structured logs: every line of the process, its libraries included, takes the same way to standard error.

Whoever logs only builds an event and puts it on a bounded queue. A thread formats, redacts and writes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, TypeAlias

import structlog

from outrider.telemetry.foreign_logs import capture_foreign_logs
from outrider.telemetry.log_event import event_of
from outrider.telemetry.log_render import ConsoleLayout, Renderer, json_layout
from outrider.telemetry.log_writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping
    from typing import TextIO

    from outrider.telemetry.log_event import Entry, Event, Fields

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Format: TypeAlias = Literal["auto", "json", "console"]

_CAPACITY = 4_096  # lines


class LogPipeline:
    """Where log lines go while the process runs.

    `close` it last: what is logged afterwards is lost, and until then its thread keeps the process alive.
    """

    def __init__(self, writer: LogWriter, level: int, undo: ExitStack) -> None:
        self.level = level  # as in `logging`
        self.put: Callable[[Entry], None] = writer.put  # never blocks, never raises
        self._writer = writer
        self._undo = undo

    @property
    def dropped(self) -> int:
        """Lines that were not written: the queue was full, or the stream did not take them."""
        return self._writer.dropped

    def close(self) -> None:
        """Write what is queued, in 3 seconds at most, and give back what was captured. Idempotent."""
        self._writer.close()
        self._undo.close()

    async def aclose(self) -> None:
        """`close`, without blocking the event loop."""
        await asyncio.to_thread(self.close)


def start_logging(
    level: Level,
    format: Format,  # noqa: A002
    stream: TextIO,
    secrets: Callable[[], Iterable[str]],
) -> LogPipeline:
    """Send the logs of structlog, `logging`, `warnings` and dying threads to a stream that has a descriptor.

    "auto" is for eyes where the stream is a terminal and JSON elsewhere. `secrets` is asked for every line,
    on the writer thread. One pipeline at a time.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    terminal = stream.isatty()
    for_eyes = format == "console" or (format == "auto" and terminal)
    render = Renderer(ConsoleLayout(colors=terminal) if for_eyes else json_layout, secrets)
    # A descriptor of our own: if the stream is closed, its number may come to mean a socket.
    writer = LogWriter(os.dup(stream.fileno()), render, render.drops, _CAPACITY)
    undo = ExitStack()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _to_entry],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _Sink(writer.put),
        cache_logger_on_first_use=False,  # module-level loggers must follow the next pipeline
    )
    undo.callback(structlog.reset_defaults)
    undo.enter_context(capture_foreign_logs(writer.put, threshold))
    return LogPipeline(writer, threshold, undo)


class _Sink:
    """What structlog calls a logger: a method for each level. The level is in the event already."""

    def __init__(self, put: Callable[[Entry], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = put


def _to_entry(_: object, level: str, fields: MutableMapping[str, object]) -> tuple[tuple[Event], Fields]:
    """The processor that ends the chain of whoever logs: arguments for the sink."""
    exc_info = fields.pop("exc_info", None)
    event = fields.pop("event")
    return (event_of(level, str(event), dict(fields), exc_info),), {}
