"""Delivers events to one channel, in order, again and again until it has them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from outrider.core.events import ChannelCount

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random

    from outrider import v1
    from outrider.events.bus import EventBus

_BATCH = 100
_FIRST_PAUSE = 0.5  # seconds
_LONGEST_PAUSE = 30.0
_LONGEST_RETRY_AFTER = 300.0
_LAST_WORDS = 1.0  # seconds, for a channel that is given up

_log = structlog.get_logger("outrider.events")


class DeliveryError(Exception):
    """A channel did not take a batch. `lasting`: it never will, so that the batch is given up."""

    def __init__(self, message: str, *, lasting: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.lasting = lasting
        self.retry_after = retry_after  # seconds for which it wants to be left alone


class Channel(Protocol):
    """Where events go."""

    name: str

    async def send(self, events: Sequence[v1.CloudEvent]) -> None:
        """Deliver them all, in order, within some bound of time. Raises DeliveryError.

        What was delivered before it failed is delivered again: receivers tell repeats by their ids.
        """

    async def aclose(self) -> None:
        """Close connections."""


class Delivery:
    """The way from a bus to a channel, from when it is made. Beyond `capacity` events the oldest are lost."""

    def __init__(
        self, bus: EventBus, channel: Channel, random: Random, *, capacity: int, types: Iterable[str] = ()
    ) -> None:
        self._channel = channel
        self._random = random
        self._subscription = bus.subscribe(types, capacity=capacity, on_drop=self._note_drop)
        self._sending: Sequence[v1.CloudEvent] = ()
        self._hurried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self._losing = False
        self._delivered = 0
        self._refused = 0

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run(), name=f"events {self._channel.name}")

    def hurry(self) -> None:
        """Something has changed: try again now."""
        self._hurried.set()

    def count(self) -> ChannelCount:
        """How it keeps up."""
        return ChannelCount(
            self._channel.name,
            delivered=self._delivered,
            dropped=self._subscription.dropped + self._refused,
            waiting=self._subscription.waiting + len(self._sending),
        )

    async def aclose(self, grace: float = 2.0) -> None:
        """Deliver what waits, for at most `grace` seconds, and close the channel."""
        self._subscription.close()
        self.hurry()
        if self._task is not None:
            try:
                await asyncio.wait([self._task], timeout=grace)
            finally:
                self._task.cancel()
            await asyncio.wait([self._task], timeout=_LAST_WORDS)
        left = self.count().waiting
        if left:
            _log.warning("events were not delivered", channel=self._channel.name, count=left)
        await self._channel.aclose()

    async def _run(self) -> None:
        while True:
            self._sending, _ = await self._subscription.take(_BATCH)
            if not self._sending:
                return
            if await self._deliver(self._sending):
                self._delivered += len(self._sending)
            else:
                self._refused += len(self._sending)
            self._sending = ()
            self._note_room()

    async def _deliver(self, events: Sequence[v1.CloudEvent]) -> bool:
        """Whether the channel has taken them, in the end."""
        pause = _FIRST_PAUSE
        while (error := await self._try(events)) is not None:
            self._note_failure(error, len(events))
            if error.lasting:
                return False
            own = pause * self._random.uniform(0.5, 1.0)
            if await self._wait(max(own, min(error.retry_after, _LONGEST_RETRY_AFTER))):
                pause = _FIRST_PAUSE
            else:
                pause = min(pause * 2, _LONGEST_PAUSE)
        if self._failing:
            self._failing = False
            _log.info("events are delivered again", channel=self._channel.name)
        return True

    async def _try(self, events: Sequence[v1.CloudEvent]) -> DeliveryError | None:
        try:
            await self._channel.send(events)
        except DeliveryError as error:
            return error
        except Exception as error:  # noqa: BLE001 - one batch must not hold up all that come after it
            _log.exception("events cannot be sent", channel=self._channel.name)
            return DeliveryError(type(error).__name__, lasting=True)
        return None

    async def _wait(self, seconds: float) -> bool:
        """Whether it was hurried."""
        try:
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
        except TimeoutError:
            return False
        self._hurried.clear()
        return True

    def _note_failure(self, error: DeliveryError, count: int) -> None:
        if error.lasting:
            _log.warning("events refused", channel=self._channel.name, count=count, why=str(error))
        elif not self._failing:
            self._failing = True
            _log.warning("events wait", channel=self._channel.name, why=str(error))

    def _note_drop(self) -> None:
        if not self._losing:
            self._losing = True
            _log.warning("events are lost: more wait than there is room for", channel=self._channel.name)

    def _note_room(self) -> None:
        if self._losing and not self._subscription.waiting:
            self._losing = False
            _log.info("events are lost no more", channel=self._channel.name, lost=self.count().dropped)
