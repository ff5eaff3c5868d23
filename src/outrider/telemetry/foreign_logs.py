"""Logs of libraries and of the interpreter, led into the same pipeline as ours."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from structlog.contextvars import get_contextvars

from outrider.telemetry.log_event import event_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outrider.telemetry.log_event import Entry


@contextmanager
def capture_foreign_logs(put: Callable[[Entry], None], threshold: int) -> Iterator[None]:
    """Capture `logging`, `warnings`, dying threads and failing finalisers; gives all back at the end.

    Libraries speak from WARNING up: below it the official clients log whole requests, prompts included.
    """
    root = logging.getLogger()
    before = (root.handlers, root.level, threading.excepthook, sys.unraisablehook)
    handler = _Handler(put, max(threshold, logging.WARNING))
    root.handlers = [handler]
    root.setLevel(handler.level)
    logging.captureWarnings(capture=True)
    threading.excepthook = handler.thread_died
    sys.unraisablehook = handler.finaliser_failed
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers, level, threading.excepthook, sys.unraisablehook = before
        root.setLevel(level)


class _Handler(logging.Handler):
    def __init__(self, put: Callable[[Entry], None], level: int) -> None:
        super().__init__(level)
        self._put = put

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's wrong arguments must not become our exception
            message = str(record.msg)
        fields = {**get_contextvars(), "logger": record.name}
        event = event_of(record.levelname.lower(), message.rstrip(), fields, record.exc_info)
        self._put(event)

    def thread_died(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            name = args.thread.name if args.thread else None
            self._put(event_of("error", "thread died", {"thread": name}, args.exc_value))

    def finaliser_failed(self, args: sys.UnraisableHookArgs) -> None:
        fields = {"during": args.err_msg, "object": args.object}
        self._put(event_of("error", "exception ignored", fields, args.exc_value))
