"""Which answers are worth keeping, and what is kept of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from outrider import v1
from outrider.core.answers import StoredAnswer
from outrider.core.collect import Collector
from outrider.core.durations import to_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from outrider.core.context import RequestContext
    from outrider.core.ports import Clock
    from outrider.policy.cache_rules import CacheUse

    Price: TypeAlias = Callable[[str, str, v1.Usage], v1.Cost | None]

_WHOLE = (v1.FINISH_REASON_STOP, v1.FINISH_REASON_TOOL_CALLS)
# Beyond these, putting an answer together takes milliseconds.
_INLINE_EVENTS = 500
_INLINE_CHARS = 65_536


class Made(NamedTuple):
    """An answer that a provider has given: what a hit on it will repeat, and save."""

    events: Sequence[v1.GenerateResponse]
    seconds: float
    cost: v1.Cost | None


class Keeper:
    """Makes stored answers of streams. `wall` is the Unix clock; larger answers are not kept."""

    def __init__(self, *, wall: Clock, max_bytes: int) -> None:
        self._wall = wall
        self._max_bytes = max_bytes

    async def keep(self, context: RequestContext, use: CacheUse, made: Made) -> StoredAnswer | None:
        """What to store of a whole answer; None where it is not to be stored."""
        events = made.events
        if not use.store or not _is_worth_keeping(context, use, events):
            return None
        progress = context.record.progress
        if len(events) > _INLINE_EVENTS or (progress and progress.output_chars > _INLINE_CHARS):
            answer = await asyncio.to_thread(_collect, events)
        else:
            answer = _collect(events)
        _complete(answer, context, made)
        if answer.ByteSize() > self._max_bytes:
            return None
        return StoredAnswer(
            answer,
            stored_at=self._wall(),
            fresh_for=use.rules.ttl,
            stale_for=use.rules.stale,
            tenant=context.tenant,
            model=str(context.choice),
            labels=dict(context.request.attribution.labels),
        )


def _complete(answer: v1.CompleteResponse, context: RequestContext, made: Made) -> None:
    completed = answer.completed
    answer.started.ClearField("request_id")
    completed.warnings.extend(context.record.warnings)
    to_duration(made.seconds, completed.timings.total)
    if made.cost is not None:
        completed.cost.CopyFrom(made.cost)


def _is_worth_keeping(context: RequestContext, use: CacheUse, events: Sequence[v1.GenerateResponse]) -> bool:
    """Whether it is whole, unfiltered, and of the model whose name it would be stored under."""
    if events[-1].completed.finish_reason not in _WHOLE:
        return False
    started = events[0].started
    if (started.provider, started.model) != context.choice:
        return False  # a fallback's: the next caller may get the model that it asks for
    # Without its temperature a model does not answer alike each time, which is all that was asked for.
    return use.asked or all(warning.field != "sampling.temperature" for warning in context.record.warnings)


def _collect(events: Sequence[v1.GenerateResponse]) -> v1.CompleteResponse:
    collector = Collector()
    for event in events:
        collector.add(event)
    return collector.response
