"""An answer that goes on without its caller, and can be read from any of its events on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import structlog

from outrider import v1
from outrider.core.errors import Fact, Reason
from outrider.core.store_errors import StoreUnavailableError
from outrider.core.streams import Ending, Failure, StreamName
from outrider.policy.broadcast import Broadcast
from outrider.policy.event_log import EventLog
from outrider.policy.seat import Seat
from outrider.policy.unsupported import unsupported

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Handler
    from outrider.policy.mirror import Mirror

_MOST_EVENTS = 256  # of those given to a reader at once
_ONE_MORE_LOOK = 1.0  # seconds, while it is not known whether other sidecars have readers
_BRIEFLY = 10.0  # seconds for which those who have joined can read how a request failed that may run again
_CUT = (Reason.CANCELLED, Reason.DRAINING, Reason.SIDECAR_LOST)
_GIVEN_UP = Failure(Fact(Reason.CANCELLED, "the answer was given up: nobody read it"), committed=True)

_log = structlog.get_logger("outrider")


class ResumableStream(Broadcast[Seat]):
    """Runs the whole pipeline once, accounting included: how often callers left shows nowhere.

    Without a reader, here or at another sidecar, it goes on for `grace` seconds; without one here it is in
    `alone`. `on_growth` is told of the bytes that came, and may `let_go`. One that is `keyed` is found before
    its first event, and by callers who do not know its id.
    """

    def __init__(
        self,
        call: RequestContext,
        handler: Handler,
        *,
        keyed: bool,
        keep: float,
        grace: float,
        alone: set[ResumableStream],
        mirror: Callable[[EventLog, StreamName], Mirror] | None,
        on_growth: Callable[[ResumableStream, int], None],
        on_end: Callable[[ResumableStream], None],
    ) -> None:
        super().__init__()
        self.name = StreamName(call.id, call.principal.name)
        self.log = EventLog()
        self._mirror: Mirror | None = None  # from the first event on; of a keyed one from now on
        self._record = call.record
        self.keep = keep  # seconds, from its end on
        self._keyed = keyed
        self._grace = grace
        self._alone = alone
        self._make_mirror = mirror
        self._on_growth = on_growth
        self._on_end = on_end
        self._is_kept = True
        self._is_known = keyed  # somebody can come back
        self._given_up = _GIVEN_UP
        self._room: asyncio.Event | None = None  # while the readers of what is not kept lag behind
        self._lonely: asyncio.Task[None] | None = None
        self.ending: Ending | None = None
        if keyed:
            self._copy()
        # The deadline is that of a call, not of the answer.
        self._play(handler(replace(call, deadline=inf)), "resumable-stream")

    @property
    def answered(self) -> bool:
        """Whether its end is the request's. What was cut, or failed before its first event, may run again."""
        if self.ending is None or self.ending.failure is None:
            return self.ending is not None
        reason = self.ending.failure.fact.reason
        return reason is Reason.QUEUED or (self.log.last > 0 and reason not in _CUT)

    def read(self, after: int = 0) -> AsyncGenerator[Batch, None]:
        """The events that follow number `after`, for one who has to read them. Raises GenerationError."""
        seat = Seat(after)
        self._seats.append(seat)
        self._alone.discard(self)
        if self._lonely is not None:
            self._lonely.cancel()
        return self._read(seat)

    def let_go(self) -> None:
        """Keep nothing any more. Those who read go on; for as long as it runs, at the pace of the slowest."""
        self._is_kept = False
        if self._mirror is not None:
            self._mirror.drop()
        if self in self._alone:
            self._cancel()

    def give_up(self, why: Failure) -> None:
        """End it, unless it is whole; those who read are told why."""
        self._given_up = why
        self._cancel()

    def when_copied(self, told: Callable[[], None]) -> None:
        """Call back, after its end, once its copy is whole, or will never be."""
        if self._mirror is None or self._mirror.task.done():
            told()
        else:
            self._mirror.task.add_done_callback(lambda _: told())

    async def cut(self) -> None:
        """The sidecar stops: end it with DRAINING. Returns once it has let go, within a second."""
        await self._stop(Reason.DRAINING)

    async def _hear(self, batch: Batch) -> None:
        completed = batch[-1].HasField("completed")
        self._is_whole = completed or batch[-1].HasField("queued")
        if completed and not self._is_kept:
            batch[-1].completed.warnings.append(_no_room("idempotency_key" if self._keyed else "resumable"))
        size = self.log.add(batch)
        self._record.last_sequence = self.log.last
        if self._is_kept:
            self._on_growth(self, size)
        if self._is_kept:
            self._copy()
        self._wake_all()
        if not self._is_kept:
            await self._have_read()

    def _copy(self) -> None:
        if self._mirror is not None:
            self._mirror.wake()
        elif self._make_mirror is not None:
            self._mirror = self._make_mirror(self.log, self.name)

    async def _have_read(self) -> None:
        """Wait until everyone has read everything, and drop it."""
        self._room = asyncio.Event()
        self._check_room()
        await self._room.wait()
        self._room = None
        self.log.drop()

    def _check_room(self) -> None:
        if self._room is not None and all(seat.cursor >= self.log.last for seat in self._seats):
            self._room.set()

    def _take(self, seat: Seat) -> Batch:
        events = self.log.after(seat.cursor, _MOST_EVENTS)
        seat.cursor += len(events)
        self._is_known = self._is_known or bool(events)
        self._check_room()
        return [v1.GenerateResponse.FromString(event) for event in events]

    async def _wait(self, seat: Seat) -> None:
        try:
            await seat.wait()
        except asyncio.CancelledError as cancel:
            task = asyncio.current_task()
            if task is None or Reason.DRAINING not in cancel.args:
                raise
            # Not the caller leaves but the sidecar stops: what it has used so far belongs into the status.
            task.uncancel()
            await self.cut()

    def _failed(self, seat: Seat) -> Exception:
        if self._crash is not None:
            return self._crash
        failure = self.ending.failure if self.ending is not None else None
        return (failure or _GIVEN_UP).error()

    def _ended(self) -> None:
        failure = self._failure
        if self._crash is not None:
            failure = Failure(Fact(Reason.INTERNAL, "unexpected error"), committed=True)
            if not self._seats:
                _log.error("unexpected error", request_id=self.name.request_id, exc_info=self._crash)
        elif failure is None and self.task.cancelling():
            failure = self._given_up
        self._is_whole = failure is None
        self.ending = Ending(failure)
        if self._keyed and not self.answered:
            self.keep = min(self.keep, _BRIEFLY)
        self._alone.discard(self)
        if self._lonely is not None:
            self._lonely.cancel()
        if self._mirror is not None:
            self._mirror.end(self.ending, self.keep)
        self._on_end(self)

    async def _leave(self, seat: Seat) -> None:
        self._seats.remove(seat)
        self._check_room()
        if self._seats or self._is_over or self._is_whole:
            return
        if self._is_kept and self._is_known:
            self._alone.add(self)
            self._lonely = asyncio.create_task(self._outlast(), name="lonely-stream")
        else:
            await self._stop()  # nobody can come back

    async def _outlast(self) -> None:
        """End the stream once nobody has read it for the grace."""
        loop = asyncio.get_running_loop()
        last_look = loop.time() + 2 * self._grace
        await asyncio.sleep(self._grace)
        while True:
            try:
                left = await self._mirror.attention() if self._mirror is not None else 0.0
            except StoreUnavailableError:
                left = _ONE_MORE_LOOK if loop.time() < last_look else 0.0
            if left <= 0:
                break
            await asyncio.sleep(left)
        self._cancel()


def _no_room(field: str) -> v1.Warning:
    return unsupported(field, "this sidecar has no room left for the events: they cannot be given again")
