"""What a request used and cost: exactly one record for each, however it ends."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.context import Outcome
from outrider.core.durations import to_duration
from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from outrider.core.context import Progress, Record, RequestContext
    from outrider.core.ports import Batch, Clock, Handler, Observer, TokenCounter

# Counting is linear in the text; up to this size it takes well under a millisecond.
_INLINE_BYTES = 8_192
# A status carries 4 KB; a request that was tried more often than this keeps its last tries.
_MAX_REPORTED_ATTEMPTS = 10


class Accountant:
    """The `account` stage. Owns what is settled after a caller has left: `aclose` waits for it."""

    def __init__(
        self,
        counter: TokenCounter,
        cost: Callable[[str, str, v1.Usage], v1.Cost | None],
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._counter = counter
        self._cost = cost
        self._observer = observer
        self._clock = clock
        self._settling: set[asyncio.Task[None]] = set()

    def __call__(self, inner: Handler) -> Handler:
        """Wrap a handler."""

        async def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
            record = context.record
            record.tenant = context.tenant
            self._observer.request_started(record)
            try:
                async with aclosing(inner(context)) as batches:
                    async for batch in batches:
                        if record.first_content_at is None:
                            record.first_content_at = self._clock()
                        if batch[-1].HasField("completed"):
                            await self._complete(context, batch[-1].completed)
                        yield batch
            except GenerationError as error:
                await self._fail(context, error)
                raise
            except (asyncio.CancelledError, GeneratorExit) as left:
                if Reason.DRAINING in left.args:
                    raise await self._cut(context) from None
                record.outcome, record.reason = Outcome.CANCELLED, Reason.CANCELLED
                self._settle_later(context)
                raise
            except BaseException:
                record.outcome, record.reason = Outcome.FAILED, Reason.INTERNAL
                self._settle(record)
                raise
            self._settle(record)

        return handle

    async def aclose(self) -> None:
        """Wait until every record is settled."""
        while self._settling:
            await asyncio.wait(self._settling)

    async def _fail(self, context: RequestContext, error: GenerationError) -> None:
        """Tell the error what had happened, and settle."""
        record = context.record
        record.outcome, record.reason = Outcome.FAILED, error.reason
        try:
            await self._measure(context)
        except BaseException:
            # The deadline that failed the request may end the caller's call in the same moment.
            self._settle_later(context)
            raise
        error.failure = self._failure(record)
        self._settle(record)

    async def _cut(self, context: RequestContext) -> GenerationError:
        """The sidecar, not the caller, has cancelled this request: what to tell the caller."""
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        error = GenerationError(Reason.DRAINING, "the sidecar has stopped before the answer was whole")
        error.committed = context.record.last_sequence > 0
        await self._fail(context, error)
        return error

    async def _complete(self, context: RequestContext, completed: v1.Completed) -> None:
        """Fill in what only the sidecar knows."""
        record = context.record
        if completed.HasField("usage"):
            record.usage = completed.usage
        await self._measure(context)
        if record.usage is not None:
            completed.usage.CopyFrom(record.usage)
        if record.cost is not None:
            completed.cost.CopyFrom(record.cost)
        record.finish_reason = completed.finish_reason
        completed.attempts.extend(record.attempts)
        completed.warnings.extend(record.warnings)
        timings = completed.timings
        to_duration(self._clock() - record.started_at, timings.total)
        to_duration(record.waited, timings.waited)
        if record.first_content_at is not None:
            to_duration(record.first_content_at - record.started_at, timings.time_to_first_content)

    async def _measure(self, context: RequestContext) -> None:
        if _needs_count(context.record) and context.request.ByteSize() > _INLINE_BYTES:
            await asyncio.to_thread(self._estimate, context)
        else:
            self._estimate(context)

    def _estimate(self, context: RequestContext) -> None:
        """Usage and cost of whatever was begun. Pure computation: may run on a thread."""
        record = context.record
        if record.progress is not None:
            if _needs_estimate(record):
                record.usage = self._estimated(context, record.model, record.progress)
            if record.usage is not None:
                record.cost = self._cost(record.provider, record.model, record.usage)
        for attempt, progress in record.lost:
            self._measure_lost(context, attempt, progress)

    def _measure_lost(self, context: RequestContext, attempt: v1.Attempt, progress: Progress) -> None:
        """A try that gave no answer was given the same prompt, and may be billed for it."""
        if attempt.reason == Reason.CONTENT_FILTERED and progress.usage is not None:
            usage = progress.usage  # its answer was whole
        else:
            answered = context.record.usage
            prompt = answered.input_tokens if answered is not None else 0
            usage = self._estimated(context, attempt.model, progress, prompt)
        attempt.usage.CopyFrom(usage)
        cost = self._cost(attempt.provider, attempt.model, usage)
        if cost is not None:
            attempt.cost.CopyFrom(cost)

    def _estimated(
        self, context: RequestContext, model: str, progress: Progress, prompt: int = 0
    ) -> v1.Usage:
        """What was used as far as the provider has said it; its prompt is counted where that is not known."""
        seen = progress.usage
        usage = v1.Usage(
            input_tokens=prompt or self._counter.count_input(context.request, model)[0],
            output_tokens=self._counter.count_output(progress.output_chars, model),
            source=v1.USAGE_SOURCE_ESTIMATED,
        )
        if seen is not None and seen.input_tokens:
            usage.input_tokens = seen.input_tokens
            usage.cached_input_tokens = seen.cached_input_tokens
            usage.cache_write_input_tokens = seen.cache_write_input_tokens
            usage.cache_write_1h_input_tokens = seen.cache_write_1h_input_tokens
            usage.output_tokens = max(usage.output_tokens, seen.output_tokens)
        return usage

    def _settle_later(self, context: RequestContext) -> None:
        if not _needs_count(context.record):
            self._estimate(context)
            self._settle(context.record)
            return
        # The caller has left and its task is being cancelled: this work gets a task of its own.
        task = asyncio.get_running_loop().create_task(self._measure_and_settle(context))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _measure_and_settle(self, context: RequestContext) -> None:
        try:
            await self._measure(context)
        finally:
            self._settle(context.record)

    def _settle(self, record: Record) -> None:
        record.finished_at = self._clock()
        self._observer.request_finished(record)

    def _failure(self, record: Record) -> v1.GenerationFailure:
        failure = v1.GenerationFailure(
            request_id=record.request_id,
            attempts=record.attempts[-_MAX_REPORTED_ATTEMPTS:],
            last_sequence=record.last_sequence,
        )
        if record.usage is not None:
            failure.partial_usage.CopyFrom(record.usage)
        if record.cost is not None:
            failure.partial_cost.CopyFrom(record.cost)
        return failure


def _needs_count(record: Record) -> bool:
    """Whether the prompt may have to be counted."""
    return bool(record.lost) or _needs_estimate(record)


def _needs_estimate(record: Record) -> bool:
    """Whether an attempt began to answer, and the provider has not said what it used."""
    if record.progress is None:
        return False
    usage = record.usage
    if usage is None:
        return True
    # Some providers send zeros for what they did not count.
    return usage.input_tokens == 0 and usage.output_tokens == 0 and record.progress.output_chars > 0
