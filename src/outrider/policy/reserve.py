"""The stage that holds requests to limits and budgets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from outrider.policy.limit_rules import values_of
from outrider.policy.line import Lines
from outrider.policy.reservation import Means, QuotaReservation
from outrider.policy.spending import within_budget

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping

    from outrider import v1
    from outrider.core.context import Record, RequestContext
    from outrider.core.ports import Batch, Clock, Handler
    from outrider.core.quota import Crossing, QuotaStore
    from outrider.policy.estimate import Estimator
    from outrider.policy.limit_rules import LimitBook

_LAST_SECONDS = 2.0  # for what is still to be settled at the end


class Reserver:
    """The `reserve` stage, and an Observer: it settles when a record is settled. `aclose` waits for that."""

    def __init__(
        self,
        book: LimitBook,
        store: QuotaStore,
        estimator: Estimator,
        clock: Clock,
        *,
        max_wait: float,
        max_waits: Mapping[str, float],
        on_crossing: Callable[[Crossing], None],
    ) -> None:
        """`max_wait`: how long a request is held for a limit; `max_waits`: less, for a provider's own."""
        self._book = book
        self._means = Means(store, estimator, Lines(), clock, max_wait, max_waits, self._spawn, on_crossing)
        self._running: dict[str, QuotaReservation] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, inner: Handler) -> Handler:
        """Wrap a handler. Requests to which nothing applies pass as they are."""
        if not self._book:
            return inner

        def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
            book, attribution = self._book, context.request.attribution
            values = values_of(context.principal, attribution, context.route.name)
            caller = book.of_caller(values)
            targets = {target: book.of_target(values, target) for target in context.plan}
            if not caller and not any(targets.values()):
                return inner(context)
            reservation = QuotaReservation(context, caller, targets, self._means)
            self._running[context.record.request_id] = reservation
            context = replace(context, reservation=reservation)
            # An answer with a maximum is reserved as a whole.
            unbounded = not context.request.sampling.HasField("max_output_tokens")
            if unbounded and (caller.hard or any(meters.hard for meters in targets.values())):
                return within_budget(inner, context, reservation)
            return inner(context)

        return handle

    def request_started(self, record: Record) -> None:
        """Nothing is known of it yet."""

    def attempt_finished(self, record: Record, attempt: v1.Attempt, seconds: float) -> None:
        """Give back what a try did not use."""
        reservation = self._running.get(record.request_id)
        if reservation is not None:
            is_lost = bool(record.lost) and record.lost[-1][0] is attempt
            reservation.try_ended(attempt, record.lost[-1][1] if is_lost else None)

    def request_finished(self, record: Record) -> None:
        """Settle."""
        reservation = self._running.pop(record.request_id, None)
        if reservation is not None:
            reservation.end()

    async def aclose(self) -> None:
        """Settle what has ended, within a bounded time."""
        loop = asyncio.get_running_loop()
        last = loop.time() + _LAST_SECONDS
        while self._tasks and loop.time() < last:
            await asyncio.wait(self._tasks, timeout=last - loop.time())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
