"""The way from the bus to a channel, on a clock that stands still."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from outrider.events.delivery import DeliveryError
from outrider.events.outlets import Outlets
from tests.events.events import Recorder, delivering, event
from tests.support.paused_clock import now, paused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider import v1


class Gate(Recorder):
    """A channel that takes nothing until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()

    async def send(self, events: Sequence[v1.CloudEvent]) -> None:
        await self.opened.wait()
        await super().send(events)


class Timed(Recorder):
    """A channel that notes when it was tried."""

    def __init__(self) -> None:
        super().__init__()
        self.tries: list[float] = []

    async def send(self, events: Sequence[v1.CloudEvent]) -> None:
        self.tries.append(now())
        await super().send(events)


def counts(numbers: tuple[object, ...]) -> tuple[object, ...]:
    """Without the channel's name."""
    return numbers[1:]


@paused
async def test_events_are_delivered_in_order_in_batches() -> None:
    """Those that wait go together, a hundred at most."""
    channel = Recorder()
    async with delivering(channel) as (bus, delivery):
        for number in range(250):
            bus.emit(event(number))
        await asyncio.sleep(1)
        assert channel.got == list(range(250))
        assert list(map(len, channel.batches)) == [100, 100, 50]
        assert counts(delivery.count()) == (250, 0, 0)
    assert channel.closed


@paused
async def test_what_fails_is_tried_again_with_growing_pauses() -> None:
    """Row 29: nothing is lost and nothing overtakes; pauses double from half a second to half a minute."""
    channel = Timed()
    channel.failures = [DeliveryError("away")] * 10
    async with delivering(channel) as (bus, delivery):
        bus.emit(event(1))
        await asyncio.sleep(0.01)
        bus.emit(event(2))
        assert counts(delivery.count()) == (0, 0, 2)
        await asyncio.sleep(300)
        assert channel.got == [1, 2]
    pauses = [after - before for before, after in zip(channel.tries, channel.tries[1:11], strict=False)]
    assert all(
        longest / 2 <= pause <= longest
        for pause, longest in zip(pauses, [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30], strict=True)
    )


@paused
async def test_a_channel_says_how_long_to_leave_it_alone() -> None:
    """Longer than we would have; at most five minutes."""
    channel = Timed()
    channel.failures = [DeliveryError("busy", retry_after=7.0), DeliveryError("busy", retry_after=1e9)]
    async with delivering(channel) as (bus, _):
        bus.emit(event(1))
        await asyncio.sleep(400)
    assert channel.got == [1]
    assert [round(each - channel.tries[0]) for each in channel.tries] == [0, 7, 307]


@paused
async def test_a_hurried_delivery_tries_at_once() -> None:
    """Where something is known to be back, nobody waits for the rest of a pause."""
    channel = Timed()
    channel.failures = [DeliveryError("away")] * 100
    async with delivering(channel) as (bus, delivery):
        bus.emit(event(1))
        await asyncio.sleep(100)
        before = now()
        channel.failures = []
        delivery.hurry()
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert channel.got == [1]
        assert channel.tries[-1] == before


@paused
async def test_what_is_refused_for_good_is_given_up() -> None:
    """And counted, and told of; what comes after it is delivered. So with a mistake of our own."""
    channel = Recorder()
    channel.failures = [DeliveryError("status 400", lasting=True), ZeroDivisionError()]
    with structlog.testing.capture_logs() as logs:
        async with delivering(channel) as (bus, delivery):
            for number in range(3):
                bus.emit(event(number))
                await asyncio.sleep(1)
            assert channel.got == [2]
            assert counts(delivery.count()) == (1, 2, 0)
    refused = [line["why"] for line in logs if line["event"] == "events refused"]
    assert refused == ["status 400", "ZeroDivisionError"]


@paused
async def test_a_slow_channel_loses_the_oldest() -> None:
    """Row 30: what waits is bounded; a loss is counted for each event, and logged once, as is its end."""
    channel = Gate()
    with structlog.testing.capture_logs() as logs:
        async with delivering(channel, capacity=10) as (bus, delivery):
            bus.emit(event(0))
            await asyncio.sleep(1)  # on its way
            for number in range(1, 31):
                bus.emit(event(number))
            assert counts(delivery.count()) == (0, 20, 11)
            channel.opened.set()
            await asyncio.sleep(1)
            assert channel.got == [0, *range(21, 31)]
            assert counts(delivery.count()) == (11, 20, 0)
    assert [line["event"] for line in logs] == [
        "events are lost: more wait than there is room for",
        "events are lost no more",
    ]
    assert logs[-1]["lost"] == 20


@paused
async def test_an_outage_is_logged_once() -> None:
    """Its beginning and its end, however often it was tried."""
    channel = Recorder()
    channel.failures = [DeliveryError("refused")] * 5
    with structlog.testing.capture_logs() as logs:
        async with delivering(channel) as (bus, _):
            bus.emit(event(1))
            await asyncio.sleep(100)
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("events wait", "warning"),
        ("events are delivered again", "info"),
    ]


@paused
async def test_what_waits_is_delivered_at_the_end() -> None:
    """Row 15: what was emitted before the end is, also what is on its way just then."""
    channel = Gate()
    async with delivering(channel) as (bus, _):
        bus.emit(event(1))
        await asyncio.sleep(1)
        bus.emit(event(2))
        asyncio.get_running_loop().call_later(1.5, channel.opened.set)
    assert channel.got == [1, 2]
    assert channel.closed


@paused
async def test_the_end_is_bounded() -> None:
    """Row 15: a channel that is away holds up a drain for two seconds, not longer; the loss is told."""
    channel = Recorder()
    channel.failures = [DeliveryError("away")] * 100
    with structlog.testing.capture_logs() as logs:
        async with delivering(channel) as (bus, _):
            bus.emit(event(1))
            await asyncio.sleep(100)
            bus.emit(event(2))
            tried, before = 100 - len(channel.failures), now()
    assert now() - before <= 3.0
    assert 100 - len(channel.failures) > tried  # once more, at least
    assert logs[-1]["event"] == "events were not delivered"
    assert (logs[-1]["count"], channel.closed) == (2, True)


@paused
async def test_outlets_close_together() -> None:
    """Channels that hang cost a drain no more than one that does."""
    async with (
        delivering(Gate(), grace=0) as (one_bus, one),
        delivering(Gate(), grace=0) as (other_bus, other),
    ):
        outlets = Outlets([one, other])
        one_bus.emit(event(1))
        other_bus.emit(event(1))
        await asyncio.sleep(1)
        before = now()
        await outlets.aclose()
        assert now() - before <= 3.0
        assert [count.waiting for count in outlets.counts()] == [1, 1]
