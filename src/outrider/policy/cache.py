"""Answers that were given before, and answers that are being given now, to whoever asks the same."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeAlias

from outrider import v1
from outrider.core.answers import StoredAnswer
from outrider.core.errors import GenerationError, Reason
from outrider.core.fingerprint import fingerprint, is_large
from outrider.policy.cache_rules import CacheMode, namespace
from outrider.policy.cache_stats import CacheStats
from outrider.policy.fetch import Errand, Fetcher
from outrider.policy.flight import Flight
from outrider.policy.keep import Keeper
from outrider.policy.unsupported import unsupported

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from outrider.core.answers import AnswerStore
    from outrider.core.context import RequestContext, Target
    from outrider.core.ports import Batch, Clock, Handler
    from outrider.policy.cache_rules import CachePlan, CacheUse
    from outrider.policy.keep import Price

_Name: TypeAlias = "tuple[str, frozenset[Target]]"

_CLOSING_SECONDS = 2.0


class Cache:
    """The `cache` stage. Owns what is on its way: `aclose` waits for it.

    `patience` is how long, in seconds, a request waits for another sidecar that makes its answer. Requests
    are only joined that lead to the same targets: the answer of one must be one that the other could get.
    """

    def __init__(
        self,
        answers: AnswerStore,
        plan: CachePlan,
        *,
        price: Price,
        clock: Clock,
        max_answer_bytes: int = 8 * 2**20,
        patience: float = 30.0,
        wall: Clock = time.time,
    ) -> None:
        self.stats = CacheStats(answers)
        self._answers = answers
        self._plan = plan
        self._clock = clock
        self._patience = patience
        self._fetcher = Fetcher(
            answers,
            Keeper(wall=wall, max_bytes=max_answer_bytes),
            self.stats,
            price=price,
            clock=clock,
            wall=wall,
            tend=self._tend,
        )
        self._flights: dict[_Name, tuple[Flight, Errand]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, inner: Handler) -> Handler:
        """Wrap a handler."""

        def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
            use = self._plan.use(context.request)
            if use is None:
                return inner(context)
            if use.rules.mode is CacheMode.NEVER:
                return _never(context, use, inner)
            return self._answer(context, use, inner)

        return handle

    async def aclose(self) -> None:
        """Wait for what is being stored; for two seconds at most."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_CLOSING_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _answer(
        self, context: RequestContext, use: CacheUse, inner: Handler
    ) -> AsyncGenerator[Batch, None]:
        record, key = context.record, await _key(context, use)
        record.cache_key = key
        if use.read:
            found = await self._recall(key, context, use)
            if found is not None:
                yield found
                return
            record.cache_status = v1.CACHE_STATUS_MISS
        if not use.may_ask:
            self.stats.misses += 1
            raise GenerationError(Reason.CACHE_MISS, "no answer to this request is stored")
        name = (key, frozenset(context.plan))
        # Who wants a fresh answer wants none that was asked for before.
        flying = self._flights.get(name) if use.read else None
        flight, errand = flying or self._depart(name, context, use, inner)
        joined_at = self._clock()
        self.stats.joined += flying is not None
        async with aclosing(flight.join(context) if flying else flight.read_first()) as batches:
            async for batch in batches:
                if flying and batch[-1].HasField("completed") and not flight.is_paid_by(record):
                    self.stats.saved(errand.cost, joined_at - flight.started_at)
                yield batch

    async def _recall(self, key: str, context: RequestContext, use: CacheUse) -> Batch | None:
        """A stored answer as far as it is at hand; where no provider may be asked, from anywhere."""
        found = self._answers.recall(key)
        if found is not None and self._fetcher.is_fresh(found, use):
            self.stats.memory_hits += 1
        elif use.may_ask:
            return None
        else:
            shared = await self._answers.look_up(key, lease=False)
            if not isinstance(shared, StoredAnswer) or not self._fetcher.is_fresh(shared, use):
                return None
            found = shared
            self.stats.shared_hits += 1
        return self._fetcher.give(found, context, v1.CACHE_STATUS_HIT)

    def _depart(
        self, name: _Name, context: RequestContext, use: CacheUse, inner: Handler
    ) -> tuple[Flight, Errand]:
        # Half of what is left is for asking alone, should the other sidecar not make it.
        patience = min(self._patience, max(0.0, context.deadline - self._clock()) / 2)
        errand = Errand(name[0], use, inner, patience)

        def forget(ended: Flight) -> None:
            if self._flights.get(name, (None,))[0] is ended:
                del self._flights[name]

        flight = Flight(context, lambda call: self._fetcher.run(errand, call), self._clock, forget)
        self._flights[name] = flight, errand
        self._own(flight.task)
        return flight, errand

    def _tend(self, work: Coroutine[None, None, None]) -> None:
        self._own(asyncio.create_task(work))

    def _own(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _key(context: RequestContext, use: CacheUse) -> str:
    request, target, space = context.request, context.choice, namespace(context, use.rules)
    if is_large(request):
        return await asyncio.to_thread(fingerprint, request, target, space)
    return fingerprint(request, target, space)


async def _never(context: RequestContext, use: CacheUse, inner: Handler) -> AsyncGenerator[Batch, None]:
    """Ask a provider, and say why; raises where that is not what the caller wants."""
    if not use.may_ask:
        raise GenerationError(Reason.CACHE_MISS, "no answer is stored: this model is never cached")
    async with aclosing(inner(context)) as batches:
        async for batch in batches:
            if batch[-1].HasField("completed"):
                why = "this model is configured never to be cached: the answer is new, and not stored"
                context.record.warnings.append(unsupported("cache_policy", why))
            yield batch
