from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from outrider.admin.http import AdminServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from prometheus_client.metrics_core import Metric

    from outrider.admin.http import Probe


@asynccontextmanager
async def serving(
    registry: CollectorRegistry | None = None,
    live: Probe = lambda: (True, "ok"),
    ready: Probe = lambda: (True, "ok"),
    **timeouts: float,
) -> AsyncIterator[aiohttp.ClientSession]:
    server = AdminServer("127.0.0.1:0", registry or CollectorRegistry(), live, ready, **timeouts)
    port = await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        await server.aclose()


class Held(Collector):
    """A metric that is not to be had until it is released; knows the thread that asks."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.released = threading.Event()
        self.thread = 0

    def collect(self) -> Iterator[Metric]:
        self.thread = threading.get_ident()
        self.asked.set()
        assert self.released.wait(10)
        yield GaugeMetricFamily("held", "Held.", value=1)


async def test_metrics_for_prometheus() -> None:
    """Without a wish, /metrics is in the classic text format."""
    registry = CollectorRegistry()
    Counter("things_total", "Things.", registry=registry).inc(3)
    async with serving(registry) as client, client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "things_total 3.0\n" in await answer.text()


async def test_metrics_for_openmetrics() -> None:
    """A scraper that accepts OpenMetrics gets it."""
    registry = CollectorRegistry()
    Counter("things_total", "Things.", registry=registry).inc(3)
    wish = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.5"}
    async with serving(registry) as client, client.get("/metrics", headers=wish) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        text = await answer.text()
    assert text.endswith("# EOF\n")
    assert "things" in {family.name for family in text_string_to_metric_families(text)}


@pytest.mark.parametrize("wish", ["application/openmetrics-text;version=abc", "text/plain;version=x.y"])
async def test_odd_wishes_are_no_server_error(wish: str) -> None:
    """An Accept header that makes no sense is answered, and not with a server error."""
    async with serving() as client, client.get("/metrics", headers={"Accept": wish}) as answer:
        assert answer.status < 500


async def test_scrape_does_not_hold_up_the_loop() -> None:
    """While metrics are made, on another thread, probes answer."""
    held = Held()
    registry = CollectorRegistry()
    registry.register(held)
    async with serving(registry) as client:
        scrape = asyncio.create_task(client.get("/metrics"))
        await asyncio.to_thread(held.asked.wait, 10)
        async with client.get("/livez") as probe:
            assert probe.status == 200
        assert not scrape.done()
        held.released.set()
        async with await scrape as answer:
            assert "held 1.0" in await answer.text()
    assert held.thread != threading.get_ident()


async def test_scrape_has_a_bound() -> None:
    """A scrape that takes too long is 503, and so is one that waits behind it."""
    held = Held()
    registry = CollectorRegistry()
    registry.register(held)
    async with serving(registry, scrape_timeout=0.05) as client:
        scrapes = [client.get("/metrics") for _ in range(2)]
        for answer in await asyncio.gather(*scrapes):
            assert answer.status == 503
        held.released.set()


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize(("healthy", "status"), [(True, 200), (False, 503)])
async def test_probe_says_how_and_why(path: str, healthy: bool, status: int) -> None:
    """A probe is 200 or 503, and its text says why; each path asks its own question."""
    asked = (healthy, "because")
    other = (not healthy, "not asked")
    answers = (asked, other) if path == "/livez" else (other, asked)
    async with serving(None, lambda: answers[0], lambda: answers[1]) as client, client.get(path) as answer:
        assert answer.status == status
        assert await answer.text() == "because\n"


async def test_probe_is_asked_each_time() -> None:
    """Readiness may change between two probes."""
    ready = [False]
    async with serving(ready=lambda: (ready[0], "drain")) as client:
        assert (await client.get("/readyz")).status == 503
        ready[0] = True
        assert (await client.get("/readyz")).status == 200


async def test_index_lists_the_paths() -> None:
    """The root names every path that there is."""
    async with serving() as client:
        index = await (await client.get("/")).text()
        paths = [word for word in index.split() if word.startswith("/")]
        assert paths == ["/metrics", "/livez", "/readyz"]
        for path in paths:
            assert (await client.get(path)).status == 200


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz"])
async def test_head_is_get_without_a_body(path: str) -> None:
    """HEAD has the status and type of GET, and no body."""
    async with serving() as client, client.head(path) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        assert await answer.read() == b""


async def test_unknown_path_is_404() -> None:
    """Another path is 404 in plain text, another method 405."""
    async with serving() as client:
        async with client.get("/admin") as answer:
            assert (answer.status, answer.content_type) == (404, "text/plain")
        async with client.post("/metrics", data=b"x") as answer:
            assert answer.status == 405


@pytest.mark.parametrize("sent", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: local"])
async def test_half_a_request_is_not_waited_for(sent: bytes) -> None:
    """A connection that brings no whole request is closed after the idle timeout."""
    server = AdminServer(
        "127.0.0.1:0", CollectorRegistry(), lambda: (True, ""), lambda: (True, ""), idle_timeout=0.05
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
    writer.write(sent)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await server.aclose()


async def test_close_frees_the_port_while_clients_hold_on() -> None:
    """`aclose` ends idle and silent connections at once, and the port can be taken again."""
    server = AdminServer("127.0.0.1:0", CollectorRegistry(), lambda: (True, ""), lambda: (True, ""))
    port = await server.start()
    silent, writer = await asyncio.open_connection("127.0.0.1", port)
    idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
    idle_writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await idle.readline()).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(5):
        await server.aclose()
        await silent.read()
        await idle.read()
    for each in (writer, idle_writer):
        each.close()
        await each.wait_closed()
    again = AdminServer(f"127.0.0.1:{port}", CollectorRegistry(), lambda: (True, ""), lambda: (True, ""))
    assert await again.start() == port
    await again.aclose()


async def test_port_in_use_is_an_error() -> None:
    """A port that is taken raises OSError at `start`; closing afterwards is safe."""
    first = AdminServer("127.0.0.1:0", CollectorRegistry(), lambda: (True, ""), lambda: (True, ""))
    port = await first.start()
    second = AdminServer(f"127.0.0.1:{port}", CollectorRegistry(), lambda: (True, ""), lambda: (True, ""))
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await second.aclose()
    await first.aclose()


async def test_listens_on_ipv6() -> None:
    """An IPv6 address is written in brackets."""
    server = AdminServer("[::1]:0", CollectorRegistry(), lambda: (True, "six"), lambda: (True, ""))
    port = await server.start()
    async with aiohttp.ClientSession() as client, client.get(f"http://[::1]:{port}/livez") as answer:
        assert await answer.text() == "six\n"
    await server.aclose()


async def converse(port: int, sent: bytes) -> bytes:
    """Everything that a connection brings on which these bytes are sent, and then no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(5):
        got = await reader.read()
    writer.close()
    with suppress(ConnectionResetError):
        await writer.wait_closed()
    return got


