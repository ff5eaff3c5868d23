"""One answer on its way, and everyone who reads along."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import aclosing
from typing import TYPE_CHECKING, Generic, TypeVar

from outrider.core.errors import GenerationError
from outrider.core.streams import Failure
from outrider.policy.seat import Seat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider.core.ports import Batch

SeatT = TypeVar("SeatT", bound=Seat)

# How long the last reader waits for the provider's connection to close.
_CLOSING_SECONDS = 1.0


class Broadcast(ABC, Generic[SeatT]):
    """A task that runs a handler once, whoever comes and goes; each reader reads at its own pace.

    What is kept of the events, for whom, and what becomes of a broadcast that nobody reads, is for each kind
    to say: `_hear`, `_take`, `_failed`, `_ended` and `_leave`.
    """

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self._seats: list[SeatT] = []  # longest there first
        self._failure: Failure | None = None
        self._crash: Exception | None = None
        self._is_stopping = False
        self._is_over = False
        self._is_whole = False  # for each kind to say; what is whole is not cut any more

    def _play(self, answer: AsyncGenerator[Batch, None], name: str) -> None:
        """Begin. The answer is not kept: it leads back here."""
        self.task = asyncio.create_task(self._run(answer), name=name)

    @abstractmethod
    async def _hear(self, batch: Batch) -> None:
        """Keep what has come. Nothing more comes before it returns."""

    @abstractmethod
    def _take(self, seat: SeatT) -> Batch:
        """What a seat has not been given yet, as far as it is there; it is the reader's own."""

    @abstractmethod
    def _failed(self, seat: SeatT) -> Exception:
        """Why nothing follows what a seat was given, where the answer is not whole."""

    @abstractmethod
    def _ended(self) -> None:
        """Nothing follows; told once, before the readers know."""

    @abstractmethod
    async def _leave(self, seat: SeatT) -> None:
        """A reader has ended."""

    async def _wait(self, seat: SeatT) -> None:
        await seat.wait()

    async def _run(self, answer: AsyncGenerator[Batch, None]) -> None:
        try:
            async with aclosing(answer) as batches:
                async for batch in batches:
                    await self._hear(batch)
        except GenerationError as error:
            self._failure = Failure.of(error)
        except Exception as bug:  # noqa: BLE001 - every reader raises it
            self._crash = bug
        finally:
            self._is_over = True
            self._ended()
            self._wake_all()

    async def _read(self, seat: SeatT) -> AsyncGenerator[Batch, None]:
        """What a seat is given. Raises GenerationError."""
        try:
            while True:
                if seat.error is not None:
                    raise Failure(seat.error, committed=seat.cursor > 0).error()
                batch = self._take(seat)
                if batch:
                    yield batch
                    if batch[-1].HasField("completed"):
                        return
                elif self._is_over:
                    if self._is_whole:
                        return
                    raise self._failed(seat)  # under a name it would form a cycle with this frame
                else:
                    await self._wait(seat)
        finally:
            await self._leave(seat)

    def _wake_all(self) -> None:
        for seat in self._seats:
            seat.wake()

    def _cancel(self, why: str | None = None) -> None:
        """End the handler. Once: a second time would break off how it ends."""
        if not self._is_stopping and not self._is_whole:
            self._is_stopping = True
            self.task.cancel(why)

    async def _stop(self, why: str | None = None) -> None:
        """End the handler; returns once it has let go, within a second."""
        self._cancel(why)
        await asyncio.wait((self.task,), timeout=_CLOSING_SECONDS)
