"""An EventService on a real server, and a caller's end of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from outrider import v1
from outrider.events.bus import EventBus
from outrider.server.callers import Callers
from outrider.server.event_feed import EventFeed
from outrider.server.event_service import EventServicer
from outrider.server.guard import ErrorGuard
from outrider.server.in_flight import InFlight
from outrider.v1.event_service_pb2_grpc import EventServiceStub, add_EventServiceServicer_to_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from outrider.v1.event_service_pb2_grpc import EventServiceAsyncStub

PATIENCE = 10.0  # seconds until a test is given up
NOW = 1_795_000_000.25


@dataclass
class Served:
    """What runs."""

    events: EventServiceAsyncStub
    bus: EventBus
    feed: EventFeed
    in_flight: InFlight
    port: int

    async def until_idle(self) -> None:
        """Wait until no call runs."""
        await self.in_flight.ended(within=PATIENCE)
        assert not self.in_flight._tasks

    @asynccontextmanager
    async def watching(self, *types: str, **more: Any) -> AsyncIterator[Any]:
        """A watch that has begun; cancelled in the end."""
        call = self.events.WatchEvents(v1.WatchEventsRequest(types=types), timeout=PATIENCE, **more)
        await call.initial_metadata()
        yield call
        call.cancel()


@asynccontextmanager
async def served(callers: Callers | None = None) -> AsyncIterator[Served]:
    """Serve the events of a bus."""
    bus, in_flight = EventBus("/test", lambda: NOW), InFlight(100)
    feed = EventFeed(bus)
    server = grpc.aio.server(interceptors=[ErrorGuard(in_flight, 1_000_000)])
    add_EventServiceServicer_to_server(EventServicer(callers or Callers({}), feed), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(EventServiceStub(channel), bus, feed, in_flight, port)
    finally:
        feed.close()
        await server.stop(0)
