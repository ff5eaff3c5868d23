"""What only the queue of one sidecar does."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
import structlog

from outrider import v1
from outrider.stores.job_journal import JobJournal
from outrider.stores.memory_jobs import MemoryJobs
from tests.stores.job_rig import (
    Clocks,
    answer,
    claimed,
    crash,
    drained,
    events,
    name,
    number,
    state,
    submission,
)
from tests.support.paused_clock import now, paused

if TYPE_CHECKING:
    from pathlib import Path

PROCESSING, COMPLETED = v1.JOB_STATE_PROCESSING, v1.JOB_STATE_COMPLETED


@paused
async def test_a_day_in_the_life_of_a_queue() -> None:
    """Four hours to end, four hours kept; leases of half a minute; on the clock of the loop."""
    store = MemoryJobs(clock=now, wall_clock=now)
    given = submission(1)
    given.job.ClearField("expires_at")
    await store.submit([given])
    await store.submit([submission(2, ttl=10 * 3600)])

    first = await claimed(store)
    await asyncio.sleep(29.9)
    assert await store.renew(first)
    await asyncio.sleep(29.9)
    assert [number(await store.claim("w")), await store.claim("w")] == [2, None]
    await asyncio.sleep(0.2)
    assert (await claimed(store)).tries == 2
    await asyncio.sleep(4 * 3600 - 61)
    assert await state(store, 1) == v1.JOB_STATE_PROCESSING
    await asyncio.sleep(1.1)
    assert await state(store, 1) == v1.JOB_STATE_EXPIRED
    await asyncio.sleep(4 * 3600 - 1)
    assert await state(store, 1) == v1.JOB_STATE_EXPIRED
    await asyncio.sleep(1)
    assert await state(store, 1) is None
    assert await state(store, 2) == v1.JOB_STATE_PROCESSING


@paused
async def test_events_are_forgotten() -> None:
    """Ten minutes after the last of a try, and earlier where those of all jobs are too many."""
    store = MemoryJobs(clock=now, wall_clock=now)
    await store.submit([submission(n, ttl=1e5) for n in range(1, 13)])
    claims = [await claimed(store) for _ in range(12)]
    await store.publish(claims[0], events(1))
    await asyncio.sleep(25)
    for claim in claims:
        await store.renew(claim)
    await store.publish(claims[1], events(1))
    await asyncio.sleep(576)
    assert await store.events(name(1), 1, 0) == []
    assert len(await store.events(name(2), 1, 0)) == 1
    for claim in claims[2:]:
        await store.renew(claim)
        for sequence in (1, 2, 3, 4):
            await store.publish(claim, events(sequence, text="x" * (2**20 - 100)))
    kept = [len(await store.events(name(n), 1, 0)) for n in range(1, 13)]
    assert kept == [0] * 4 + [4] * 8


async def test_ended_jobs_make_room_for_each_other() -> None:
    """Beyond the bytes of jobs the oldest are forgotten, but not those that have not ended; it is told."""
    clocks = Clocks()
    store = MemoryJobs(max_bytes=20_000, clock=clocks.monotonic, wall_clock=clocks.wall)
    await store.submit([submission(1)])
    await claimed(store)
    with structlog.testing.capture_logs() as logs:
        for n in range(2, 1_000):
            await store.submit([submission(n, batch="b")])
            await store.complete(await claimed(store), answer())
            clocks.seconds += 0.01
    assert store.level < 0.1
    assert [await state(store, n) for n in (1, 2, 900, 999)] == [PROCESSING, None, None, COMPLETED]
    assert 20 < len((await store.list(v1.ListJobsRequest(), "")).jobs) < 40
    assert 20 < sum((await store.progress("b")).values()) < 40
    assert len([log for log in logs if log["event"] == "jobs forgotten early"]) == 1
    clocks.seconds += 61
    await store.sweep()
    assert [number(job) for job in (await store.list(v1.ListJobsRequest(), "")).jobs] == [1]


async def test_answers_that_a_journal_has_make_room(tmp_path: Path) -> None:
    """After a crash too: those that ended first go first, whenever they were accepted."""
    noise = random.Random(1)
    store = MemoryJobs(JobJournal(tmp_path))
    await store.start()
    await store.submit([submission(n) for n in range(1, 6)])
    claims = [await claimed(store) for _ in range(5)]
    for claim in reversed(claims):
        await store.complete(claim, answer(noise.randbytes(10_000).hex()))
    await crash(store)
    for _ in range(2):
        again = MemoryJobs(JobJournal(tmp_path), max_result_bytes=40_000)
        await again.start()
        kept = [n for n in range(1, 6) if await again.result(name(n)) is not None]
        assert kept == [1, 2, 3]
        assert await state(again, 5) == COMPLETED
        await crash(again)


async def test_what_was_accepted_and_ends_with_the_sidecar_is_told() -> None:
    """Where nothing keeps it: how many jobs are lost."""
    store = MemoryJobs()
    await store.submit([submission(n) for n in range(1, 4)])
    await store.complete(await claimed(store), answer())
    await claimed(store)
    with structlog.testing.capture_logs() as logs:
        await store.aclose()
    assert [(log["log_level"], log["jobs"]) for log in logs] == [("warning", 2)]


async def test_who_asked_for_a_job_and_left(tmp_path: Path) -> None:
    """While its claim was being written: the next gets it at once, and no worker was lost."""
    store = MemoryJobs(JobJournal(tmp_path), max_losses=1)
    await store.start()
    await store.submit([submission(1, retries=0)])
    for _ in range(3):
        claiming = asyncio.create_task(store.claim("w"))
        await asyncio.sleep(0)
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
        assert claiming.cancelled()
    assert (await claimed(store)).tries == 4
    await crash(store)


async def test_much_at_once(tmp_path: Path) -> None:
    """Hundreds of callers and workers share the writes to the disk, and each gets its own."""
    store = MemoryJobs(JobJournal(tmp_path), capacity=10_000)
    await store.start()
    await asyncio.gather(*(store.submit([submission(n)]) for n in range(1, 401)))
    claims = await asyncio.gather(*(claimed(store) for _ in range(400)))
    assert sorted(number(claim) or 0 for claim in claims) == list(range(1, 401))
    assert all(await asyncio.gather(*(store.complete(claim, answer()) for claim in claims)))
    await store.aclose()
    again = MemoryJobs(JobJournal(tmp_path), capacity=10_000)
    await again.start()
    assert await drained(again) == []
    assert await state(again, 400) == v1.JOB_STATE_COMPLETED
    await again.aclose()


async def test_without_a_journal() -> None:
    """Starting and closing are for nothing, and harmless."""
    store = MemoryJobs()
    await store.start()
    await store.submit([submission(1)])
    await store.aclose()
    assert await drained(store) == [1]
    with pytest.raises(ValueError, match="page token"):
        await store.list(v1.ListJobsRequest(page_token="!"), "")
