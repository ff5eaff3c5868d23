"""From settled requests to the ledger: beside the requests, through outages of Redis and of the disk."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.context import Outcome, Record
from outrider.core.errors import Reason
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.journal import Journal
from outrider.stores.ledger_writer import LedgerWriter
from outrider.stores.memory_ledger import MemoryLedger
from outrider.stores.redis_ledger import RedisLedger
from outrider.stores.redis_link import RedisLink
from tests.support.redis_server import redis_sentinels, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import pytest

    from outrider.core.ledger import LedgerBatch, LedgerStore

PATIENCE = 30.0  # seconds until a test is given up
QUICK = {"flush_interval": 0.01, "tick": 0.001}


def settled(number: int = 1, outcome: Outcome = Outcome.SUCCEEDED, **changes: object) -> Record:
    """The record of a request that used 10 tokens."""
    record = Record(f"r{number}", "Generate", "checkout", "fast", started_at=1.0, finished_at=2.5)
    record.outcome, record.tenant = outcome, "acme"
    record.provider, record.model = "openai", "gpt"
    record.usage = v1.Usage(input_tokens=10, source=v1.USAGE_SOURCE_PROVIDER)
    for name, value in changes.items():
        setattr(record, name, value)
    return record


class Gate(MemoryLedger):
    """A ledger that is away for as long as it is shut; it counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.shut = True
        self.asked = 0

    async def append(self, batch: LedgerBatch) -> None:
        self.asked += 1
        if self.shut:
            raise StoreUnavailableError
        await super().append(batch)


def segments(folder: Path) -> list[Path]:
    return list(folder.glob("*.usage"))


async def ids(ledger: LedgerStore) -> list[str]:
    """Of all records that the ledger keeps."""
    async with aclosing(ledger.records(0, 2**52)) as records:
        return [record.request_id async for _, record in records]


async def requests(ledger: LedgerStore) -> int:
    """In all its sums."""
    return sum(totals.requests for _, totals in await ledger.sums(0, 2**30))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task brings about."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it is told of nothing
            await asyncio.sleep(0.001)


@asynccontextmanager
async def linked(url: str, prefix: str, **settings: float) -> AsyncIterator[RedisLink]:
    link = RedisLink(url, prefix=prefix, **settings)  # type: ignore[arg-type]
    await link.start(5)
    try:
        yield link
    finally:
        await link.aclose()


async def test_every_request_is_counted_however_it_ended() -> None:
    """Row 30: one record for each, by id; failed, cancelled and refused ones too, for whom they ran."""
    ledger = MemoryLedger()
    published: list[v1.UsageRecord] = []
    writer = LedgerWriter(ledger, publish=published.append, **QUICK)
    await writer.start()
    said = v1.Attribution(tenant="claims", project="shop", labels={"k": "v"})
    writer.request_finished(
        settled(1, attribution=said, first_content_at=1.5, cost=v1.Cost(total_nano_usd=7))
    )
    writer.request_finished(settled(2, Outcome.CANCELLED, reason=Reason.CANCELLED, attribution=said))
    writer.request_finished(
        settled(3, Outcome.FAILED, reason=Reason.MODEL_UNKNOWN, usage=None, provider="", model="")
    )
    writer.request_finished(
        settled(4, Outcome.FAILED, reason=Reason.CALLER_UNKNOWN, attribution=said, tenant="claims")
    )
    await writer.aclose()

    async with aclosing(ledger.records(0, 2**52)) as records:
        first, second, third, fourth = found = [record async for _, record in records]
    assert found == published
    assert [record.outcome for record in found] == ["succeeded", "cancelled", "failed", "failed"]
    assert first.attribution == v1.Attribution(tenant="acme", project="shop", labels={"k": "v"})
    assert (first.duration.ToMilliseconds(), first.time_to_first_content.ToMilliseconds()) == (1_500, 500)
    assert (first.cost.total_nano_usd, second.HasField("cost"), second.reason) == (7, False, "CANCELLED")
    assert abs(first.ended_at.ToSeconds() - time.time()) < 60
    assert (third.HasField("usage"), third.attribution.tenant) == (False, "acme")
    assert not fourth.HasField("attribution")  # whoever is not known speaks for nobody
    assert await requests(ledger) == 4


async def test_records_are_bounded() -> None:
    """Row 27: whatever a caller invents, its record stays small, and is cut between characters."""
    ledger = MemoryLedger()
    writer = LedgerWriter(ledger, **QUICK)
    await writer.start()
    said = v1.Attribution(
        project="é" * 5_000, agent="a" * 256, labels={f"k{n}": "v" * 999 for n in range(50)}
    )
    writer.request_finished(settled(requested_model="m" * 9_999, attribution=said, tenant="t" * 999))
    await writer.aclose()

    async with aclosing(ledger.records(0, 2**52)) as records:
        ((_, record),) = [found async for found in records]
    assert record.attribution.project == "é" * 128
    assert record.attribution.agent == "a" * 256
    assert len(record.attribution.labels) == 16
    assert record.ByteSize() < 8_000


