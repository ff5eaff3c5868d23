"""Events, a channel that does as it is told, and the way between them."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any

from outrider.core.events import Event, EventType
from outrider.events.bus import EventBus
from outrider.events.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from outrider import v1
    from outrider.core.events import Fact
    from outrider.events.delivery import Channel

PATIENCE = 30.0  # seconds until a test is given up
NOW = 1_795_000_000.25


def event(number: int, type_: EventType = EventType.JOB_CHANGED, **facts: Fact) -> Event:
    """An event that can be told from others."""
    return Event(type_, f"subject-{number}", {"number": number, **facts})


def number_of(event: v1.CloudEvent) -> int:
    """The number that an event was made with."""
    return int(json.loads(event.data_json)["number"])


def numbers(events: Iterable[v1.CloudEvent]) -> list[int]:
    """Their numbers."""
    return list(map(number_of, events))


def bus() -> EventBus:
    """A bus of a sidecar named /test, on a clock that stands still."""
    return EventBus("/test", lambda: NOW)


def first_of_each(messages: Iterable[dict[str, Any]]) -> list[int]:
    """The numbers of events as a receiver sees them that knows repeats by their ids."""
    return [message["data"]["number"] for message in {each["id"]: each for each in messages}.values()]


class Recorder:
    """A channel that keeps what it gets, once it has raised what it was told to."""

    def __init__(self, name: str = "recorder") -> None:
        self.name = name
        self.failures: list[BaseException] = []
        self.batches: list[list[int]] = []
        self.closed = False

    @property
    def got(self) -> list[int]:
        return [number for batch in self.batches for number in batch]

    async def send(self, events: Sequence[v1.CloudEvent]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(numbers(events))

    async def aclose(self) -> None:
        self.closed = True


@asynccontextmanager
async def delivering(
    to: Channel, *, capacity: int = 1_000, types: Sequence[str] = (), grace: float = 2.0
) -> AsyncIterator[tuple[EventBus, Delivery]]:
    """A bus that a channel hangs on."""
    from_ = bus()
    delivery = Delivery(from_, to, Random(1), capacity=capacity, types=types)
    delivery.start()
    try:
        yield from_, delivery
    finally:
        await delivery.aclose(grace)
