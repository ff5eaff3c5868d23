from __future__ import annotations

import gc
import logging
import os
import re
import sys
import threading
import warnings
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import structlog
from structlog.contextvars import bound_contextvars

from outrider.telemetry.logs import start_logging

if TYPE_CHECKING:
    from tests.telemetry.conftest import LogFile

logger = structlog.get_logger("outrider")

KEY = "p4ssword/that+no-pattern=knows"


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def fail(message: str) -> None:
    prompt = "a prompt that is nobody's business"
    raise ValueError(message) if prompt else AssertionError


def test_line_is_one_json_object(log_file: LogFile) -> None:
    """A line is one JSON object: time, level and event first, then the fields as they were given."""
    with log_file.logging():
        logger.info("started", port=8080, models=["a", "b"], ratio=0.5, extra=None)
    line = log_file.line()
    assert list(line) == ["timestamp", "level", "event", "port", "models", "ratio", "extra"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", str(line.pop("timestamp")))
    assert line == {
        "level": "info",
        "event": "started",
        "port": 8080,
        "models": ["a", "b"],
        "ratio": 0.5,
        "extra": None,
    }


def test_lines_keep_their_order(log_file: LogFile) -> None:
    """Lines are written in the order in which they were logged, all of them, before `close` returns."""
    with log_file.logging():
        for number in range(1_000):
            logger.info("counted", number=number)
    assert [line["number"] for line in log_file.lines()] == list(range(1_000))


def test_level_is_a_threshold(log_file: LogFile) -> None:
    """What is below the level is not written."""
    with log_file.logging("warning"):
        logger.debug("unheard")
        logger.info("unheard")
        logger.warning("heard")
        logger.error("heard")
    assert [line["level"] for line in log_file.lines()] == ["warning", "error"]


def test_bound_request_id_is_on_every_line(log_file: LogFile) -> None:
    """What is bound to the context, such as the request id, is on our lines and on those of libraries."""
    with log_file.logging(), bound_contextvars(request_id="req-7"):
        logger.info("ours")
        logging.getLogger("grpc").error("theirs")
    assert [line["request_id"] for line in log_file.lines()] == ["req-7", "req-7"]


async def test_close_without_blocking_the_loop(log_file: LogFile) -> None:
    """`aclose` does what `close` does; both may be called again."""
    with log_file.logging() as log:
        logger.info("last words")
        await log.aclose()
    assert log_file.line()["event"] == "last words"


def test_no_secret_leaves(log_file: LogFile) -> None:
    """Row 28: a known key is in no event, field, list, mapping, exception, cause, warning or foreign line."""
    with log_file.logging(secrets=lambda: [KEY]):
        logger.info(KEY, field=KEY, many=[KEY, {KEY: (KEY, RuntimeError(KEY))}], odd=RuntimeError(KEY))
        try:
            try:
                fail(KEY)
            except ValueError as error:
                raise RuntimeError(f"while using {KEY}") from error
        except RuntimeError:
            logger.exception("failed")
            logging.getLogger("aiohttp").exception("failed with %s", KEY)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(KEY, stacklevel=1)
    assert len(log_file.lines()) == 4
    text = log_file.text()
    assert "[redacted]" in text
    assert "p4ss" not in text
    assert "knows" not in text


def test_what_looks_like_a_key_is_no_less_secret(log_file: LogFile) -> None:
    """Row 28: a key that nobody told us of, such as one that a provider echoes, is taken out by its looks."""
    with log_file.logging():
        logger.info("refused", message="Incorrect API key provided: sk-proj-abcdefghijklmnop")
    assert "abcdefghijklmnop" not in log_file.text()


def test_secrets_are_asked_for_again(log_file: LogFile) -> None:
    """Row 28: a key that is replaced while the process runs is redacted from then on."""
    secrets: list[str] = []
    with log_file.logging(secrets=lambda: secrets):
        secrets.append(KEY)
        logger.info("rotated", key=KEY)
    assert KEY not in log_file.text()


@pytest.mark.parametrize("form", ["json", "console"])
def test_traceback_shows_no_locals(log_file: LogFile, form: str) -> None:
    """Row 28: an exception is printed with its place and message, and without the values of variables."""
    with log_file.logging(form=form):  # type: ignore[arg-type]
        try:
            fail("out of order")
        except ValueError:
            logger.exception("failed")
    text = log_file.text()
    assert "ValueError: out of order" in text
    assert "in fail" in text
    assert 'prompt = "a prompt' not in text
    assert "= 'a prompt" not in text


def test_locals_of_a_logged_exception_die_where_they_lived(log_file: LogFile) -> None:
    """A logged exception leaves no object to the writer thread, where sockets and tasks must not end."""
    died_on: list[int] = []

    class Socket:
        def __del__(self) -> None:
            died_on.append(threading.get_ident())

    def use() -> None:
        socket = Socket()
        raise ValueError(str(socket))

    with log_file.logging():
        try:
            use()
        except ValueError as error:
            logger.exception("failed", error=error)
            logging.getLogger("asyncio").exception("failed")
        gc.collect()
        assert died_on == [threading.get_ident()]


def test_exception_given_as_a_value(log_file: LogFile) -> None:
    """An exception may be given that is not being handled."""
    with log_file.logging():
        logger.error("given", exc_info=ValueError("as a value"))
    assert log_file.line()["exception"] == "ValueError: as a value"


def test_libraries_take_the_same_way(log_file: LogFile) -> None:
    """A line of `logging` names its logger and has its arguments filled in; wrong ones do not raise."""
    with log_file.logging():
        logging.getLogger("aiohttp.server").error("Error handling %s", "request")
        logging.getLogger("aiohttp.server").error("Error handling %d", "request")
    good, bad = log_file.lines()
    assert (good["logger"], good["level"], good["event"]) == (
        "aiohttp.server",
        "error",
        "Error handling request",
    )
    assert bad["event"] == "Error handling %d"


def test_libraries_are_heard_from_warning_up(log_file: LogFile) -> None:
    """Row 28: not even at level debug do libraries log below warning, where clients print whole requests."""
    chatty = logging.getLogger("openai")
    chatty.setLevel(logging.DEBUG)
    try:
        with log_file.logging("debug"):
            chatty.debug("Request options: %s", {"messages": "the prompt"})
            chatty.warning("careful")
    finally:
        chatty.setLevel(logging.NOTSET)
    assert log_file.line()["event"] == "careful"


def test_warnings_are_lines(log_file: LogFile) -> None:
    """A Python warning is a line like any other."""
    with log_file.logging(), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    line = log_file.line()
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")
    assert "DeprecationWarning: old ways" in str(line["event"])


def test_dying_thread_is_a_line(log_file: LogFile) -> None:
    """A thread that dies of an exception is a line with its traceback; one that exits is not."""
    with log_file.logging():
        for work in (lambda: fail("in a thread"), sys.exit):
            thread = threading.Thread(target=work, name="worker")
            thread.start()
            thread.join()
    line = log_file.line()
    assert (line["event"], line["thread"]) == ("thread died", "worker")
    assert "ValueError: in a thread" in str(line["exception"])


def test_failing_finaliser_is_a_line(log_file: LogFile) -> None:
    """An exception that the interpreter can only ignore is a line with its traceback."""

    class Clumsy:
        def __del__(self) -> None:
            fail("in a finaliser")

    with log_file.logging():
        Clumsy()
        gc.collect()
    line = log_file.line()
    assert line["event"] == "exception ignored"
    assert "ValueError: in a finaliser" in str(line["exception"])


def test_close_gives_everything_back(log_file: LogFile) -> None:
    """After `close` no thread is left, and hooks and handlers are those from before."""

    def state() -> list[object]:
        root = logging.getLogger()
        hooks = (warnings.showwarning, threading.excepthook, sys.unraisablehook)
        return [root.handlers, root.level, *hooks, threading.enumerate(), structlog.is_configured()]

    before = state()
    with log_file.logging():
        assert state() != before
    assert state() == before


@pytest.mark.parametrize(
    "value", ["\ud83d", 2**70, float("nan"), {1: {2: 3}}, Unspeakable(), b"\xff", {"\ud83d": 2**70}]
)
def test_any_value_makes_a_line(log_file: LogFile, value: object) -> None:
    """Whatever is given as a field, there is a line with the event, and nothing is raised."""
    with log_file.logging():
        logger.info("odd", value=value)
        logger.info("nested", value=[value])
    assert {"odd", "nested"} == {line["event"] for line in log_file.lines()}


def test_line_that_cannot_be_made(log_file: LogFile) -> None:
    """A line that cannot be made is replaced by one that says so; the next one is written as ever."""
    with log_file.logging() as log:
        log.put(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        logger.info("next")
    bad, good = log_file.lines()
    assert (bad["event"], bad["error"]) == ("log line could not be rendered", "ZeroDivisionError")
    assert good["event"] == "next"


def test_long_texts_are_cut(log_file: LogFile) -> None:
    """A text keeps its beginning and its end and at most 8 KiB: container runtimes split longer lines."""
    with log_file.logging():
        logger.info("long", text="a" + "x" * 100_000 + "z")
    text = str(log_file.line()["text"])
    assert len(text) < 8_200
    assert (text[0], text[-1]) == ("a", "z")


@pytest.mark.parametrize(("form", "count"), [("json", 1), ("console", 1)])
def test_callers_cannot_forge_lines_or_steer_terminals(log_file: LogFile, form: str, count: int) -> None:
    """A field with line ends or escape codes stays within its line, and its codes are shown, not sent."""
    with log_file.logging(form=form):  # type: ignore[arg-type]
        logger.info("asked", tenant="acme\n2026-01-01 [info] granted\x1b[2J\x9b2J")
    text = log_file.text()
    assert text.count("\n") == count
    assert "\x1b" not in text
    assert "\x9b" not in text or form == "json"


def test_auto_is_json_where_nobody_looks(log_file: LogFile) -> None:
    """In "auto", a stream that is not a terminal gets JSON."""
    with log_file.logging(form="auto"):
        logger.info("started")
    assert log_file.line()["event"] == "started"


def test_auto_is_coloured_on_a_terminal() -> None:
    """In "auto", a terminal gets readable lines in colours, without what is absent."""
    master, slave = os.openpty()
    with open(slave, "w") as terminal, closing(start_logging("info", "auto", terminal, tuple)):  # noqa: PTH123
        logger.info("started", port=8080, reason=None)
    shown = os.read(master, 4_096).decode()
    os.close(master)
    assert "\x1b[32m" in shown
    assert "started" in shown
    assert "8080" in shown
    assert "reason" not in shown


def test_console_without_a_terminal_has_no_colours(log_file: LogFile) -> None:
    """The readable form in a file is plain text."""
    with log_file.logging(form="console"):
        logger.info("started", port=8080)
    assert log_file.text().rstrip().endswith("[info     ] started port=8080")
