"""The admin port: metrics for Prometheus, probes for Kubernetes. Plain HTTP, read only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import hdrs, web
from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import CollectorRegistry

Probe: TypeAlias = "Callable[[], tuple[bool, str]]"
"""Whether all is well, and in words why or why not. Must not block."""

_SHUTDOWN_SECONDS = 1.0
_INDEX = """Outrider

/metrics  metrics for Prometheus
/livez    200 while the process works
/readyz   200 while it takes requests
"""


class AdminServer:
    """Serves from `start` to `aclose`. `listen` is "host:port"; port 0 lets the kernel choose.

    Timeouts are seconds: of making the metrics, and of a connection that brings no whole request.
    """

    def __init__(
        self,
        listen: str,
        registry: CollectorRegistry,
        live: Probe,
        ready: Probe,
        *,
        scrape_timeout: float = 5.0,
        idle_timeout: float = 75.0,
    ) -> None:
        host, _, port = listen.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port)
        self._registry = registry
        self._scrape = asyncio.Lock()
        self._scrape_timeout = scrape_timeout
        app = web.Application()
        app.router.add_get("/", _index)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", _probe_handler(live))
        app.router.add_get("/readyz", _probe_handler(ready))
        self._runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=idle_timeout, shutdown_timeout=_SHUTDOWN_SECONDS
        )

    async def start(self) -> int:
        """Listen; returns the port. Raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return int(self._runner.addresses[0][1])

    async def aclose(self) -> None:
        """Stop listening and close every connection, giving requests under way a moment."""
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        """The registry in the format that the scraper asks for.

        Made on a thread, as it takes milliseconds; one at a time, so that scrapers cannot use up threads.
        """
        try:
            encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        except (TypeError, ValueError):  # it compares whatever stands where a version belongs
            return web.Response(status=406, text="Accept has a bad version\n")
        try:
            async with asyncio.timeout(self._scrape_timeout), self._scrape:
                body = await asyncio.to_thread(encode, self._registry)
        except TimeoutError:
            return web.Response(status=503, text="the scrape took too long\n")
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


async def _index(_: web.Request) -> web.Response:
    return web.Response(text=_INDEX)


def _probe_handler(probe: Probe) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        healthy, reason = probe()
        return web.Response(status=200 if healthy else 503, text=f"{reason}\n")

    return handle
