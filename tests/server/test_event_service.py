"""WatchEvents: events as they happen, over a real connection."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from outrider import v1
from outrider.core.events import Event, EventType
from tests.server.event_caller import PATIENCE, served
from tests.server.usage_caller import token, two_callers
from tests.support.sidecar import Failure

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def event(number: int, type_: EventType = EventType.JOB_CHANGED, **facts: str) -> Event:
    return Event(type_, f"subject-{number}", facts)


async def read(call: Any, count: int) -> list[str]:
    """The subjects of the next events."""
    return [(await call.read()).event.subject for _ in range(count)]


async def refused(call: Any) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    return Failure.of(caught.value)


async def test_events_come_as_they_happen() -> None:
    """To all that watch, within the types that they named, with all that is known of them."""
    async with (
        served() as sidecar,
        sidecar.watching() as all_,
        sidecar.watching("dev.outrider.route", "dev.outrider.breaker.changed") as some,
    ):
        sidecar.bus.emit(Event(EventType.JOB_CHANGED, "job-1", {"state": "FAILED"}, TRACEPARENT))
        sidecar.bus.emit(event(2, EventType.ROUTE_CHANGED))
        first = (await all_.read()).event
        assert (first.type, first.subject, first.source) == ("dev.outrider.job.changed", "job-1", "/test")
        assert first.time.ToNanoseconds() == 1_795_000_000_250_000_000
        assert (first.traceparent, json.loads(first.data_json)) == (TRACEPARENT, {"state": "FAILED"})
        assert await read(all_, 1) == ["subject-2"]
        assert await read(some, 1) == ["subject-2"]


async def test_a_caller_of_a_tenant_sees_its_own_events_alone() -> None:
    """Not those of other tenants, and not those of providers, routes and the sidecar as a whole."""
    async with (
        served(callers=two_callers()) as sidecar,
        sidecar.watching(**token("acme-token")) as acme,
        sidecar.watching(**token("operator-token")) as operator,
    ):
        sidecar.bus.emit(event(1, tenant="zeta"))
        sidecar.bus.emit(event(2, EventType.PROVIDER_HEALTH_CHANGED))
        sidecar.bus.emit(event(3, tenant="acme"))
        assert await read(acme, 1) == ["subject-3"]
        assert await read(operator, 3) == ["subject-1", "subject-2", "subject-3"]


async def test_nobody_watches_unknown() -> None:
    """Row 28: who has no token is told to send one, and learns nothing."""
    async with served(callers=two_callers()) as sidecar:
        for metadata in ({}, token("wrong")):
            failure = await refused(sidecar.events.WatchEvents(v1.WatchEventsRequest(), **metadata))
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN")
        assert not sidecar.bus.wants(EventType.JOB_CHANGED)


@pytest.mark.parametrize(
    ("types", "field"),
    [(["dev.outrider.job", "job"], "types[1]"), ([""], "types[0]"), (["dev"] * 33, "types")],
)
async def test_types_that_there_are_not_are_told_of(types: list[str], field: str) -> None:
    """A watch that would never see anything is refused, with the types that there are."""
    async with served() as sidecar:
        failure = await refused(sidecar.events.WatchEvents(v1.WatchEventsRequest(types=types)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert failure.bad_request
    assert failure.bad_request.field_violations[0].field == field


async def test_what_is_missed_is_told() -> None:
    """Row 30: a watcher has room for 1,000 events; it is told how many of the oldest are lost."""
    async with served() as sidecar, sidecar.watching() as call:
        for number in range(1_250):
            sidecar.bus.emit(event(number))
        told = await call.read()
        assert (told.missed, told.HasField("event")) == (250, False)
        assert await read(call, 1_000) == [f"subject-{number}" for number in range(250, 1_250)]
        sidecar.bus.emit(event(0))
        assert (await call.read()).missed == 0


async def test_a_drain_ends_watches() -> None:
    """Row 15: what waits is given out, then each ends with DRAINING; new ones are refused."""
    async with served() as sidecar, sidecar.watching() as call:
        sidecar.bus.emit(event(1))
        sidecar.feed.close()
        assert await read(call, 1) == ["subject-1"]
        for again in (call, sidecar.events.WatchEvents(v1.WatchEventsRequest(), timeout=PATIENCE)):
            failure = await refused(again)
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        await sidecar.until_idle()


async def test_whoever_leaves_leaves_nothing_behind() -> None:
    """Row 11: once the last watcher has gone, no event is made any more."""
    async with served() as sidecar:
        for _ in range(3):
            async with sidecar.watching() as one, sidecar.watching() as other:
                one.cancel()
                sidecar.bus.emit(event(1))
                assert await read(other, 1) == ["subject-1"]
            await sidecar.until_idle()
            assert not sidecar.bus.wants(EventType.JOB_CHANGED)


async def test_watchers_are_bounded() -> None:
    """Beyond 32 a caller is told to come back; there is room again when others have left."""
    async with served() as sidecar:
        calls = [sidecar.events.WatchEvents(v1.WatchEventsRequest(), timeout=PATIENCE) for _ in range(32)]
        for call in calls:
            await call.initial_metadata()
        failure = await refused(sidecar.events.WatchEvents(v1.WatchEventsRequest(), timeout=PATIENCE))
        assert failure.reason == "LOAD_SHED"
        for call in calls:
            call.cancel()
        await sidecar.until_idle()
        async with sidecar.watching():
            pass
