"""Requests under limits, for tests of policies: a store that does what a test says, and stages around it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.context import Principal
from outrider.core.quota import Charge, Crossing, Grant, Level, Meter, QuotaStore, Refusal
from outrider.policy.account import Accountant
from outrider.policy.attempt import AttemptLoop
from outrider.policy.estimate import Estimator
from outrider.policy.limit_rules import LimitBook, Rule
from outrider.policy.pipeline import compose
from outrider.policy.reserve import Reserver
from outrider.stores.memory_quota import MemoryQuotaStore
from outrider.telemetry.fan_out import FanOut
from tests.support.paused_clock import now
from tests.support.scripted import Watcher, context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider.core.context import RequestContext, Target
    from outrider.core.ports import Batch, Handler, Stage
    from outrider.policy.hedging import Hedging
    from outrider.policy.upstream import Upstream

INPUT_TOKENS = 5  # of every request here: "hello"


class Counter:
    """One token a character of the prompt, one for each 4 characters of an answer."""

    def count_input(self, request: v1.GenerateRequest, model: str) -> tuple[int, bool]:
        return sum(len(part.text) for message in request.messages for part in message.parts), False

    def count_output(self, chars: int, model: str) -> int:
        return -(-chars // 4)


def cost(provider: str, model: str, usage: v1.Usage) -> v1.Cost | None:
    """10 nano-USD for a token of the prompt, 100 for one of the answer; "dear" costs ten times that."""
    if model == "unpriced":
        return None
    factor = 10 if model == "dear" else 1
    paid, made = 10 * factor * usage.input_tokens, 100 * factor * usage.output_tokens
    guessed = usage.source == v1.USAGE_SOURCE_ESTIMATED
    return v1.Cost(total_nano_usd=paid + made, input_nano_usd=paid, output_nano_usd=made, estimated=guessed)


@dataclass(frozen=True)
class Asked:
    """One call to the store."""

    what: str
    holder: str
    charges: Sequence[Charge]
    at: float
    patience: float = 0.0
    used: Sequence[int] = ()


class ScriptedQuota:
    """A QuotaStore that answers the charges of a scope as scripted, in order, then grants; and remembers.

    `latency` is the time of a round trip.
    """

    shared = True

    def __init__(self, *, latency: float = 0.0, **verdicts: list[Grant | float | None]) -> None:
        """`verdicts` by the first dimension of the scope: a Grant, or after how long a Refusal may end."""
        self.verdicts = verdicts
        self.latency = latency
        self.asked: list[Asked] = []
        self.crossings: list[Crossing] = []

    async def reserve(self, holder: str, charges: Sequence[Charge], patience: float) -> Grant | Refusal:
        self.asked.append(Asked("reserve", holder, charges, now(), patience))
        await self._travel()
        script = self.verdicts.get(charges[0].meter.scope.partition("=")[0])
        verdict = script.pop(0) if script else Grant()
        return verdict if isinstance(verdict, Grant) else Refusal(charges[0].meter, verdict)

    async def extend(self, holder: str, charges: Sequence[Charge]) -> Refusal | None:
        self.asked.append(Asked("extend", holder, charges, now()))
        await self._travel()
        script = self.verdicts.get("extend")
        verdict = script.pop(0) if script else Grant()
        return None if isinstance(verdict, Grant) else Refusal(charges[0].meter, None, int(verdict or 0))

    async def settle(self, holder: str, held: Sequence[Charge], used: Sequence[int]) -> Sequence[Crossing]:
        self.asked.append(Asked("settle", holder, held, now(), used=used))
        await self._travel()
        return self.crossings

    async def levels(self, meters: Sequence[Meter]) -> Sequence[Level]:
        return [Level(0) for _ in meters]

    def all(self, what: str) -> list[Asked]:
        """Every call of a kind, in order."""
        return [asked for asked in self.asked if asked.what == what]

    def unsettled(self) -> set[str]:
        """The holders to which something was granted or refused, and that were never settled."""
        return {a.holder for a in self.all("reserve")} - {a.holder for a in self.all("settle")}

    async def _travel(self) -> None:
        if self.latency:
            await asyncio.sleep(self.latency)


@dataclass
class Limited:
    """A pipeline under limits."""

    handler: Handler
    reserver: Reserver
    watcher: Watcher
    crossings: list[Crossing] = field(default_factory=list)
    unpriced: list[Target] = field(default_factory=list)

    async def answer(self, call: RequestContext) -> list[Batch]:
        """All batches of an answer. Raises GenerationError."""
        async with aclosing(self.handler(call)) as batches:
            return [batch async for batch in batches]


def limited(
    rules: Sequence[Rule],
    store: QuotaStore,
    *upstreams: Upstream,
    max_wait: float = 10.0,
    max_waits: dict[str, float] | None = None,
    output_tokens: int = 100,
    inside: Sequence[Stage] = (),
    hedging: Hedging | None = None,
) -> Limited:
    """The stages account and reserve, and some inside of them, over these providers."""
    watcher, crossings, unpriced = Watcher(), [], []
    reserver = Reserver(
        LimitBook(rules),
        store,
        Estimator(Counter(), cost, output_tokens, unpriced.append),
        now,
        max_wait=max_wait,
        max_waits=max_waits or {},
        on_crossing=crossings.append,
    )
    observer = FanOut(watcher, reserver, *([hedging] if hedging else []))
    by_name = {each.provider.name: each for each in upstreams}
    loop = AttemptLoop(by_name, observer=observer, clock=now, random=Random(1), hedging=hedging)
    accountant = Accountant(Counter(), cost, observer, now)
    return Limited(compose([accountant, reserver, *inside], loop), reserver, watcher, crossings, unpriced)


def memory() -> MemoryQuotaStore:
    """The real store, on the paused clock; the day begins with the test."""
    began = now()
    return MemoryQuotaStore(now, lambda: now() - began)


def call(
    name: str,
    *targets: str,
    max_output_tokens: int | None = None,
    deadline: float = float("inf"),
    caller: str = "anyone",
    **attribution: str,
) -> RequestContext:
    """A request of its own name, on somebody's behalf."""
    made = context(*targets, deadline=deadline)
    made.request.attribution.CopyFrom(v1.Attribution(**attribution))
    if max_output_tokens is not None:
        made.request.sampling.max_output_tokens = max_output_tokens
    made.record.request_id = name
    return replace(made, id=name, principal=Principal(caller))
