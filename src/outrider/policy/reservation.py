"""What one request has reserved of limits and budgets: asked for, waited for, and given back."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from outrider import v1
from outrider.core.context import Target
from outrider.core.quota import Charge, Concurrency, Grant, Refusal, Unit, Window
from outrider.core.spent import spent
from outrider.policy.estimate import Estimate
from outrider.policy.part import Part, Used
from outrider.policy.refused import refused
from outrider.policy.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import Any

    from outrider.core.context import Progress, RequestContext
    from outrider.core.errors import GenerationError
    from outrider.core.ports import Clock
    from outrider.core.quota import Crossing, Meter, QuotaStore
    from outrider.policy.estimate import Estimator
    from outrider.policy.limit_rules import Meters
    from outrider.policy.line import Lines

# Between two questions for a place that is taken, seconds.
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.1
_COME_BACK = 1.0  # seconds after which a place may be free; nobody knows

_ESTIMATE_OF_NOTHING = Estimate()


@dataclass(frozen=True, slots=True)
class Means:
    """What all reservations share."""

    store: QuotaStore
    estimator: Estimator
    lines: Lines
    clock: Clock
    max_wait: float  # seconds that a request is held for a limit
    max_waits: Mapping[str, float]  # shorter ones, for the limits of a provider
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    on_crossing: Callable[[Crossing], None]


class QuotaReservation:
    """The Reservation of a request to which limits apply.

    What it asks of the store is never cancelled: whoever leaves meanwhile gives back what came of it. The
    reserve stage tells it how tries end, and at last that the record is settled.
    """

    def __init__(
        self, context: RequestContext, caller: Meters, targets: Mapping[Target, Meters], means: Means
    ) -> None:
        self._context = context
        self._targets = targets
        self._means = means
        self._caller = Part(context.id, caller)
        self._running: dict[Target, Part] = {}  # tries that are not settled
        self._tries = 0
        self._estimates: dict[Target, Estimate] = {}
        self._estimating = asyncio.Lock()
        self._asked = False  # a provider, for anything
        self._answering: Target | None = None  # the target that has begun to answer
        self.spending = Spending(means.store, means.spawn, means.estimator.output_tokens)

    @property
    def hard(self) -> bool:
        """Whether there is a budget in it that must not be exceeded."""
        return any(meters.hard for meters in (self._caller.meters, *self._targets.values()))

    def begin(self) -> None:
        """Ask for what the first try needs, unless others stand in line for it."""
        if self._tries:
            return
        target = self._context.plan[0]
        parts = self._open(target, self._means.clock(), math.inf if len(self._context.plan) == 1 else 0.0)
        if self._means.lines.any_before(_places(parts)) is None:
            self._ask(parts, target)

    async def enter(self, target: Target, since: float, patience: float) -> None:
        """Wait for leave to try a target. See Reservation."""
        parts = self._open(target, since, patience)
        refusal = await self._take(parts, target)
        if refusal is None and self._caller.target != target:
            refusal = await self._top_up(target)
        if refusal is not None:
            raise self._refused(refusal, parts[1], target, patience)
        delay = max(part.ready_at for part in parts) - self._means.clock()
        if delay > 0:
            await asyncio.sleep(delay)

    def leave(self, target: Target) -> None:
        """See Reservation."""
        part = self._running.pop(target, None)
        if part is not None:
            self._means.spawn(self._give_back(part))

    def follow(self) -> None:
        """A provider has begun to answer: `spending` keeps that within its budgets."""
        record = self._context.record
        self._follow(Target(record.provider, record.model))

    def try_ended(self, attempt: v1.Attempt, lost: Progress | None) -> None:
        """Give back what a try did not use, unless it has begun to answer: then the end tells.

        `lost`: how far a try came that gave no answer, and that its provider may bill for.
        """
        asked = attempt.outcome != v1.Attempt.OUTCOME_SKIPPED
        self._asked |= asked
        target = Target(attempt.provider, attempt.model)
        if asked and self._context.record.progress is not None and self._answering is None:
            self._answering = target
        elif target in self._running:
            part = self._running.pop(target)
            if part.granted:
                used = Used(int(asked)) if lost is None else self._used_by(target, lost)
                self._means.spawn(self._settle(part, used))

    def end(self) -> None:
        """The record says what was used: settle, without holding anybody up."""
        self._means.spawn(self._end())

    def _open(self, target: Target, since: float, patience: float) -> list[Part]:
        """The caller's part and that of the try which comes; `begin` may have made it already."""
        if target not in self._running:
            self._tries += 1
            holder = f"{self._context.id}:{self._tries}"
            self._running[target] = Part(holder, self._targets[target], of_target=True)
        now, deadline, of_try = self._means.clock(), self._context.deadline, self._running[target]
        self._caller.until = min(deadline, now + self._means.max_wait)
        of_try.until = min(deadline, since + min(patience, self._longest_wait(target)))
        return [self._caller, of_try]

    def _longest_wait(self, target: Target) -> float:
        return min(self._means.max_wait, self._means.max_waits.get(target.provider, math.inf))

    def _refused(self, refusal: Refusal, of_try: Part, target: Target, patience: float) -> GenerationError:
        of_target = of_try.refusal is refusal
        error = refused(refusal, of_target=of_target)
        longest = self._longest_wait(target)
        if of_target and patience < longest:
            left = min(longest, self._context.deadline - self._means.clock())
            error.refine(free_in=_free_in(refusal, left))
        return error

    async def _take(self, parts: list[Part], target: Target) -> Refusal | None:
        """Have every part granted, or say why not."""
        taken = None
        if all(part.asking is None for part in parts):
            taken = self._means.lines.any_before(_places(parts))
            if taken is None:
                self._ask(parts, target)
        if taken is None:
            refusal = await self._answer(parts)
            if not _is_for_a_place(refusal):
                return refusal
            taken = refusal.meter
        return await self._stand_in_line(taken, parts, target)

    async def _stand_in_line(self, meter: Meter, parts: list[Part], target: Target) -> Refusal | None:
        part, clock, pause = _holding(meter, parts), self._means.clock, _FIRST_PAUSE
        patience = part.until - clock()
        if patience <= 0:
            part.refusal = part.refusal or Refusal(meter, _COME_BACK)
            return part.refusal
        try:
            async with self._means.lines.first(meter, patience):
                while True:
                    self._ask(parts, target)
                    refusal = await self._answer(parts)
                    if not _is_for_a_place(refusal):
                        return refusal
                    left = _holding(refusal.meter, parts).until - clock()
                    if left <= 0:
                        return refusal
                    await self._means.lines.pause(meter, min(pause, left))
                    pause = min(2 * pause, _LONGEST_PAUSE)
        except TimeoutError:
            part.refusal = Refusal(meter, _COME_BACK)
            return part.refusal

    def _ask(self, parts: list[Part], target: Target) -> None:
        """Ask for what is not granted yet: in one tick, and so in one round trip."""
        for part in parts:
            if part.meters and not part.granted and part.asking is None:
                part.asking = self._means.spawn(self._reserve(part, target))

    async def _answer(self, parts: list[Part]) -> Refusal | None:
        for part in parts:
            task = part.asking
            if task is not None:
                await (task if task.done() else asyncio.shield(task))
                # Who waits for another target beside this one may have asked for the caller again.
                part.asking = None if part.asking is task else part.asking
        return next((part.refusal for part in parts if part.refusal is not None), None)

    async def _reserve(self, part: Part, target: Target) -> None:
        estimate = await self._estimate(target)
        charges = estimate.charges(part.meters.all)
        patience = max(0.0, part.until - self._means.clock())
        verdict = await self._means.store.reserve(part.holder, charges, patience) if charges else Grant()
        if isinstance(verdict, Grant):
            part.granted, part.refusal, part.held, part.target = True, None, charges, target
            part.ready_at = self._means.clock() + verdict.delay
        else:
            part.refusal = verdict
        if part.meters.hard:
            part.covered = estimate.output_tokens if part.granted else 0.0
        if self._context.record.progress is not None and target in self._running:
            # Begun for an answer that somebody else had asked for, and has left to this request.
            self._follow(target)

    def _follow(self, target: Target) -> None:
        part = self._part_of(target)
        parts = [self._caller] if part is None else [self._caller, part]
        self.spending.begin(parts, self._estimates.get(target, _ESTIMATE_OF_NOTHING))

    async def _estimate(self, target: Target) -> Estimate:
        meters = [meters for meters in (self._caller.meters, self._targets[target]) if meters]
        if not any(each.tokens or each.money for each in meters):
            return _ESTIMATE_OF_NOTHING
        async with self._estimating:
            if target not in self._estimates:
                self._estimates[target] = await self._means.estimator.estimate(
                    self._context.request,
                    target,
                    [meter for each in meters for meter in each.all],
                    money=any(each.money for each in meters),
                )
        return self._estimates[target]

    async def _top_up(self, target: Target) -> Refusal | None:
        """Reserve for the caller what this target may use beyond the one it was estimated for."""
        self._caller.target = target
        if not self._caller.meters.budgets:
            return None
        while self._caller.asking is not None:  # for another target that is waited for beside this one
            await self._answer([self._caller])
        self._caller.asking = self._means.spawn(self._extend_to(target))
        refusal, self._caller.refusal = await self._answer([self._caller]), None
        return refusal

    async def _extend_to(self, target: Target) -> None:
        estimate = await self._estimate(target)
        held = {charge.meter: charge.amount for charge in self._caller.held}
        wanted = estimate.charges(self._caller.meters.budgets)
        more = [Charge(meter, n - held.get(meter, 0)) for meter, n in wanted if n > held.get(meter, 0)]
        self._caller.refusal = await self._means.store.extend(self._caller.holder, more) if more else None
        if self._caller.refusal is None:
            self._caller.add(more)
            if self._caller.meters.hard:
                self._caller.covered = estimate.output_tokens

    async def _end(self) -> None:
        parts = (self._caller, *self._running.values())
        running = [*(part.asking for part in parts), self.spending.extending]
        asked = list(filter(None, running))
        if asked:
            await asyncio.wait(asked)
        record = self._context.record
        of_answer = in_all = Used()
        if self._asked:
            of_answer, in_all = _used(record.usage, record.cost), _used(*spent(record))
        answering = self._part_of(self._answering) if self._answering is not None else None
        if answering is not None:
            _owe(self._caller, answering)
        settling = [
            self._settle(part, of_answer if part is answering else Used())
            for part in self._running.values()
            if part.granted
        ]
        if self._caller.granted:
            settling.append(self._settle(self._caller, in_all))
        # A task for each but the last, so that they are settled in one round trip.
        for each in settling[:-1]:
            self._means.spawn(each)
        if settling:
            await settling[-1]

    def _used_by(self, target: Target, lost: Progress) -> Used:
        estimate, said = self._estimates.get(target, _ESTIMATE_OF_NOTHING), lost.usage or v1.Usage()
        output = max(said.output_tokens, math.ceil(lost.output_chars * estimate.tokens_per_char))
        prompt = said.input_tokens or estimate.input_tokens
        return Used(1, prompt + output, estimate.of_unit(Unit.NANO_USD, output))

    def _part_of(self, answering: Target) -> Part | None:
        """Of the try that answers. What somebody else had asked for may be of another target."""
        return self._running.get(answering) or next(iter(self._running.values()), None)

    async def _give_back(self, part: Part) -> None:
        if part.asking is not None:
            await asyncio.wait([part.asking])
        if part.granted:
            await self._settle(part, Used())

    async def _settle(self, part: Part, used: Used) -> None:
        if part.held:
            amounts = [used.of(charge.meter.unit) for charge in part.held]
            for crossing in await self._means.store.settle(part.holder, part.held, amounts):
                self._means.on_crossing(crossing)
        self._means.lines.stir(part.meters.concurrency)