async def test_nothing_waits_for_the_ledger() -> None:
    """Taking note of a request is a list's append: no record is made, and nothing is sent, on its way."""
    ledger = Gate()
    writer = LedgerWriter(ledger, **QUICK)
    await writer.start()
    for number in range(1_000):
        writer.request_finished(settled(number))
    assert (writer.waiting, ledger.asked) == (1_000, 0)
    ledger.shut = False
    await writer.aclose()

    assert await ids(ledger) == [f"r{number}" for number in range(1_000)]
    assert (writer.waiting, writer.lost) == (0, 0)


async def test_a_ledger_that_is_away_is_asked_now_and_then() -> None:
    """Row 23: what waits is sent in order once it is back; meanwhile there is no busy loop."""
    ledger = Gate()
    writer = LedgerWriter(ledger, **QUICK)
    await writer.start()
    writer.request_finished(settled(0))
    await until(lambda: ledger.asked == 1)
    for number in range(1, 1_200):
        writer.request_finished(settled(number))
    await until(lambda: ledger.asked == 3)
    ledger.shut = False
    await until(lambda: not writer.waiting)

    assert ledger.asked < 10  # few batches, whatever the number of ticks
    assert await ids(ledger) == [f"r{number}" for number in range(1_200)]
    await writer.aclose()


async def test_what_waits_in_memory_is_bounded() -> None:
    """Without a journal the oldest are lost, and counted; the newest are kept."""
    ledger = Gate()
    writer = LedgerWriter(ledger, max_waiting_records=2_000, **QUICK)
    await writer.start()
    for start in range(0, 10_000, 500):
        for number in range(start, start + 500):
            writer.request_finished(settled(number))
        await until(lambda: not writer._finished)
    await until(lambda: writer.lost > 0 and writer.waiting <= 3_000)
    ledger.shut = False
    await until(lambda: not writer.waiting)
    await writer.aclose()

    found = await ids(ledger)
    assert len(found) + writer.lost == 10_000
    assert found[-1_500:] == [f"r{number}" for number in range(8_500, 10_000)]


async def test_the_end_is_bounded() -> None:
    """Row 16: a ledger that never answers does not hold the sidecar; what is lost is counted."""

    class Hanging(MemoryLedger):
        async def append(self, batch: LedgerBatch) -> None:
            await asyncio.Event().wait()

    writer = LedgerWriter(Hanging(), **QUICK)
    await writer.start()
    writer.request_finished(settled(1))
    async with asyncio.timeout(PATIENCE):
        await writer.aclose(patience=0.05)
    assert writer.lost == 1
    unused = LedgerWriter(Hanging())
    await unused.aclose()


async def test_a_journal_carries_over_to_the_next_process(tmp_path: Path) -> None:
    """Row 23: what could not be sent before the end is sent after the next start, and then forgotten."""
    ledger = Gate()
    writer = LedgerWriter(ledger, Journal(tmp_path, 2**20), **QUICK)
    await writer.start()
    for number in range(700):
        writer.request_finished(settled(number))
    await writer.aclose()
    assert (ledger.shut, writer.lost, await ids(ledger)) == (True, 0, [])

    ledger.shut = False
    writer = LedgerWriter(ledger, Journal(tmp_path, 2**20), **QUICK)
    await writer.start()
    writer.request_finished(settled(700))
    await until(lambda: ledger._counted == 701)
    await writer.aclose()
    assert await ids(ledger) == [f"r{number}" for number in range(701)]
    assert not segments(tmp_path)


async def test_a_journal_is_the_memory_of_a_sidecar_without_redis(tmp_path: Path) -> None:
    """Sums survive a restart, each time again; other sidecars' local sums stand beside a shared ledger."""
    for start in range(3):
        ledger, local = MemoryLedger(), MemoryLedger()
        writer = LedgerWriter(ledger, Journal(tmp_path, 2**20), volatile=True, local=local, **QUICK)
        await writer.start()
        writer.request_finished(settled(start))
        await until(lambda ledger=ledger, start=start: ledger._counted == start + 1)  # type: ignore[misc]
        await writer.aclose()
        assert await ids(ledger) == [f"r{number}" for number in range(start + 1)]
        assert await ids(local) == [f"r{start}"]


async def test_a_large_backlog_waits_on_disk(tmp_path: Path) -> None:
    """With a journal, memory is bounded and nothing is lost: what has no room is read back in order."""
    ledger = Gate()
    writer = LedgerWriter(ledger, Journal(tmp_path, 2**24), max_waiting_bytes=100_000, **QUICK)
    await writer.start()
    for start in range(0, 10_000, 500):
        for number in range(start, start + 500):
            writer.request_finished(settled(number))
        await until(lambda: not writer._finished)
    await until(
        lambda: sum(batch.size for batch in writer._backlog._waiting if batch.frames is not None) < 300_000
    )
    ledger.shut = False
    await until(lambda: not writer.waiting)
    await writer.aclose()

    assert writer.lost == 0
    assert await ids(ledger) == [f"r{number}" for number in range(10_000)]


