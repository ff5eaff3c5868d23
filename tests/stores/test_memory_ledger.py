"""The ledger in memory is bounded, whatever comes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from outrider.core.ledger import LedgerBatch
from outrider.stores.memory_ledger import MemoryLedger
from tests.support.ledger import NOW, record

HOUR = int(NOW) // 3600


async def put(ledger: MemoryLedger, number: int, hours_ago: int, tenants: int = 1) -> None:
    """Count one record for each of so many tenants."""
    made = [record(n, ended_at=NOW - 3600 * hours_ago, tenant=str(n)) for n in range(tenants)]
    await ledger.append(LedgerBatch("a", number, made))


async def hours(ledger: MemoryLedger) -> list[int]:
    """How long ago those were that it knows of."""
    return sorted({HOUR - key.hour for key, _ in await ledger.sums(0, HOUR + 1)})


async def test_old_hours_go() -> None:
    """What is older than the retention is neither counted nor told, also once time has passed."""
    now = NOW
    ledger = MemoryLedger(retention=10 * 3600, clock=lambda: now)
    for number, ago in enumerate((0, 5, 9, 11, 500), start=1):
        await put(ledger, number, ago)
    assert await hours(ledger) == [0, 5, 9]
    now += 3600 * 3
    assert await hours(ledger) == [0, 5]
    await put(ledger, 9, 0)
    assert len(ledger._hours) == 2


async def test_sums_are_bounded_in_all() -> None:
    """Beyond so many keys the oldest hours go; the newest stays, however large."""
    ledger = MemoryLedger(max_sums=25, clock=lambda: NOW)
    for number in range(1, 6):
        await put(ledger, number, 5 - number, tenants=10)
    assert await hours(ledger) == [0, 1]
    await put(ledger, 6, 0, tenants=40)
    assert await hours(ledger) == [0]


async def test_records_are_bounded() -> None:
    """The newest are kept; reading goes on with the oldest that is left, where any is."""
    for size, left in ((10, [6, 7, *range(8)]), (0, [])):
        ledger = MemoryLedger(max_records=size, clock=lambda: NOW)
        for number in range(1, 4):
            await put(ledger, number, 0, tenants=8)
        async with aclosing(ledger.records(0, 2**52, "3")) as records:
            found = [record.request_id async for _, record in records]
        assert found == [f"request-{number}" for number in left]


async def test_long_sums_leave_the_loop_room() -> None:
    """Others run while thousands of sums are read, and what they count meanwhile breaks nothing."""
    ledger = MemoryLedger(clock=lambda: NOW)
    await put(ledger, 1, hours_ago=0, tenants=2_000)
    reading = asyncio.create_task(ledger.sums(0, HOUR + 1))
    turns = 0
    while not reading.done():
        await put(ledger, 2 + turns, hours_ago=0, tenants=3_000)
        await asyncio.sleep(0)
        turns += 1
    assert len(await reading) >= 2_000
    assert turns >= 5
