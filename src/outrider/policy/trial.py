"""One try at one target: breaker, permit, timeouts, and its entry in the record."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from math import inf
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.context import Progress
from outrider.core.durations import to_duration
from outrider.core.errors import Fault, GenerationError, Reason
from outrider.core.ports import Call
from outrider.policy.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from outrider.core.context import RequestContext, Target
    from outrider.core.ports import Batch, Clock, Observer
    from outrider.policy.upstream import Upstream

_OK = 200


class Trial:
    """Runs once, and reports once to record, observer and breaker, unless the caller leaves the queue.

    `passes_filter`: an answer that is withheld because of its content counts as a failure. `hedge`: another
    trial of the request runs. `patience`: seconds for which the target's own limits are waited for at most.
    `on_begin` is called right before the first content leaves.
    """

    __slots__ = ("_attempt", "_breaker", "_clock", "_committed", "_context", "_epoch", "_hedge", "_observer",
                 "_passes_filter", "_patience", "_progress", "_running", "_started", "_timeouts", "_upstream",
                 "_waited", "_warnings", "_watch", "on_begin", "target")  # fmt: skip

    def __init__(
        self,
        context: RequestContext,
        target: Target,
        upstream: Upstream,
        observer: Observer,
        clock: Clock,
        waited: float,
        *,
        patience: float = 0.0,
        passes_filter: bool = False,
        hedge: bool = False,
    ) -> None:
        self.target = target
        self.on_begin: Callable[[], None] | None = None
        self._context = context
        self._upstream = upstream
        self._breaker = upstream.breakers.of(target.model)
        self._timeouts = upstream.timeouts.but(context.route.timeouts)
        self._patience = patience
        self._passes_filter = passes_filter
        self._hedge = hedge
        self._observer = observer
        self._clock = clock
        self._waited = waited  # seconds of backoff before this try
        self._started = clock()
        self._progress = Progress()
        # Those of another target do not concern this one.
        self._warnings: list[v1.Warning] = []
        self._running = self._committed = False
        self._epoch = 0
        self._attempt: v1.Attempt | None = None  # once reported
        self._watch: Watchdog | None = None
        if not hedge:
            context.record.provider, context.record.model = target

    @property
    def asked_at(self) -> float | None:
        """When it was let through to the provider; None: not yet."""
        return self._started if self._running else None

    def outrun(self) -> None:
        """Another trial has begun to answer: be on record, if anything was asked. To be cancelled next."""
        if self._running:
            self._finish(v1.Attempt.OUTCOME_OUTRUN)

    def move(self) -> None:
        """Between two batches: the current task goes on with it, in place of the one that began."""
        if self._watch is not None:
            self._watch.move()

    async def run(self) -> AsyncGenerator[Batch, None]:
        """Answer: `Started` with the first content, more content, `Completed`. Raises GenerationError."""
        if not self._running:
            await self.enter()
        try:
            with self._watchdog() as watchdog:
                self._watch = watchdog
                async with aclosing(self._upstream.provider.generate(self._call())) as batches:
                    watchdog.arm(self._first_event_timeout(), Reason.FIRST_EVENT_TIMEOUT)
                    async for batch in batches:
                        watchdog.rest()
                        if not self._committed:
                            self._commit(batch)
                            batch.insert(0, self._announce())
                        if batch[-1].HasField("completed"):
                            # Before the last batch leaves: it is to carry this attempt's outcome.
                            self._finish(v1.Attempt.OUTCOME_SUCCEEDED)
                        yield batch
                        watchdog.arm(self._timeouts.idle, Reason.IDLE_TIMEOUT)
            if self._attempt is None:
                raise GenerationError(Reason.STREAM_TRUNCATED, "the answer ended without its end marker")
        except GenerationError as error:
            error.committed = self._committed
            self._finish(v1.Attempt.OUTCOME_FAILED, error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self._finish(v1.Attempt.OUTCOME_CANCELLED)
            raise
        except BaseException:
            self._finish(v1.Attempt.OUTCOME_FAILED, GenerationError(Reason.INTERNAL, "unexpected"))
            raise
        finally:
            self._upstream.gate.leave()

    async def enter(self) -> None:
        """Pass deadline, breaker, limits and gate; `run` or `withdraw` has to follow. Raises GenerationError.

        `run` does it by itself where it is still to be done.
        """
        try:
            if self._remaining() <= 0:
                raise GenerationError(Reason.DEADLINE_EXCEEDED, "the caller's deadline has passed")
            breaker = self._breaker
            if not breaker.is_free:
                self._heed(breaker.retry_after())
            await self._queue()
            if not breaker.is_free:  # it may have opened meanwhile
                try:
                    self._heed(breaker.admit())
                except GenerationError:
                    self._upstream.gate.leave()
                    raise
            self._epoch = breaker.epoch
            self._running = True
        except GenerationError as error:
            self._report(v1.Attempt.OUTCOME_SKIPPED, error)
            raise
        except asyncio.CancelledError:
            self._context.reservation.leave(self.target)
            raise

    def withdraw(self) -> None:
        """It has been let in, but another trial is run in its place."""
        self._breaker.abandoned(self._epoch)
        self._upstream.gate.leave()
        self._context.reservation.leave(self.target)

    def _heed(self, closed_for: float | None) -> None:
        if closed_for is not None:
            raise GenerationError(
                Reason.BREAKER_OPEN,
                f"{self.target} kept failing; the next call to it is in {closed_for:.1f} s",
                retry_after=closed_for,
            )
        paused_for = self._breaker.paused_for()
        if paused_for:
            raise GenerationError(
                Reason.PROVIDER_RATE_LIMITED,
                f"{self.target} has asked to be left alone for another {paused_for:.1f} s",
                retry_after=paused_for,
            )

    async def _queue(self) -> None:
        try:
            # Limits first: who waits for a rate holds no permit.
            await self._context.reservation.enter(self.target, self._started, self._patience)
            await self._upstream.gate.enter(self._remaining() if self._patience == inf else 0.0)
        finally:
            waited = self._clock() - self._started
            self._started += waited
            self._waited += waited
            if not self._hedge:  # nobody waits for it alone
                self._context.record.waited += waited

    def _watchdog(self) -> Watchdog:
        total, remaining = self._timeouts.total, self._remaining()
        if remaining < total:
            return Watchdog(remaining, Reason.DEADLINE_EXCEEDED)
        return Watchdog(total, Reason.TOTAL_TIMEOUT)

    def _first_event_timeout(self) -> float:
        # An answer in one piece comes when it is done: only the total bounds it.
        return self._timeouts.first_event if self._context.streaming else self._timeouts.total

    def _remaining(self) -> float:
        return self._context.deadline - self._clock()

    def _call(self) -> Call:
        if not self._hedge:
            record = self._context.record
            record.provider, record.model = self.target
            record.warnings = self._warnings
        return Call(
            request=self._context.request,
            model=self.target.model,
            streaming=self._context.streaming,
            connect_timeout=self._timeouts.connect,
            progress=self._progress,
            warnings=self._warnings,
        )

    def _commit(self, batch: Batch) -> None:
        if self._passes_filter and _is_withheld(batch):
            raise GenerationError(Reason.CONTENT_FILTERED, "the provider has withheld its answer")
        if self.on_begin is not None:
            self.on_begin()
        self._committed = True
        self._progress.began_at = self._clock()
        self._put_on_record()
        self._epoch = self._breaker.answering(self._epoch)

    def _put_on_record(self) -> None:
        record = self._context.record
        record.provider, record.model = self.target
        record.progress, record.warnings = self._progress, self._warnings

    def _announce(self) -> v1.GenerateResponse:
        return v1.GenerateResponse(
            started=v1.Started(
                request_id=self._context.id,
                provider=self.target.provider,
                model=self.target.model,
                attempt=len(self._context.record.attempts) + 1,
                cache_status=self._context.record.cache_status,
            )
        )

    def _finish(self, outcome: v1.Attempt.Outcome, error: GenerationError | None = None) -> None:
        if self._attempt is not None:
            return
        self._tell_breaker(outcome, error)
        late = error is not None and error.reason is Reason.DEADLINE_EXCEEDED
        at_work = self._progress.upstream_status == _OK and self._context.record.progress is None
        if at_work and (late or outcome == v1.Attempt.OUTCOME_CANCELLED):
            # The caller has left, but the provider will bill for what it did.
            self._put_on_record()
        self._report(outcome, error)

    def _may_be_billed(self, outcome: v1.Attempt.Outcome, error: GenerationError | None) -> bool:
        """Whether its provider was at work, or may have been, though it gave no answer."""
        progress = self._progress
        if progress is self._context.record.progress:
            return False  # it is the answer
        if outcome == v1.Attempt.OUTCOME_OUTRUN or progress.usage is not None or progress.output_chars:
            return True
        given_up = outcome == v1.Attempt.OUTCOME_CANCELLED or (error is not None and error.traits.timeout)
        return given_up and progress.upstream_status == _OK

    def _tell_breaker(self, outcome: v1.Attempt.Outcome, error: GenerationError | None) -> None:
        breaker, traits = self._breaker, error and error.traits
        answered = self._progress.upstream_status > 0
        if error is not None and error.reason is Reason.PROVIDER_RATE_LIMITED and error.fact.retry_after:
            breaker.pause(error.fact.retry_after)
        if traits and traits.trips_breaker:
            breaker.failed(self._epoch)
        elif outcome == v1.Attempt.OUTCOME_SUCCEEDED or (
            traits and traits.fault is Fault.CALLER and not traits.timeout and answered
        ):
            breaker.succeeded(self._epoch)  # a provider that refuses a bad request is well
        else:
            breaker.abandoned(self._epoch)

    def _report(self, outcome: v1.Attempt.Outcome, error: GenerationError | None) -> None:
        seconds = self._clock() - self._started
        attempt = self._attempt = v1.Attempt(
            provider=self.target.provider,
            model=self.target.model,
            outcome=outcome,
            upstream_status=self._progress.upstream_status,
        )
        if self._hedge:
            attempt.hedge = True
        if error is not None:
            attempt.reason = error.reason
            error.refine(provider=self.target.provider, model=self.target.model)
        to_duration(seconds, attempt.duration)
        to_duration(self._waited, attempt.waited)
        self._context.record.attempts.append(attempt)
        if outcome != v1.Attempt.OUTCOME_SUCCEEDED and self._may_be_billed(outcome, error):
            self._context.record.lost += ((attempt, self._progress),)
        self._observer.attempt_finished(self._context.record, attempt, seconds)


def _is_withheld(batch: Batch) -> bool:
    completed = batch[0].completed if batch[0].HasField("completed") else None
    return completed is not None and completed.finish_reason == v1.FINISH_REASON_CONTENT_FILTER
