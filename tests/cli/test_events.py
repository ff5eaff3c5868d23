"""`outrider events`."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from outrider.core.events import Event, EventType
from tests.cli.stand_in import PATIENCE
from tests.cli.test_terminal import Terminal
from tests.server.event_caller import Served, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Run, Start

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
JOB = Event(EventType.JOB_CHANGED, "job-1", {"state": "FAILED", "tries": 2, "last": True}, TRACEPARENT)
FACTS = "state=FAILED  tries=2  last=true"
FAILED = Event(EventType.REQUEST_FAILED, "evil\x1b[2J", {"reason": "a b\nc"})


@dataclass
class Sidecar:
    """The real EventService on a loop of its own."""

    address: str
    served: Served
    loop: asyncio.AbstractEventLoop

    def emit(self, *events: Event) -> None:
        """Once somebody watches."""
        asyncio.run_coroutine_threadsafe(self._emit(events), self.loop).result(PATIENCE)

    def drain(self) -> None:
        self.do(self.served.feed.close)

    def do(self, what: Callable[[], None]) -> None:
        self.loop.call_soon_threadsafe(what)

    async def _emit(self, events: tuple[Event, ...]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self.served.bus.wants(EventType.JOB_CHANGED):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for event in events:
            self.served.bus.emit(event)


@pytest.fixture
def sidecar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sidecar]:
    """A server of events. Commands find it by OUTRIDER_ADDRESS."""
    with _real_service() as real:
        monkeypatch.setenv("OUTRIDER_ADDRESS", real.address)
        yield real


@contextmanager
def _real_service() -> Iterator[Sidecar]:
    started: SimpleQueue[tuple[Sidecar, asyncio.Event]] = SimpleQueue()

    async def serve() -> None:
        over = asyncio.Event()
        async with served() as running:
            loop = asyncio.get_running_loop()
            started.put((Sidecar(f"127.0.0.1:{running.port}", running, loop), over))
            await over.wait()

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    real, over = started.get(timeout=PATIENCE)
    try:
        yield real
    finally:
        real.loop.call_soon_threadsafe(over.set)
        thread.join()


def test_events_are_lines_as_they_come(start: Start, sidecar: Sidecar) -> None:
    """What happened to whom, and the facts; whatever is in them stays on its line, and steers no terminal."""
    process = start("events")
    sidecar.emit(JOB, FAILED)
    assert process.stdout
    assert process.stderr
    when = "2026-11-18 11:06:40"
    assert process.stdout.readline() == f"{when}  job.changed        job-1  {FACTS}\n"
    assert process.stdout.readline() == f"{when}  request.failed     evil\ufffd[2J  reason=a b c\n"
    assert process.stderr.readline() == "Watching; Ctrl-C ends it.\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130


def test_machines_get_cloud_events(start: Start, sidecar: Sidecar) -> None:
    """One on each line, in the JSON format of CloudEvents, and what was missed in its place."""
    process = start("events", "--json", "--type", "job", "--type", "dev.outrider.route")
    sidecar.emit(FAILED, JOB)
    assert process.stdout
    first = json.loads(process.stdout.readline())
    assert first.pop("id")
    assert first == {
        "specversion": "1.0",
        "source": "/test",
        "type": "dev.outrider.job.changed",
        "subject": "job-1",
        "time": "2026-11-18T11:06:40.250Z",
        "datacontenttype": "application/json",
        "traceparent": TRACEPARENT,
        "data": {"state": "FAILED", "tries": 2, "last": True},
    }
    sidecar.emit(*[JOB] * 1_100)
    assert json.loads(process.stdout.readline()) == {"missed": 100}
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "")
    assert json.loads(out.splitlines()[-1])["error"]["code"] == "CANCELLED"


def test_a_terminal_shows_colour(sidecar: Sidecar) -> None:
    """Failures are red, and NO_COLOR is heeded."""
    with Terminal("events") as terminal:
        sidecar.emit(FAILED)
        terminal.read_until("reason=")
        assert "\x1b[31mrequest.failed" in terminal.shown
    with Terminal("events", NO_COLOR="1") as terminal:
        terminal.read_until("Watching")
        sidecar.emit(FAILED)
        terminal.read_until("reason=")
        assert "\x1b[" not in terminal.shown


def test_missed_events_are_told_of(start: Start, sidecar: Sidecar) -> None:
    """A person too learns that there is a gap."""
    process = start("events")
    sidecar.emit(*[JOB] * 1_100)
    assert process.stdout
    assert process.stdout.readline() == "100 events were missed: they came faster than they were read\n"
    process.kill()


def test_a_drain_is_an_error(start: Start, sidecar: Sidecar) -> None:
    """Whoever watches is told that this sidecar stops."""
    process = start("events")
    sidecar.emit(JOB)
    sidecar.drain()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5
    assert len(out.splitlines()) == 1
    assert "the sidecar is stopping [DRAINING]" in err


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_types_that_there_are_not_are_told_of(run: Run, sidecar: Sidecar, options: list[str]) -> None:
    """With those that there are."""
    result = run("events", "--type", "jobs", *options)
    assert result.code == 3
    assert "no type of events begins so; there are dev.outrider.request.completed" in result.out + result.err


def test_nobody_answers(run: Run) -> None:
    """The usual error, and nothing else."""
    result = run("events", "--address", "127.0.0.1:1")
    assert (result.code, result.out) == (5, "")
    assert result.err == "outrider: no sidecar answers at 127.0.0.1:1; start one with `outrider serve`\n"