def _used(usage: v1.Usage | None, cost: v1.Cost | None) -> Used:
    tokens = usage.input_tokens + usage.output_tokens if usage is not None else 0
    return Used(1, tokens, max(0, cost.total_nano_usd) if cost is not None else 0)


def _owe(*parts: Part) -> None:
    """What was used without leave counts too: of an answer that somebody else had left to this request."""
    for part in parts:
        if part.meters and not part.granted:
            part.add([Charge(each, 0) for each in part.meters.all if each not in part.meters.concurrency])


def _places(parts: Sequence[Part]) -> list[Meter]:
    """Where a part may have to stand in line."""
    return [meter for part in parts if not part.granted for meter in part.meters.concurrency]


def _holding(meter: Meter, parts: Sequence[Part]) -> Part:
    return next(part for part in parts if meter in part.meters.concurrency)


def _free_in(refusal: Refusal, left: float) -> float | None:
    """Seconds after which what was refused may be had, if it can be waited for in the time that is left."""
    if isinstance(refusal.meter.bound, Concurrency):
        # Nobody knows when; whoever wants the next place has to stand in line now.
        return 0.0 if refusal.meter.bound.limit and left > 0 else None
    after = None if isinstance(refusal.meter.bound, Window) else refusal.retry_after
    return after if after is not None and after <= left else None


def _is_for_a_place(refusal: Refusal | None) -> TypeGuard[Refusal]:
    """Whether asking again soon may help."""
    return refusal is not None and isinstance(refusal.meter.bound, Concurrency)
