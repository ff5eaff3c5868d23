"""One answer for everyone who asks the same at the same time.

A flight is a broadcast that each caller reads from the beginning, with a deadline of its own. It ends when
the last one leaves.

Exactly one of them pays: the one that has been there longest when the flight ends. Its record, limits and
budgets are those of the flight; the others use nothing.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.policy.broadcast import Broadcast
from outrider.policy.passenger import Passenger
from outrider.policy.payer import FlightRecord, PayersReservation
from outrider.policy.replay import charge_nothing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from outrider.core.context import Record, RequestContext
    from outrider.core.ports import Batch, Clock, Handler

# Of events given to a reader at once: copying them must not hold up the others.
_MOST_EVENTS = 256
_STORED = (v1.CACHE_STATUS_HIT, v1.CACHE_STATUS_STALE)


class Flight(Broadcast[Passenger]):
    """See the module. `first` is who sends for the answer, and has to read it; `on_end` is called once nobody
    may join any more, at least once.
    """

    def __init__(
        self, first: RequestContext, handler: Handler, clock: Clock, on_end: Callable[[Flight], None]
    ) -> None:
        super().__init__()
        self._clock = clock
        self._on_end = on_end
        self.started_at = clock()
        self.payer = Passenger(first, clock)
        self._seats.append(self.payer)
        self._record = FlightRecord(self.payer, self.started_at)
        self._events: list[v1.GenerateResponse] = []
        self._is_paid = False
        self.has_entered = False  # limits have let it through to a provider
        call = replace(first, record=self._record, deadline=inf, reservation=PayersReservation(self))
        self._play(handler(call), "flight")

    @property
    def is_ending(self) -> bool:
        """Whether nobody waits for it any more."""
        return not self._seats or self.task.cancelling() > 0

    def is_paid_by(self, record: Record) -> bool:
        """Whether a request gets the bill."""
        return self.payer.context.record is record

    def read_first(self) -> AsyncGenerator[Batch, None]:
        """The answer, for the one who sent for it. Raises GenerationError."""
        return self._read(self.payer)

    def join(self, context: RequestContext) -> AsyncGenerator[Batch, None]:
        """The answer from its beginning, for one more caller, who has to read it. Raises GenerationError."""
        seat = Passenger(context, self._clock)
        self._seats.append(seat)
        return self._read(seat)

    def expel(self, seat: Passenger, error: GenerationError) -> bool:
        """Fail one reader, if it is still there, with an error of its own; False where nobody else is."""
        if self._seats in ([], [seat]):
            return False
        if seat in self._seats:
            self._vacate(seat)
            seat.fail(error.fact)
        return True

    async def _hear(self, batch: Batch) -> None:
        self._events += batch
        if batch[-1].HasField("completed"):
            self._is_whole = True
            self._bill()
        self._wake_all()

    def _ended(self) -> None:
        self._bill()
        self._on_end(self)

    async def _wait(self, seat: Passenger) -> None:
        if seat is self.payer:
            await seat.wait()
            return
        began = self._clock()
        try:
            await seat.wait()
        finally:
            seat.context.record.waited += self._clock() - began

    def _take(self, seat: Passenger) -> Batch:
        """Copies of what has come since: events belong to whom they are given."""
        start = seat.cursor
        batch = [_copy(event) for event in self._events[start : start + _MOST_EVENTS]]
        seat.cursor += len(batch)
        if batch and start == 0:
            self._address(batch[0].started, seat)
        if batch and batch[-1].HasField("completed"):
            self._complete(batch[-1].completed, seat)
        return batch

    def _address(self, started: v1.Started, seat: Passenger) -> None:
        started.request_id = seat.context.id
        if seat is not self.payer and started.cache_status not in _STORED:
            started.cache_status, started.attempt = v1.CACHE_STATUS_HIT, 0
            started.cache_age.SetInParent()
        record = seat.context.record
        record.cache_status = started.cache_status
        record.provider, record.model = started.provider, started.model

    def _complete(self, completed: v1.Completed, seat: Passenger) -> None:
        record = seat.context.record
        if seat is not self.payer:
            charge_nothing(completed)
        if record.progress is None:
            record.cost = v1.Cost()
        record.warnings[:] = self._record.warnings

    def _failed(self, seat: Passenger) -> Exception:
        record = seat.context.record
        record.provider, record.model = self._record.provider, self._record.model
        record.attempts[:] = self._record.attempts  # so that callers know that it was tried
        if self._failure is not None:
            return self._failure.error()
        return self._crash or GenerationError(Reason.DRAINING, "the sidecar has stopped before the answer")

    def _bill(self) -> None:
        """Put on the payer's record, once, what the flight went through."""
        if self._is_paid:
            return
        self._is_paid = True
        own, record = self._record, self.payer.context.record
        if own.provider:
            record.provider, record.model = own.provider, own.model
        record.attempts[:] = own.attempts
        record.lost = own.lost
        record.waited = min(record.waited + own.waited, self._clock() - record.started_at)
        if self._is_whole and self._events[-1].completed.HasField("usage"):
            record.usage = v1.Usage()
            record.usage.CopyFrom(self._events[-1].completed.usage)

    async def _leave(self, seat: Passenger) -> None:
        is_last = self._seats == [seat]
        if seat in self._seats:
            self._vacate(seat)
        try:
            if is_last:
                await self._end()
            await seat.close()
        finally:
            if is_last:
                self._bill()

    def _vacate(self, seat: Passenger) -> None:
        self._seats.remove(seat)
        if seat is not self.payer or not self._seats or self._is_paid:
            return
        self.payer = self._seats[0]
        self._record.move_to(self.payer)
        if self.payer.cursor:
            # It was told of a hit, and is now the one for whom the provider is paid.
            self.payer.context.record.cache_status = self._record.cache_status
        if self.has_entered:
            self.payer.context.reservation.begin()

    async def _end(self) -> None:
        """Nobody reads any more. What is whole may still be stored; anything else is cut."""
        if self._is_whole or self.task.done():
            return
        self._on_end(self)
        await self._stop()


def _copy(event: v1.GenerateResponse) -> v1.GenerateResponse:
    copy = v1.GenerateResponse()
    copy.CopyFrom(event)
    return copy
