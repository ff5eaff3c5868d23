from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
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
