"""What one sidecar asks of Redis: its real stores, without gRPC, pipeline and provider around them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from outrider import v1
from outrider.core.answers import Lease, StoredAnswer
from outrider.core.context import Record
from outrider.core.ledger import LedgerBatch
from outrider.core.quota import Charge, Grant, Meter, Period, Rate, Unit, Window
from outrider.core.store_errors import StoreUnavailableError
from outrider.core.usage_record import usage_record
from outrider.stores.fleet import Fleet
from outrider.stores.fleet_quota import FleetQuotaStore
from outrider.stores.ledger_writer import LedgerWriter
from outrider.stores.memory_answers import MemoryAnswers
from outrider.stores.memory_ledger import MemoryLedger
from outrider.stores.redis_answers import RedisAnswers
from outrider.stores.redis_jobs import RedisJobs
from outrider.stores.redis_ledger import RedisLedger
from outrider.stores.redis_link import RedisLink
from outrider.stores.route_overrides import RedisRouteOverrides
from outrider.stores.target_hints import TargetHints
from outrider.stores.tiered_answers import TieredAnswers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

TENANTS: Final = 100

_PROMPT, _ANSWER, _LONGEST = 1_200, 400, 1_024  # tokens: of both, and of an answer that is reserved
_COST: Final = _PROMPT * 1_000 + _ANSWER * 4_000  # nano-USD
_RESERVED: Final = {
    Unit.REQUESTS: 1,
    Unit.TOKENS: _PROMPT + _LONGEST,
    Unit.NANO_USD: _PROMPT * 1_000 + _LONGEST * 4_000,
}
_USED: Final = {Unit.REQUESTS: 1, Unit.TOKENS: _PROMPT + _ANSWER, Unit.NANO_USD: _COST}
# As much as nobody reaches: it is the counting that is measured.
_REQUESTS, _TOKENS = Rate(1e7, 1e7), Rate(1e12, 1e12)
_BUDGET = Window(10**15, Period.MONTH, (0.5, 0.8, 0.95))
_PATIENCE: Final = 10.0
_TIMEOUT: Final = 5.0
# Of some 400 tokens.
_TEXT: Final = "The sidecar answers beside the service, and nobody has to know where it asks. " * 20


@dataclass(frozen=True, slots=True)
class Uses:
    """What a request has. The first three are limits of its tenant, counted in one place."""

    requests: bool = False
    tokens: bool = False
    budget: bool = False
    provider: bool = False  # a limit of requests that the whole fleet shares
    cache: bool = False  # it is asked in vain, and keeps the answer
    hit: bool = False  # it has the answer
    ledger: bool = False


EVERYTHING: Final = Uses(requests=True, tokens=True, budget=True, provider=True, cache=True, ledger=True)


def log_failures_only() -> None:
    """On standard error: a thousand sidecars have much to say, and standard output is for results."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


