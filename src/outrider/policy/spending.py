"""Keeps a running answer within its budgets: reserves more as it grows, ends it where there is no more."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.quota import Charge
from outrider.policy.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
    from typing import Any

    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Handler
    from outrider.core.quota import QuotaStore, Refusal
    from outrider.policy.part import Part
    from outrider.policy.reservation import QuotaReservation

_NEAR_THE_END = 0.25  # of a block: when this is left of what is reserved, more is asked for
_LEAST = 16  # tokens worth asking for
_QUESTIONS = 3  # each for less than the one before


class Spending:
    """How far what is reserved goes. Counts in characters of the answer: they are known at every batch."""

    def __init__(
        self, store: QuotaStore, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]], block: int
    ) -> None:
        self._store = store
        self._spawn = spawn
        self._block = block
        self._parts: Sequence[Part] = ()
        self._estimate = Estimate()
        self._used = 0.0  # tokens of the answer
        self.has_begun = False
        self.extending: asyncio.Task[None] | None = None
        self.mark = math.inf  # characters at which `covers` has to be asked

    def begin(self, parts: Sequence[Part], estimate: Estimate) -> None:
        """An answer begins for which this is reserved."""
        self.has_begun = True
        self._parts, self._estimate = [part for part in parts if part.meters.hard], estimate
        self._set_mark(_NEAR_THE_END * self._block)

    async def covers(self, chars: int) -> bool:
        """Whether an answer may go on that will soon have so many characters.

        Reserves more in the background while some is left, and waits for it only where none is.
        """
        self._used = chars * self._estimate.tokens_per_char
        if self._used < self._covered:
            if self.extending is None:
                self.extending = self._spawn(self._extend())
                self._set_mark(0.0)
            return True
        if self.extending is not None:
            await asyncio.shield(self.extending)
        if self._used >= self._covered:
            self.extending = self._spawn(self._extend())
            await asyncio.shield(self.extending)
        return self._used < self._covered

    @property
    def _covered(self) -> float:
        return min((part.covered for part in self._parts), default=math.inf)

    def _set_mark(self, left: float) -> None:
        per_char = self._estimate.tokens_per_char
        self.mark = max(1.0, (self._covered - left) / per_char) if per_char else math.inf

    async def _extend(self) -> None:
        """Cover one more block, or as much as there still is; by several scopes at once."""
        before, goal = self._covered, max(self._covered, self._used) + self._block
        await asyncio.gather(*(self._extend_part(part, goal) for part in self._parts))
        self.extending = None
        self._set_mark(_NEAR_THE_END * self._block if self._covered > before else 0.0)

    async def _extend_part(self, part: Part, goal: float) -> None:
        for _ in range(_QUESTIONS):
            tokens = math.ceil(goal - part.covered)
            charges = self._charges(part, tokens)
            refusal = await self._store.extend(part.holder, charges) if charges else None
            if refusal is None:
                part.add(charges)
                part.covered = goal
                return
            goal = part.covered + min(tokens // 2, self._affordable(refusal))
            if goal - part.covered < _LEAST:
                return

    def _charges(self, part: Part, tokens: int) -> list[Charge]:
        estimate = self._estimate
        wanted = (
            (meter, estimate.of_unit(meter.unit, tokens) - estimate.of_unit(meter.unit, 0))
            for meter in part.meters.budgets
        )
        return [Charge(meter, amount) for meter, amount in wanted if amount > 0]

    def _affordable(self, refusal: Refusal) -> int:
        return int(min(self._estimate.tokens_for(refusal.meter.unit, refusal.remaining), self._block))


async def within_budget(
    inner: Handler, context: RequestContext, reservation: QuotaReservation
) -> AsyncGenerator[Batch, None]:
    """An answer, up to what its budgets allow; then it is complete, for the reason BUDGET."""
    spending = reservation.spending
    spent, seen, longest = False, 0, 0
    async with aclosing(inner(context)) as batches:
        async for batch in batches:
            progress = context.record.progress
            if progress is not None:
                if not spending.has_begun:
                    reservation.follow()
                chars = progress.output_chars
                longest = max(longest, chars - seen)
                seen = chars
                # The next batch is not to lie beyond it either.
                if chars + longest >= spending.mark and not batch[-1].HasField("completed"):
                    spent = not await spending.covers(chars + longest)
            yield batch
            if spent:
                break
    if spent:
        # Only now: the try is on record, and the connection to the provider closed.
        yield [v1.GenerateResponse(completed=v1.Completed(finish_reason=v1.FINISH_REASON_BUDGET))]
