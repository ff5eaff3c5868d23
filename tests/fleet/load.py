"""Callers that ask a fleet all the time, and what they were told."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from outrider import v1
from outrider.stores.redis_ledger import RedisLedger
from outrider.stores.redis_link import RedisLink
from tests.support.process import PATIENCE
from tests.support.sidecar import Failure, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.fleet.support import Member

PER_SECOND, BURST = 20, 10  # of the limit that everybody wants more of
PAUSE = 0.03  # seconds between two requests of a caller
SAME = 20  # questions that are asked again and again
STORY = "x" * 400

_SHARDS = 8  # of the ledger on a Cluster; elsewhere only the first is in use

CONFIG: dict[str, Any] = {
    "server": {"drain": {"delay": 0}},
    "providers": {
        "quick": {"format": "simulated", "simulated": {"first_token_delay": 0, "pace": 0}},
        "slow": {
            "format": "simulated",
            "simulated": {"script": STORY, "first_token_delay": 0, "pace": "20ms"},
        },
    },
    "prices": {"echo": {"input": 1, "output": 10}},
    "limits": {
        "rules": [
            {"scope": {"tenant": "tight"}, "requests_per_minute": 60 * PER_SECOND, "burst": BURST},
            {"scope": {"tenant": "wide"}, "requests_per_minute": 600_000, "tokens_per_minute": 600_000_000},
            {"scope": {"model": "*"}, "requests_per_minute": 600_000},
        ],
        "max_wait": "200ms",
    },
    "budgets": [{"scope": {"tenant": "wide"}, "usd": 1_000, "period": "total"}],
    "usage": {"flush_interval": "50ms"},
}


@dataclass(frozen=True)
class Receipt:
    """What a caller knows of a request."""

    request_id: str
    at: float  # when it ended
    tenant: str
    usage: v1.Usage | None = None  # None: it was not told
    cost: v1.Cost | None = None


@dataclass
class Load:
    """Requests of all kinds, at every sidecar. `phase` names the waits that are measured."""

    sidecars: Sequence[Member]
    phase: str = "quiet"
    receipts: list[Receipt] = field(default_factory=list)
    refused: int = 0  # by the limit that everybody wants more of
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    began: float = field(default_factory=time.monotonic)
    stopped: bool = False
    mourning: bool = False  # the sidecars are being killed: whoever finds theirs dead leaves

    async def run(self) -> None:
        """Ask until it is stopped. Fails the test where a request fails that should not."""
        kinds = (self._stream, self._stream, self._tight, self._leave)
        await asyncio.gather(*(self._repeat(kind, each) for kind in kinds for each in self.sidecars))

    def answered(self, tenant: str) -> int:
        """Requests of a tenant that were answered."""
        return sum(each.tenant == tenant and each.usage is not None for each in self.receipts)

    def slowest(self, *phases: str, share: float = 0.99) -> float:
        """The seconds within which this share of answers began."""
        waits = sorted(wait for phase in phases for wait in self.waits[phase])
        return waits[int(len(waits) * share)]

    async def _repeat(self, kind: Callable[[Member], Any], sidecar: Member) -> None:
        await asyncio.sleep(random.uniform(0, PAUSE))
        while not self.stopped:
            try:
                await kind(sidecar)
            except grpc.aio.AioRpcError as error:
                if self.mourning and error.code() is grpc.StatusCode.UNAVAILABLE:
                    return
                raise
            await asyncio.sleep(PAUSE)

    async def _stream(self, sidecar: Member) -> None:
        """A question that was asked before, or a new one: a hit, or a miss within limits and a budget."""
        number = random.randrange(2 * SAME)
        text = f"question {number}" if number < SAME else f"new question {random.random()}"
        request = self._request("wide", text, sampling=v1.Sampling(temperature=0))
        began, phase, started = time.monotonic(), self.phase, None
        async for event in sidecar.caller.generation.Generate(request, timeout=PATIENCE):
            if started is None:
                started = event.started
                self.waits[phase].append(time.monotonic() - began)
        assert started is not None
        self._note(started.request_id, "wide", event.completed)

    async def _tight(self, sidecar: Member) -> None:
        """One of too many."""
        request = v1.CompleteRequest(request=self._request("tight", "hello"))
        try:
            answer = await sidecar.caller.generation.Complete(request, timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            failure = Failure.of(error)
            if failure.reason != "CALLER_RATE_LIMITED" or failure.failure is None:
                raise
            self.refused += 1
            self._note(failure.failure.request_id, "tight")
        else:
            self._note(answer.started.request_id, "tight", answer.completed)

    async def _leave(self, sidecar: Member) -> None:
        """A caller that has read enough."""
        call = sidecar.caller.generation.Generate(
            self._request("wide", "hello", model="slow/echo"), timeout=PATIENCE
        )
        event = await call.read()
        call.cancel()
        self._note(event.started.request_id, "wide")

    def _note(self, request_id: str, tenant: str, completed: v1.Completed | None = None) -> None:
        told = (completed.usage, completed.cost) if completed is not None else ()
        self.receipts.append(Receipt(request_id, time.monotonic(), tenant, *told))

    def _request(
        self, tenant: str, text: str, model: str = "quick/echo", **changes: Any
    ) -> v1.GenerateRequest:
        return ask(model, text, attribution=v1.Attribution(tenant=tenant), **changes)


@asynccontextmanager
async def under_load(sidecars: Sequence[Member]) -> AsyncIterator[Load]:
    """Callers for as long as the block lasts; what they began is ended."""
    load = Load(sidecars)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        yield load
        load.stopped = True


async def counted(url: str) -> dict[str, v1.UsageRecord]:
    """The fleet's records by id. Each is there once, and the sums are theirs."""
    link = RedisLink(url, timeout=5)
    await link.start(PATIENCE)
    try:
        ledger = RedisLedger(link, shards=_SHARDS)
        async with aclosing(ledger.records(0, 2**52)) as records:
            found = [record async for _, record in records]
        sums = [totals for _, totals in await ledger.sums(0, 2**30)]
    finally:
        await link.aclose()
    by_id = {record.request_id: record for record in found}
    assert len(by_id) == len(found) == sum(totals.requests for totals in sums)
    assert sum(totals.usage.output_tokens for totals in sums) == sum(
        record.usage.output_tokens for record in found
    )
    assert sum(totals.cost.total_nano_usd for totals in sums) == sum(
        record.cost.total_nano_usd for record in found
    )
    return by_id


def assert_equal(receipts: Sequence[Receipt], found: dict[str, v1.UsageRecord]) -> None:
    """Every receipt is on record, with the tokens and the cost that the caller was told."""
    for each in receipts:
        if each.usage is None:
            continue
        record, told = found[each.request_id], each.usage
        assert record.usage.input_tokens == told.input_tokens, (record, told)
        assert record.usage.output_tokens == told.output_tokens, (record, told)
        assert each.cost is not None
        assert record.cost.total_nano_usd == each.cost.total_nano_usd, (record, each.cost)
