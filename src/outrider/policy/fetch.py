"""How an answer is had: from the shared store, from another sidecar that makes it, or from a provider."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.answers import StoredAnswer
from outrider.core.errors import Fault, GenerationError
from outrider.policy.cache_rules import is_fresh
from outrider.policy.held_lease import HeldLease
from outrider.policy.keep import Made
from outrider.policy.replay import replay

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from outrider.core.answers import AnswerStore, Lease
    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Clock, Handler
    from outrider.policy.cache_rules import CacheUse
    from outrider.policy.cache_stats import CacheStats
    from outrider.policy.keep import Keeper, Price


@dataclass(slots=True)
class Errand:
    """What is to be fetched. `cost` is what a provider asked for it: known with its last event, if at all."""

    key: str
    use: CacheUse
    inner: Handler  # asks providers
    patience: float  # seconds to wait for another sidecar that makes the answer
    cost: v1.Cost | None = None


class Fetcher:
    """Runs errands. `clock` is monotonic, `wall` the Unix clock; `tend` owns what nobody waits for."""

    def __init__(
        self,
        store: AnswerStore,
        keeper: Keeper,
        stats: CacheStats,
        *,
        price: Price,
        clock: Clock,
        wall: Clock,
        tend: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self._answers = store
        self._keeper = keeper
        self._stats = stats
        self._price = price
        self._clock = clock
        self._wall = wall
        self._tend = tend

    async def run(self, errand: Errand, context: RequestContext) -> AsyncGenerator[Batch, None]:
        """The answer; what follows its last batch is storing it. Raises GenerationError."""
        lease = None
        if errand.use.read:
            # What the first try needs is asked for in the same moment: one round trip for both.
            context.reservation.begin()
            found = await self._look_up(errand, context)
            if isinstance(found, StoredAnswer):
                self._stats.shared_hits += 1
                yield self.give(found, context, v1.CACHE_STATUS_HIT)
                return
            lease = found
            self._stats.misses += 1
        with HeldLease(lease, self._answers, self._tend) as held:
            events: Batch = []
            began = self._clock()
            try:
                async with aclosing(errand.inner(context)) as batches:
                    async for batch in batches:
                        events += batch
                        if batch[-1].HasField("completed"):
                            errand.cost = self._cost(context, batch[-1].completed)
                        yield batch
            except GenerationError as error:
                stale = await self._last_resort(errand, error)
                if stale is None:
                    raise
            else:
                made = Made(events, self._clock() - began, errand.cost)
                await self._keep(errand, context, made, held)
                return
        self._stats.stale_hits += 1
        yield self.give(stale, context, v1.CACHE_STATUS_STALE)

    def give(self, found: StoredAnswer, context: RequestContext, status: v1.CacheStatus) -> Batch:
        """The events of a stored answer, on record as one."""
        record = context.record
        record.provider, record.model = found.answer.started.provider, found.answer.started.model
        record.cache_status, record.cost = status, v1.Cost()
        record.warnings.clear()
        completed = found.answer.completed
        took = completed.timings.total
        self._stats.saved(completed.cost, took.seconds + took.nanos / 1e9)
        return replay(found.answer, context.id, status, found.age(self._wall()))

    def is_fresh(self, found: StoredAnswer, use: CacheUse) -> bool:
        """Whether it may be given as a hit."""
        return is_fresh(found.age(self._wall()), found.fresh_for, use.rules)

    async def _look_up(self, errand: Errand, context: RequestContext) -> StoredAnswer | Lease | None:
        found = await self._answers.look_up(errand.key, lease=True)
        if found is None and self._answers.shared:
            began = self._clock()
            found = await self._answers.wait_for(errand.key, errand.patience)
            context.record.waited += self._clock() - began
        if isinstance(found, StoredAnswer) and not self.is_fresh(found, errand.use):
            return None
        return found

    async def _last_resort(self, errand: Errand, error: GenerationError) -> StoredAnswer | None:
        """An answer past its time, where the route allows one and nothing else is to be had."""
        rules = errand.use.rules
        if error.committed or error.traits.fault is Fault.CALLER or not (rules.stale and errand.use.read):
            return None
        found = self._answers.recall(errand.key) or await self._answers.look_up(errand.key, lease=False)
        if not isinstance(found, StoredAnswer):
            return None
        return found if found.age(self._wall()) < found.fresh_for + rules.stale else None

    async def _keep(self, errand: Errand, context: RequestContext, made: Made, held: HeldLease) -> None:
        answer = await self._keeper.keep(context, errand.use, made)
        if answer is not None:
            self._stats.stored += 1
            await self._answers.put(errand.key, answer, held.hand_over())

    def _cost(self, context: RequestContext, completed: v1.Completed) -> v1.Cost | None:
        if not completed.HasField("usage"):
            return None
        return self._price(context.record.provider, context.record.model, completed.usage)
