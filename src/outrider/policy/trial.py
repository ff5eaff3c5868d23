"""One try at one target: breaker, permit, timeouts, and its entry in the record."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.context import Progress
from outrider.core.durations import to_duration
from outrider.core.errors import Fault, GenerationError, Reason
from outrider.core.ports import Call
from outrider.policy.unsupported import warnings_for
from outrider.policy.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from outrider.core.context import RequestContext, Target
    from outrider.core.ports import Batch, Clock, Observer
    from outrider.policy.upstream import Upstream


class Trial:
    """Runs once, and reports once to record, observer and breaker, unless the caller leaves the queue."""

    __slots__ = ("_attempt", "_clock", "_committed", "_context", "_epoch", "_observer", "_progress",
                 "_started", "_target", "_upstream", "_waited")  # fmt: skip

    def __init__(
        self,
        context: RequestContext,
        target: Target,
        upstream: Upstream,
        observer: Observer,
        clock: Clock,
        waited: float,
    ) -> None:
        self._context = context
        self._target = target
        self._upstream = upstream
        self._observer = observer
        self._clock = clock
        self._waited = waited  # seconds of backoff before this try
        self._started = clock()
        self._progress = Progress()
        self._committed = False
        self._epoch = 0
        self._attempt: v1.Attempt | None = None  # once reported
        context.record.provider, context.record.model = target

    async def run(self) -> AsyncGenerator[Batch, None]:
        """Answer: `Started` with the first content, more content, `Completed`. Raises GenerationError."""
        await self._enter()
        try:
            with self._watchdog() as watchdog:
                async with aclosing(self._upstream.provider.generate(self._call())) as batches:
                    watchdog.arm(self._first_event_timeout(), Reason.FIRST_EVENT_TIMEOUT)
                    async for batch in batches:
                        watchdog.rest()
                        if not self._committed:
                            self._commit()
                            batch.insert(0, self._announce())
                        if batch[-1].HasField("completed"):
                            # Before the last batch leaves: it is to carry this attempt's outcome.
                            self._finish(v1.Attempt.OUTCOME_SUCCEEDED)
                        yield batch
                        watchdog.arm(self._upstream.timeouts.idle, Reason.IDLE_TIMEOUT)
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

    async def _enter(self) -> None:
        """Pass deadline, breaker and gate."""
        try:
            remaining = self._remaining()
            if remaining <= 0:
                raise GenerationError(Reason.DEADLINE_EXCEEDED, "the caller's deadline has passed")
            breaker = self._upstream.breaker
            self._heed(breaker.retry_after())
            await self._queue(remaining)
            try:
                self._heed(breaker.admit())  # it may have opened meanwhile
            except GenerationError:
                self._upstream.gate.leave()
                raise
            self._epoch = breaker.epoch
        except GenerationError as error:
            self._report(v1.Attempt.OUTCOME_SKIPPED, error)
            raise

    def _heed(self, pause: float | None) -> None:
        if pause is not None:
            raise GenerationError(
                Reason.BREAKER_OPEN,
                f"{self._target.provider} kept failing; the next call to it is in {pause:.1f} s",
                retry_after=pause,
            )

    async def _queue(self, remaining: float) -> None:
        try:
            await self._upstream.gate.enter(remaining)
        finally:
            waited = self._clock() - self._started
            self._started += waited
            self._waited += waited
            self._context.record.waited += waited

    def _watchdog(self) -> Watchdog:
        total, remaining = self._upstream.timeouts.total, self._remaining()
        if remaining < total:
            return Watchdog(remaining, Reason.DEADLINE_EXCEEDED)
        return Watchdog(total, Reason.TOTAL_TIMEOUT)

    def _first_event_timeout(self) -> float:
        # An answer in one piece comes when it is done: only the total bounds it.
        timeouts = self._upstream.timeouts
        return timeouts.first_event if self._context.streaming else timeouts.total

    def _remaining(self) -> float:
        return self._context.deadline - self._clock()

    def _call(self) -> Call:
        warnings = self._context.record.warnings
        # Those of an earlier target do not concern this one.
        warnings[:] = warnings_for(self._context.request)
        return Call(
            request=self._context.request,
            model=self._target.model,
            streaming=self._context.streaming,
            connect_timeout=self._upstream.timeouts.connect,
            progress=self._progress,
            warnings=warnings,
        )

    def _commit(self) -> None:
        self._committed = True
        self._context.record.progress = self._progress
        self._epoch = self._upstream.breaker.answering(self._epoch)

    def _announce(self) -> v1.GenerateResponse:
        return v1.GenerateResponse(
            started=v1.Started(
                request_id=self._context.id,
                provider=self._target.provider,
                model=self._target.model,
                attempt=len(self._context.record.attempts) + 1,
                cache_status=v1.CACHE_STATUS_BYPASS,
            )
        )

    def _finish(self, outcome: v1.Attempt.Outcome, error: GenerationError | None = None) -> None:
        if self._attempt is not None:
            return
        self._tell_breaker(outcome, error)
        late = error is not None and error.reason is Reason.DEADLINE_EXCEEDED
        if (late or outcome == v1.Attempt.OUTCOME_CANCELLED) and self._progress.upstream_status == 200:
            # The caller has left, but the provider was at work, and will bill for it.
            self._context.record.progress = self._progress
        self._report(outcome, error)

    def _tell_breaker(self, outcome: v1.Attempt.Outcome, error: GenerationError | None) -> None:
        breaker, traits = self._upstream.breaker, error and error.traits
        answered = self._progress.upstream_status > 0
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
            provider=self._target.provider,
            model=self._target.model,
            outcome=outcome,
            upstream_status=self._progress.upstream_status,
        )
        if error is not None:
            attempt.reason = error.reason
            error.refine(provider=self._target.provider, model=self._target.model)
        to_duration(seconds, attempt.duration)
        to_duration(self._waited, attempt.waited)
        self._context.record.attempts.append(attempt)
        self._observer.attempt_finished(self._context.record, attempt, seconds)