class LogicalSidecar:
    """Between `start` and `aclose` it does what an idle sidecar does."""

    def __init__(self, url: str) -> None:
        # Hundreds share a loop here: where that stalls, Redis did not.
        link = self.link = RedisLink(url, timeout=_TIMEOUT)
        self.lost = 0  # how often it found Redis gone
        self._fleet = Fleet(link, secrets.token_hex(8))
        self._quotas = FleetQuotaStore(link, self._fleet)
        # No memory in front: nothing that is asked for here is asked for twice.
        self._answers = TieredAnswers(MemoryAnswers(0), RedisAnswers(link))
        self._hints, self._routes, self._jobs = TargetHints(link), RedisRouteOverrides(link), RedisJobs(link)
        self._ledger = RedisLedger(link)
        self._writer = LedgerWriter(self._ledger, tick=0.25, local=MemoryLedger(max_records=0))
        self._closing = AsyncExitStack()

    async def start(self) -> None:
        """As the composition root does it."""
        self._closing.push_async_callback(self.link.aclose)
        await self.link.start()
        self.link.on_change(self._link_changed)
        for part in (self._answers, self._fleet, self._quotas, self._routes, self._writer):
            self._closing.push_async_callback(part.aclose)
            await part.start()
        for ask, seconds in ((self._exchange_hints, 2.0), (self._look_for_work, 1.0)):
            asking = asyncio.create_task(_repeat(ask, seconds))
            self._closing.callback(asking.cancel)

    async def aclose(self) -> None:
        """Stop, the ledger sent."""
        await self._closing.aclose()

    async def request(self, uses: Uses, tenant: str, seconds: float, *, key: str = "") -> float:
        """One request whose provider takes so long; how long it waited for Redis before that."""
        request_id, key = secrets.token_hex(16), key or secrets.token_hex(32)
        began = time.perf_counter()
        # All in one step, as the cache stage does it: one round trip.
        held = [(holder, charges) for holder, charges in _charges(uses, tenant, request_id) if charges]
        asking = [asyncio.create_task(self._quotas.reserve(*each, _PATIENCE)) for each in held]
        found = await self._answers.look_up(key, lease=True) if uses.cache or uses.hit else None
        for question in asking:
            assert isinstance(await question, Grant), "a limit that nobody reaches was reached"
        waited = time.perf_counter() - began
        await asyncio.sleep(seconds)
        settling = [asyncio.create_task(self._settle(*each)) for each in held]
        if uses.cache and not isinstance(found, StoredAnswer):
            await self._answers.put(key, _stored(tenant), found if isinstance(found, Lease) else None)
        await asyncio.gather(*settling)
        if uses.ledger:
            self._writer.request_finished(_record(request_id, tenant, began, time.perf_counter()))
        return waited

    async def store(self, key: str, tenant: str) -> None:
        """Have an answer in Redis."""
        await self._answers.put(key, _stored(tenant), None)

    async def count_one(self, tenant: str) -> None:
        """Send one request to the ledger at once, without gathering."""
        entry = usage_record(_record(secrets.token_hex(16), tenant, 0.0, 1.0), time.time())
        # Of a source of its own: it is to be counted whatever was counted before.
        await self._ledger.append(LedgerBatch(secrets.token_hex(8), 1, [entry]))

    async def _settle(self, holder: str, charges: Sequence[Charge]) -> None:
        await self._quotas.settle(holder, charges, [_USED[charge.meter.unit] for charge in charges])

    # The next two are asked by parts above the stores, as often as here.
    async def _exchange_hints(self) -> None:
        await self._hints.exchange({})

    async def _look_for_work(self) -> None:
        await self._jobs.claim("nobody")

    def _link_changed(self, available: bool) -> None:
        self.lost += not available


async def _repeat(ask: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        with suppress(StoreUnavailableError):
            await ask()


def _charges(uses: Uses, tenant: str, request_id: str) -> list[tuple[str, list[Charge]]]:
    """Of the caller, and of the try at a provider."""
    scope = f"tenant={tenant}"
    meters = [
        (uses.requests, Meter(scope, Unit.REQUESTS, _REQUESTS)),
        (uses.tokens, Meter(scope, Unit.TOKENS, _TOKENS)),
        (uses.budget, Meter(scope, Unit.NANO_USD, _BUDGET)),
    ]
    of_caller = [Charge(meter, _RESERVED[meter.unit]) for used, meter in meters if used]
    of_try = [Charge(Meter("provider=groq", Unit.REQUESTS, _REQUESTS), 1)] if uses.provider else []
    return [(request_id, of_caller), (f"{request_id}:1", of_try)]


def _stored(tenant: str) -> StoredAnswer:
    message = v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text=_TEXT)])
    started = v1.Started(provider="groq", model="llama-3.3-70b-versatile")
    completed = v1.Completed(finish_reason=v1.FINISH_REASON_STOP, cost=v1.Cost(total_nano_usd=_COST))
    answer = v1.CompleteResponse(started=started, message=message, completed=completed)
    return StoredAnswer(answer, time.time(), 3_600.0, tenant=tenant, model="groq/llama-3.3-70b-versatile")


def _record(request_id: str, tenant: str, began: float, ended: float) -> Record:
    return Record(
        request_id=request_id,
        method="Generate",
        principal="anyone",
        requested_model="groq/llama-3.3-70b-versatile",
        started_at=began,
        finished_at=ended,
        provider="groq",
        model="llama-3.3-70b-versatile",
        tenant=tenant,
        attempts=[v1.Attempt(provider="groq", model="llama-3.3-70b-versatile")],
        usage=v1.Usage(input_tokens=_PROMPT, output_tokens=_ANSWER, source=v1.USAGE_SOURCE_PROVIDER),
        cost=v1.Cost(total_nano_usd=_COST),
    )