@asynccontextmanager
async def listening(**timeouts: float) -> AsyncIterator[int]:
    """A server's port."""
    server = AdminServer(
        "127.0.0.1:0", CollectorRegistry(), lambda: (True, "ok"), lambda: (True, "ok"), **timeouts
    )
    yield await server.start()
    await server.aclose()


async def test_requests_follow_each_other_on_one_connection() -> None:
    """A connection is kept until its client wants no more of it, also where requests come in a heap."""
    first = b"GET /livez?verbose HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"
    async with listening() as port:
        got = await converse(port, first * 3 + last + first)
    assert got.count(b"HTTP/1.1 200 OK") == 3
    assert got.count(b"HTTP/1.1 404 Not Found") == 1
    assert got.endswith(b"\r\n\r\nnot found\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", b"200"),
        (b"POST /livez HTTP/1.1\r\nContent-Length: 50\r\n\r\nGET /livez HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"200"),
        (b"GET /livez\r\n\r\n", b"400"),
        (b"GET /livez HTTP/2\r\n\r\n", b"400"),
        (b"\xff\x00 /livez HTTP/1.1\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"\r\n\r\n", b"400"),
    ],
)
async def test_odd_requests_end_the_connection(sent: bytes, status: bytes) -> None:
    """What is not understood, or may be followed by a body, is answered once and never read on."""
    async with listening(idle_timeout=0.2) as port:
        got = await converse(port, sent)
    assert got.startswith(b"HTTP/1.1 " + status)
    assert got.count(b"HTTP/1.1") == 1


async def test_endless_request_is_not_read() -> None:
    """A request whose head is larger than 16 KiB is closed, not collected."""
    async with listening() as port:
        assert await converse(port, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000) == b""


async def test_silent_connections_do_not_lock_out_a_probe() -> None:
    """However many connections say nothing, the next one that asks is answered."""
    async with listening() as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        ask = b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"
        assert (await converse(port, ask)).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(5):
            assert await silent[0][0].read() == b""  # the oldest made room
        for _, writer in silent:
            writer.close()


async def test_client_that_does_not_read_is_left() -> None:
    """A connection that takes no answers does not hold them for ever."""
    async with listening(idle_timeout=0.1) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionError):
                while True:
                    writer.write(b"GET / HTTP/1.1\r\n\r\n" * 1000)
                    await writer.drain()
        writer.close()


class Broken(Collector):
    """A metric with a bug."""

    def collect(self) -> Iterator[Metric]:
        raise ZeroDivisionError("secret")


async def test_broken_metric_is_a_server_error(caplog: pytest.LogCaptureFixture) -> None:
    """A metric that raises costs its scrape a 500, with nothing of the reason but in the log."""
    registry = CollectorRegistry()
    registry.register(Broken())
    async with serving(registry) as client:
        async with client.get("/metrics") as answer:
            assert answer.status == 500
            assert "secret" not in await answer.text()
        async with client.get("/livez") as answer:
            assert answer.status == 200
    assert "ZeroDivisionError" in caplog.text
