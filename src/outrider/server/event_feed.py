"""Who watches events: so many at most, each with room for so many events, and none beyond a drain."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from outrider.events.bus import EventBus, Subscription

_MOST_WATCHERS = 32
_MOST_WAITING = 1_000  # events, for one watcher
_AT_ONCE = 100


class EventWatch:
    """The events that one caller waits for."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    async def take(self) -> Sequence[v1.WatchEventsResponse]:
        """What comes next, once there is something. Raises GenerationError DRAINING after the last."""
        events, missed = await self._subscription.take(_AT_ONCE)
        if not events:
            raise _draining()
        told = [v1.WatchEventsResponse(missed=missed)] if missed else []
        return told + [v1.WatchEventsResponse(event=event) for event in events]


class EventFeed:
    """The watches of a sidecar."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._watched: set[Subscription] = set()
        self._closed = False

    @contextmanager
    def watch(self, types: Sequence[str], tenant: str) -> Iterator[EventWatch]:
        """Events that happen within the block; with a tenant, those alone that concern it.

        Raises GenerationError: DRAINING, LOAD_SHED.
        """
        if self._closed:
            raise _draining()
        if len(self._watched) >= _MOST_WATCHERS:
            text = f"{_MOST_WATCHERS} callers watch already"
            raise GenerationError(Reason.LOAD_SHED, text, retry_after=5.0)
        with self._bus.subscribe(types, tenant=tenant, capacity=_MOST_WAITING) as subscription:
            self._watched.add(subscription)
            try:
                yield EventWatch(subscription)
            finally:
                self._watched.discard(subscription)

    def close(self) -> None:
        """End every watch with DRAINING, and let no more begin; before the server waits for its calls."""
        self._closed = True
        for subscription in self._watched:
            subscription.close()


def _draining() -> GenerationError:
    return GenerationError(Reason.DRAINING, "the sidecar is stopping")
