"""A UsageService on a real server, and a caller's end of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from outrider.core.context import Principal
from outrider.server.callers import Callers
from outrider.server.guard import ErrorGuard
from outrider.server.in_flight import InFlight
from outrider.server.usage_feed import UsageFeed
from outrider.server.usage_service import UsageServicer
from outrider.v1.usage_service_pb2_grpc import UsageServiceStub, add_UsageServiceServicer_to_server
from tests.support.ledger import NOW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from outrider.core.ledger import LedgerStore
    from outrider.core.ports import Clock
    from outrider.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

PATIENCE = 10.0  # seconds until a test is given up
KEPT_FOR = 90 * 86_400.0

ACME = Principal("acme-app", tenant="acme")
OPERATOR = Principal("operator")


@dataclass
class Served:
    """What runs."""

    usage: UsageServiceAsyncStub
    feed: UsageFeed
    in_flight: InFlight
    port: int


@asynccontextmanager
async def served(
    local: LedgerStore,
    shared: LedgerStore | None = None,
    callers: Callers | None = None,
    wall_clock: Clock = lambda: NOW,
) -> AsyncIterator[Served]:
    """Serve these ledgers."""
    feed, in_flight = UsageFeed(shared, wall_clock), InFlight(100)
    servicer = UsageServicer(
        callers=callers or Callers({}),
        local=local,
        shared=shared,
        feed=feed,
        wall_clock=wall_clock,
        kept_for=KEPT_FOR,
    )
    server = grpc.aio.server(interceptors=[ErrorGuard(in_flight, 1_000_000)])
    add_UsageServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        options = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            yield Served(UsageServiceStub(channel), feed, in_flight, port)
    finally:
        await feed.aclose()
        await server.stop(0)


def two_callers() -> Callers:
    """One that belongs to a tenant, one that does not."""
    return Callers({"acme": (ACME, lambda: "acme-token"), "operator": (OPERATOR, lambda: "operator-token")})


def token(text: str) -> dict[str, Any]:
    """Keyword arguments of a call that shows a token."""
    return {"metadata": (("authorization", f"Bearer {text}"),)}


def at(text: str) -> Timestamp:
    """A time, from ISO 8601."""
    time = Timestamp()
    time.FromDatetime(datetime.fromisoformat(text))
    return time
