"""What every ledger must do: in memory, in Redis, and in a Redis that is cut into shards."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from outrider import v1
from outrider.core.ledger import LedgerBatch, LedgerStore, UsageKey
from outrider.stores.memory_ledger import MemoryLedger
from outrider.stores.redis_ledger import RedisLedger
from outrider.stores.redis_link import RedisLink
from tests.support.ledger import record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = time.time()
HOUR = int(NOW) // 3600


@pytest_asyncio.fixture
async def link(redis_url: str, prefix: str) -> AsyncIterator[RedisLink]:
    """A link that is connected."""
    link = RedisLink(redis_url, prefix=prefix, timeout=5)
    await link.start(10)
    yield link
    await link.aclose()


@pytest.fixture(params=["memory", "redis", "redis of 3 shards"])
def ledger(request: pytest.FixtureRequest) -> LedgerStore:
    """One of each kind, empty, with room for 3 keys an hour and shard."""
    if request.param == "memory":
        return MemoryLedger(max_keys=3)
    shards = 3 if "3" in request.param else 1
    return RedisLedger(request.getfixturevalue("link"), shards=shards, max_keys=3 * shards)


async def put(ledger: LedgerStore, number: int, *records: v1.UsageRecord, source: str = "a") -> None:
    await ledger.append(LedgerBatch(source, number, records))


async def total(ledger: LedgerStore) -> int:
    """Requests in all sums."""
    return sum(totals.requests for _, totals in await ledger.sums(0, HOUR + 10))


async def read(
    ledger: LedgerStore, start: float = 0.0, end: float = NOW + 3600, cursor: str = ""
) -> list[tuple[str, str]]:
    """Cursors and ids of the records of a time."""
    async with aclosing(ledger.records(int(start * 1000), int(end * 1000), cursor)) as records:
        return [(cursor, found.request_id.removeprefix("request-")) async for cursor, found in records]


async def test_sums_are_by_every_dimension(ledger: LedgerStore) -> None:
    """Requests with the same key add up; each key is there once, with all its parts."""
    by = {"tenant": "acme", "project": "shop", "agent": "chat"}
    await put(ledger, 1, record(1, ended_at=NOW, **by), record(2, ended_at=NOW, outcome="failed", **by))
    await put(ledger, 1, record(3, ended_at=NOW, **by), source="b")

    sums = dict(await ledger.sums(HOUR, HOUR + 1))

    key = UsageKey(HOUR, "acme", "shop", "chat", "gpt", "openai", "succeeded")
    assert set(sums) == {key, key._replace(outcome="failed")}
    assert sums[key] == v1.UsageTotals(
        requests=2,
        usage=v1.Usage(input_tokens=20, output_tokens=10, source=v1.USAGE_SOURCE_PROVIDER),
        cost=v1.Cost(total_nano_usd=2_000, output_nano_usd=2_000),
    )


async def test_every_part_is_summed(ledger: LedgerStore) -> None:
    """All kinds of tokens and of money, whether they are estimated, and what has no price."""
    usage = v1.Usage(
        input_tokens=1,
        output_tokens=2,
        cached_input_tokens=3,
        cache_write_input_tokens=4,
        reasoning_output_tokens=5,
        cache_write_1h_input_tokens=6,
        source=v1.USAGE_SOURCE_ESTIMATED,
    )
    cost = v1.Cost(
        total_nano_usd=10**15 + 1,
        input_nano_usd=2,
        cached_input_nano_usd=3,
        cache_write_nano_usd=4,
        output_nano_usd=5,
        estimated=True,
    )
    one = record(1, ended_at=NOW, nano_usd=None)
    one.usage.CopyFrom(usage)
    one.cost.CopyFrom(cost)
    await put(ledger, 1, one)
    await put(
        ledger,
        2,
        record(2, ended_at=NOW, nano_usd=None),
        record(3, ended_at=NOW, nano_usd=0, cached=True),
        record(4, ended_at=NOW, nano_usd=None, cached=True),
    )

    ((_, totals),) = await ledger.sums(HOUR, HOUR + 1)

    usage.input_tokens += 30
    usage.output_tokens += 15
    assert totals == v1.UsageTotals(requests=4, usage=usage, cost=cost, cost_unknown=1, cache_hits=2)


async def test_what_used_nothing_has_no_usage(ledger: LedgerStore) -> None:
    """Row 30: a request that was refused is counted, without tokens and without a price."""
    refused = record(1, ended_at=NOW, nano_usd=None, outcome="failed")
    refused.ClearField("usage")
    await put(ledger, 1, refused)

    ((_, totals),) = await ledger.sums(HOUR, HOUR + 1)

    assert totals == v1.UsageTotals(requests=1)
    assert not totals.HasField("usage")
    assert not totals.HasField("cost")


async def test_a_batch_counts_once(ledger: LedgerStore) -> None:
    """A number that was counted, or passed over, counts nothing more; sources do not disturb each other."""
    for number in (1, 1, 2, 1, 5, 3, 5):
        await put(ledger, number, record(number, ended_at=NOW))
    await put(ledger, 1, record(9, ended_at=NOW), source="b")

    assert await total(ledger) == 4
    assert sorted(number for _, number in await read(ledger)) == ["1", "2", "5", "9"]


async def test_a_batch_may_span_hours(ledger: LedgerStore) -> None:
    """Each record counts in the hour in which it ended, once, however often the batch is sent."""
    for _ in range(2):
        await put(ledger, 1, *(record(n, ended_at=NOW - 3600 * n) for n in range(3)))

    assert [key.hour for key, _ in await ledger.sums(0, HOUR + 1)] == [HOUR - 2, HOUR - 1, HOUR]
    assert [key.hour for key, _ in await ledger.sums(HOUR - 1, HOUR)] == [HOUR - 1]
    assert await total(ledger) == 3


async def test_invented_names_are_bounded(ledger: LedgerStore) -> None:
    """Row 27: beyond so many keys an hour, what callers invent is counted as "other"; nothing is lost."""
    for number in range(1, 7):
        by = {"tenant": f"t{number}", "project": "p", "agent": "\x00é"}
        await put(ledger, number, record(number, ended_at=NOW, model=f"m{number}", **by))
    await put(ledger, 7, record(7, ended_at=NOW, model="m1", tenant="t1", project="p", agent="\x00é"))

    sums = dict(await ledger.sums(HOUR, HOUR + 1))

    other = UsageKey(HOUR, "other", "other", "other", "other", "openai", "succeeded")
    assert len(sums) == 4
    assert sums[other].requests == 3
    assert sums[UsageKey(HOUR, "t1", "p", "\x00é", "m1", "openai", "succeeded")].requests == 2


async def test_records_come_back_as_they_were(ledger: LedgerStore) -> None:
    """In the order they were counted, those of the asked time alone."""
    entries = [record(n, ended_at=HOUR * 3600 + n, user="u") for n in (3, 1, 2)]
    await put(ledger, 1, *entries)

    async with aclosing(ledger.records(HOUR * 3_600_000, HOUR * 3_600_000 + 10_000)) as records:
        assert [found async for _, found in records] == entries
    start = HOUR * 3600 + 2
    assert [number for _, number in await read(ledger, start, start + 1)] == ["2"]


async def test_reading_goes_on_after_a_cursor(ledger: LedgerStore) -> None:
    """From any record on: what comes after it, once each, also what was counted since."""
    for place, source in enumerate("abc"):
        numbers = range(300 * place, 300 * place + 300)
        records = (record(n, ended_at=NOW - 3600 * (n % 2)) for n in numbers)
        await put(ledger, 1, *records, source=source)
    everything = await read(ledger)

    assert len({number for _, number in everything}) == len(everything) == 900
    for place in (0, 199, 200, 449, 450, 897, 899):
        rest = await read(ledger, cursor=everything[place][0])
        assert sorted(number for _, number in rest) == sorted(number for _, number in everything[place + 1 :])
    await put(ledger, 2, record(1_000, ended_at=NOW))
    assert [number for _, number in await read(ledger, cursor=everything[-1][0])] == ["1000"]


async def test_late_records_come_after_a_cursor(ledger: LedgerStore) -> None:
    """What a sidecar that was cut off counts later, in hours that were read already, is not passed over."""
    await put(ledger, 1, record(1, ended_at=NOW))
    ((cursor, _),) = await read(ledger)
    time.sleep(0.002)  # noqa: ASYNC251 - the reading above began in an earlier millisecond
    for source in "xyz":
        late = (record(f"{source}{n}", ended_at=NOW - 3600 * (1 + n % 3)) for n in range(700))
        await put(ledger, 1, *late, source=source)
    await put(ledger, 2, record(4, ended_at=NOW))

    found = await read(ledger, cursor=cursor)

    assert sorted(number for _, number in found) == sorted(
        ["4", *(f"{s}{n}" for s in "xyz" for n in range(700))]
    )
    for place in (0, 1, 199, 200, 201, 600, 1_399, 2_099):
        after = found[place][0]
        assert [number for _, number in await read(ledger, cursor=after)] == [
            number for _, number in found[place + 1 :]
        ]


@pytest.mark.parametrize(
    "cursor", ["?", "-1", "1_2", "1_1-1_x-1", "9" * 40, "1_1-1-1" + "_1-1" * 9, "\u0661"]
)
async def test_what_is_no_cursor_is_refused(ledger: LedgerStore, cursor: str) -> None:
    """With a ValueError, whatever was made up."""
    with pytest.raises(ValueError, match="cursor"):
        await read(ledger, cursor=cursor)
