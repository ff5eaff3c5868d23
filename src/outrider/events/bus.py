"""From where events happen to whoever listens. Nobody who listens slowly holds up who emits."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from outrider.events.cloud_event import cloud_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from outrider import v1
    from outrider.core.events import Event, EventType

_log = structlog.get_logger("outrider.events")


class EventBus:
    """The EventSink of a sidecar. `source` names the sidecar in its events."""

    def __init__(self, source: str, wall_clock: Callable[[], float]) -> None:
        self._source = source
        self._wall_clock = wall_clock
        self._subscriptions: set[Subscription] = set()

    def wants(self, type_: EventType) -> bool:
        """Whether anybody listens for events of this type now."""
        return any(each.wants(type_) for each in self._subscriptions)

    def emit(self, event: Event) -> None:
        """Hand an event to every subscription it is for. Never raises; costs nothing where there is none."""
        wanting = [each for each in self._subscriptions if each.is_for(event)]
        if not wanting:
            return
        try:
            made = cloud_event(event, self._source, self._wall_clock())
        except Exception:  # noqa: BLE001 - whoever emits has other work, which must not fail for it
            _log.exception("an event cannot be written", type=str(event.type))
            return
        for each in wanting:
            each.offer(made)

    def subscribe(
        self,
        types: Iterable[str] = (),
        *,
        capacity: int,
        tenant: str = "",
        on_drop: Callable[[], None] = lambda: None,
    ) -> Subscription:
        """Events from now on until it is closed; `on_drop` is told of each for which there was no room.

        `types` are types or their beginnings, none for every type; with a `tenant` only what concerns it.
        """
        subscription = Subscription(self._subscriptions, tuple(types), capacity, tenant, on_drop)
        self._subscriptions.add(subscription)
        return subscription


class Subscription:
    """A bounded buffer of events, for one reader; closed at the end of its block, or before."""

    def __init__(
        self,
        all_of_them: set[Subscription],
        types: tuple[str, ...],
        capacity: int,
        tenant: str,
        on_drop: Callable[[], None],
    ) -> None:
        self._all = all_of_them
        self._types = tuple(f"{each.removesuffix('.')}." for each in types)
        self._tenant = tenant
        self._on_drop = on_drop
        self._events: deque[v1.CloudEvent] = deque(maxlen=capacity)
        self._news = asyncio.Event()
        self._missed = 0
        self._closed = False
        self.dropped = 0  # since the beginning

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more events in. What waits can still be taken."""
        self._closed = True
        self._all.discard(self)
        self._news.set()

    def wants(self, type_: str) -> bool:
        """Whether events of this type may be for it."""
        return not self._types or f"{type_}.".startswith(self._types)

    def is_for(self, event: Event) -> bool:
        """Whether this event is."""
        its_tenants = not self._tenant or event.facts.get("tenant") == self._tenant
        return its_tenants and self.wants(event.type)

    def offer(self, event: v1.CloudEvent) -> None:
        """Take an event in; the oldest one gives way where there is no room."""
        if len(self._events) == self._events.maxlen:
            self._missed += 1
            self.dropped += 1
            self._on_drop()
        self._events.append(event)
        self._news.set()

    @property
    def waiting(self) -> int:
        """How many events wait to be taken."""
        return len(self._events)

    async def take(self, limit: int) -> tuple[list[v1.CloudEvent], int]:
        """The oldest events, at most `limit`, and how many were missed before them. None: it is closed."""
        while not self._events and not self._closed:
            self._news.clear()
            await self._news.wait()
        taken = [self._events.popleft() for _ in range(min(limit, len(self._events)))]
        missed, self._missed = self._missed, 0
        return taken, missed