async def test_a_journal_that_is_full_loses_its_oldest(tmp_path: Path) -> None:
    """What is dropped is counted as lost; requests, and the newest records, are not touched."""
    ledger = Gate()
    writer = LedgerWriter(ledger, Journal(tmp_path, 200_000), max_waiting_bytes=1_000, **QUICK)
    await writer.start()
    for start in range(0, 10_000, 500):
        for number in range(start, start + 500):
            writer.request_finished(settled(number))
        await until(lambda: not writer._finished)
    await until(lambda: writer.lost > 0)
    ledger.shut = False
    await until(lambda: not writer.waiting)
    await writer.aclose()

    found = await ids(ledger)
    assert len(set(found)) == len(found) == 10_000 - writer.lost
    assert found[-500:] == [f"r{number}" for number in range(9_500, 10_000)]


async def test_a_folder_that_cannot_be_used_costs_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on in memory, and with the journal once the folder can be had: what waits there is sent too."""
    earlier = Journal(tmp_path, 2**20)
    left_by = LedgerWriter(Gate(), earlier, **QUICK)
    await left_by.start()
    left_by.request_finished(settled(1))
    await left_by.aclose()
    other = Journal(tmp_path, 2**20)
    other.open()

    ledger = Gate()
    ledger.shut = False
    writer = LedgerWriter(ledger, Journal(tmp_path, 2**20), **QUICK)
    await writer.start()
    writer.request_finished(settled(2))
    await until(lambda: ledger._counted == 1)
    other.close(empty=False)
    await until(lambda: ledger._counted == 2)
    assert capsys.readouterr().out.count("another sidecar uses it") == 1
    writer.request_finished(settled(3))
    await until(lambda: ledger._counted == 3)
    await writer.aclose()

    assert await ids(ledger) == ["r2", "r1", "r3"]
    assert not segments(tmp_path)


@asynccontextmanager
async def load(writer: LedgerWriter, numbers: list[int]) -> AsyncIterator[None]:
    """Requests that end all the time, for as long as the block lasts."""

    async def go_on() -> None:
        while True:
            for _ in range(5):
                numbers.append(len(numbers))
                writer.request_finished(settled(numbers[-1]))
            await asyncio.sleep(0.002)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_redis_is_killed_and_comes_back_under_load() -> None:
    """Row 23: every request that ended before, during and after the outage is in the ledger, once."""
    numbers: list[int] = []
    async with redis_server("--appendonly", "yes") as server, linked(server.url, "t") as link:
        ledger = RedisLedger(link)
        writer = LedgerWriter(ledger, **QUICK)
        await writer.start()
        async with load(writer, numbers):
            await until(lambda: len(numbers) > 200)
            await server.kill()
            await until(lambda: not link.available)
            target = len(numbers) + 300
            await until(lambda: len(numbers) > target)
            await server.start()
            await until(lambda: link.available)
            await until(lambda: writer.waiting < 100)
        await writer.aclose()

        assert writer.lost == 0
        assert sorted(await ids(ledger)) == sorted(f"r{number}" for number in numbers)
        assert await requests(ledger) == len(numbers)


async def test_a_paused_redis_counts_once() -> None:
    """Row 23: batches whose answers were late are sent again, and ignored by their numbers."""
    numbers: list[int] = []
    async with redis_server() as server, linked(server.url, "t") as link:
        ledger = RedisLedger(link)
        writer = LedgerWriter(ledger, **QUICK)
        await writer.start()
        async with load(writer, numbers):
            await until(lambda: len(numbers) > 100)
            server.pause()
            await until(lambda: not link.available)
            server.resume()
            await until(lambda: link.available and writer.waiting < 100)
        await writer.aclose()

        assert writer.lost == 0
        assert sorted(await ids(ledger)) == sorted(f"r{number}" for number in numbers)


async def test_a_replica_that_lagged_takes_over() -> None:
    """Row 23: batches that only the dead master had confirmed are sent to its successor again."""
    numbers: list[int] = []
    async with redis_sentinels() as sentinels, linked(sentinels.url, "t") as link:
        ledger = RedisLedger(link)
        writer = LedgerWriter(ledger, **QUICK)
        await writer.start()
        async with load(writer, numbers):
            await until(lambda: len(numbers) > 100)
            master = await sentinels.master()
            replicas = [server for server in sentinels.servers if server is not master]
            for replica in replicas:
                replica.pause()
            reached = len(numbers) + 200  # of these the replicas never hear
            await until(lambda: len(numbers) > reached and len(numbers) - writer.waiting > reached - 50)
            await master.kill()
            for replica in replicas:
                replica.resume()
            await until(lambda: not link.available)
            await until(lambda: link.available)
            await until(lambda: writer.waiting < 100)
        await writer.aclose()

        assert writer.lost == 0
        assert sorted(await ids(ledger)) == sorted(f"r{number}" for number in numbers)
        assert await requests(ledger) == len(numbers)
