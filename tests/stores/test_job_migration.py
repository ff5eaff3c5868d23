"""The queue of a sidecar whose Redis comes and goes: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from outrider import v1
from outrider.core.jobs import Page, QueueFullError
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.fleet_jobs import FleetJobs
from outrider.stores.job_journal import JobJournal
from outrider.stores.job_pages import merge
from outrider.stores.memory_jobs import MemoryJobs
from outrider.stores.redis_jobs import RedisJobs
from outrider.stores.redis_link import RedisLink
from tests.stores.job_rig import (
    HIGH,
    LEASE,
    answer,
    claimed,
    crash,
    drained,
    events,
    name,
    number,
    quick_disk,
    state,
    submission,
    text_of,
    until,
)
from tests.support.faulty_link import faulty_link
from tests.support.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.faulty_link import FaultyLink
    from tests.support.redis_server import Server

QUEUED, PROCESSING, COMPLETED = v1.JOB_STATE_QUEUED, v1.JOB_STATE_PROCESSING, v1.JOB_STATE_COMPLETED
FAILED, CANCELLED = v1.JOB_STATE_FAILED, v1.JOB_STATE_CANCELLED


class Sidecar:
    """One of a fleet."""

    def __init__(
        self,
        link: RedisLink,
        folder: Path | None,
        lease: float,
        *,
        local_lease: float = 30.0,
        **settings: Any,
    ) -> None:
        self.link = link
        self.shared = RedisJobs(link, lease=lease)
        journal = JobJournal(folder) if folder is not None else None
        self.local = MemoryJobs(journal, lease=local_lease, **settings)
        self.jobs = FleetJobs(self.link, self.shared, self.local)

    async def start(self) -> None:
        await self.link.start(10)
        await self.jobs.start()

    async def stop(self) -> None:
        await self.jobs.aclose()
        await self.link.aclose()

    async def crash(self) -> None:
        """It is killed."""
        if self.jobs._returning is not None:
            self.jobs._returning.cancel()
            await asyncio.gather(self.jobs._returning, return_exceptions=True)
        await crash(self.local)
        await self.link.aclose()

    async def becomes(self, *, available: bool) -> None:
        async def is_so() -> bool:
            return self.link.available is available

        await until(is_so)

    async def empty(self) -> None:
        """Wait until nothing is left here that Redis should have."""

        async def is_empty() -> bool:
            return not self.local.idle(1) and not self.jobs._outbox

        await until(is_empty)


class Fleet:
    """A Redis, a network in front of it that fails, and sidecars."""

    def __init__(self, server: Server, network: FaultyLink, prefix: str, stack: AsyncExitStack) -> None:
        self.server = server
        self.network = network
        self._prefix = prefix
        self._stack = stack

    async def sidecar(
        self,
        folder: Path | None = None,
        patience: float = 0.5,
        *,
        lease: float = 30.0,
        stops: bool = True,
        **settings: Any,
    ) -> Sidecar:
        link = RedisLink(f"redis://127.0.0.1:{self.network.port}", prefix=self._prefix, timeout=patience)
        sidecar = Sidecar(link, folder, lease, **settings)
        await sidecar.start()
        if stops:
            self._stack.push_async_callback(sidecar.stop)
        return sidecar

    @asynccontextmanager
    async def redis(self, lease: float = 30.0) -> AsyncIterator[RedisJobs]:
        """By a way that never fails."""
        link = RedisLink(self.server.url, prefix=self._prefix, timeout=5)
        await link.start(10)
        try:
            yield RedisJobs(link, lease=lease)
        finally:
            await link.aclose()

    async def away(self, *sidecars: Sidecar) -> None:
        await self.network.refuse()
        for sidecar in sidecars:
            await sidecar.becomes(available=False)

    async def back(self, *sidecars: Sidecar) -> None:
        await self.network.heal()
        for sidecar in sidecars:
            await sidecar.becomes(available=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server() -> AsyncIterator[Server]:
    async with redis_server() as server:
        yield server


@pytest_asyncio.fixture
async def fleet(server: Server, prefix: str) -> AsyncIterator[Fleet]:
    async with faulty_link(server.port) as network, AsyncExitStack() as stack:
        yield Fleet(server, network, prefix, stack)


async def test_without_redis_everything_works_here(fleet: Fleet) -> None:
    """Row 33: from the start, with Redis absent; what is not here cannot be told of."""
    await fleet.network.refuse()
    sidecar = await fleet.sidecar()
    jobs = sidecar.jobs
    await jobs.submit([submission(1, batch="b"), submission(2, batch="b"), submission(3)])
    claim = await claimed(jobs)
    assert await jobs.renew(claim)
    await jobs.publish(claim, events(1, 2))
    assert await jobs.events(name(1), 1, 1) == events(2)
    assert await jobs.complete(claim, answer())
    assert await jobs.fail(await claimed(jobs), "R", "m", None)
    assert await jobs.release(await claimed(jobs), 60)
    assert text_of(await jobs.result(name(1))) == "hello"
    assert [number(job) for job in (await jobs.list(v1.ListJobsRequest(), "shop")).jobs] == [3, 2, 1]
    assert await jobs.progress("b") == {("", COMPLETED): 1, ("", FAILED): 1}
    cancelled = await jobs.cancel(name(3))
    assert cancelled is not None
    assert cancelled.state == CANCELLED
    for call in (jobs.get, jobs.result, jobs.cancel):
        with pytest.raises(StoreUnavailableError):
            await call(name(9))


async def test_a_full_queue_here(fleet: Fleet) -> None:
    """Without Redis the watermarks of the sidecar hold; with it again there is room again."""
    await fleet.network.refuse()
    sidecar = await fleet.sidecar(capacity=10)
    await sidecar.jobs.submit([submission(n) for n in range(1, 9)])
    with pytest.raises(QueueFullError, match="queue at capacity"):
        await sidecar.jobs.submit([submission(9)])
    await fleet.back(sidecar)
    await sidecar.empty()
    await sidecar.jobs.submit([submission(9)])
    assert await drained(sidecar.jobs) == list(range(1, 10))


async def test_jobs_move_to_redis_in_their_order(fleet: Fleet) -> None:
    """Once each, with all that is known of them; any sidecar then knows them and works on them."""

    def key(n: int) -> str:
        return f"k{n}" if n > 2 else ""  # one of the first two is worked on here

    await fleet.network.refuse()
    here = await fleet.sidecar()
    await here.jobs.submit([submission(n, tenant="ab"[n % 2], key=key(n), retries=1) for n in range(1, 131)])
    await here.jobs.submit([submission(200, priority=HIGH), submission(201, ttl=1e6, retries=1)])
    await here.jobs.complete(await claimed(here.jobs), answer("made here"))
    await here.jobs.fail(await claimed(here.jobs), "LATER", "not now", 1e5)
    await here.jobs.cancel(name(7))
    before = {n: await here.jobs.get(name(n)) for n in (200, 7, 201, 1)}

    await fleet.back(here)
    await here.empty()
    there = await fleet.sidecar()

    for n, job in before.items():
        moved = await there.jobs.get(name(n))
        assert moved is not None
        assert job is not None
        assert abs(moved.ended_at.ToMilliseconds() - job.ended_at.ToMilliseconds()) < 1_000
        for field in ("submitted_at", "started_at", "ended_at", "expires_at", "position"):
            moved.ClearField(field)
            job.ClearField(field)
        assert moved == job
    assert text_of(await there.jobs.result(name(200))) == "made here"
    assert (await there.jobs.submit([submission(300, tenant="a", key="k8")]))[0][1]
    order = await drained(there.jobs)
    waiting = [n for n in range(1, 131) if n not in {1, 2, 7}] + [201]
    assert sorted(n or 0 for n in order) in (sorted([*waiting, 1]), sorted([*waiting, 2]))
    for parity in (0, 1):
        of_tenant = [n for n in order if n is not None and n % 2 == parity and n < 200]
        assert of_tenant == sorted(of_tenant)


async def test_a_job_that_is_worked_on_moves_when_that_ends(fleet: Fleet) -> None:
    """It goes on here undisturbed, and nobody else has it until it has moved."""
    await fleet.network.refuse()
    here = await fleet.sidecar()
    await here.jobs.submit([submission(1), submission(2)])
    one, two = await claimed(here.jobs), await claimed(here.jobs)
    await fleet.back(here)
    there = await fleet.sidecar()

    assert await here.jobs.renew(one)
    await here.jobs.submit([submission(4)])
    assert await state(here.jobs, 1) == PROCESSING
    assert await there.jobs.get(name(1)) is None
    assert await here.jobs.complete(one, answer("late"))
    assert await here.jobs.fail(two, "R", "m", 0.0)
    await here.empty()
    assert text_of(await there.jobs.result(name(1))) == "late"
    assert await drained(there.jobs) == [2, 4]


async def test_a_job_that_is_left_here_moves_too(fleet: Fleet) -> None:
    """Its worker was given it without Redis and never came back: its lease ends, and others do it."""
    await fleet.network.refuse()
    here = await fleet.sidecar(local_lease=0.2)
    await here.jobs.submit([submission(1)])
    await claimed(here.jobs)
    await fleet.back(here)
    claim = await until(lambda: here.jobs.claim("other"))
    assert (number(claim), claim.tries) == (1, 2)
    assert await here.jobs.complete(claim, answer())
    assert text_of(await here.shared.result(name(1))) == "hello"


async def test_the_end_of_a_job_is_remembered(fleet: Fleet) -> None:
    """A job of Redis that ends while Redis is away: its answer counts, and is told, when Redis is back."""
    sidecar = await fleet.sidecar()
    told: list[str] = []
    sidecar.jobs.on_ended(lambda job, _: told.append(job.job_id))
    await sidecar.jobs.submit([submission(n) for n in (1, 2, 3, 4)])
    claims = [await claimed(sidecar.jobs) for _ in range(4)]
    await fleet.away(sidecar)
    assert await sidecar.jobs.renew(claims[0])
    await sidecar.jobs.publish(claims[0], events(1))
    assert not await sidecar.jobs.complete(claims[0], answer("made alone"))
    assert not await sidecar.jobs.fail(claims[1], "BAD", "never", None)
    assert not await sidecar.jobs.release(claims[2], 60)
    assert await sidecar.jobs.claim("w") is None
    with pytest.raises(StoreUnavailableError):
        await sidecar.jobs.get(name(1))

    await fleet.back(sidecar)
    await sidecar.empty()
    assert text_of(await sidecar.jobs.result(name(1))) == "made alone"
    assert [await state(sidecar.jobs, n) for n in (1, 2, 3, 4)] == [COMPLETED, FAILED, QUEUED, PROCESSING]
    assert told == [claim.job.job_id for claim in claims[:3]]


async def test_an_end_that_comes_too_late(fleet: Fleet) -> None:
    """A sidecar that was cut off alone: another has done its job meanwhile; its own answer is not told."""
    cut_off = await fleet.sidecar()
    await cut_off.jobs.submit([submission(1)])
    claim = await claimed(cut_off.jobs)
    told: list[str] = []
    cut_off.jobs.on_ended(lambda job, _: told.append(job.job_id))
    await fleet.away(cut_off)
    assert not await cut_off.jobs.complete(claim, answer("too late"))
    async with fleet.redis(LEASE) as other:
        second = await until(lambda: other.claim("other"), LEASE / 3)
        assert await other.complete(second, answer("in time"))

    await fleet.back(cut_off)
    await cut_off.empty()
    assert text_of(await cut_off.jobs.result(name(1))) == "in time"
    assert told == []


async def test_what_redis_may_have_got_waits_for_it(fleet: Fleet, tmp_path: Path) -> None:
    """An answer that was lost: accepted, not worked on here, also not after a crash; then done once."""
    sidecar = await fleet.sidecar(tmp_path, 5.0, stops=False)
    await sidecar.jobs.submit([submission(1)])
    fleet.network.delay = 0.5
    submitting = asyncio.create_task(sidecar.jobs.submit([submission(2, key="k")]))
    async with fleet.redis() as redis:
        await until(lambda: redis.get(name(2)))
    await fleet.away(sidecar)
    ((job, existing),) = await submitting
    assert (job.job_id, job.state, existing) == (name(2), QUEUED, False)
    assert await sidecar.jobs.claim("w") is None
    assert (await sidecar.jobs.submit([submission(3, key="k")]))[0][1]
    await sidecar.crash()

    again = await fleet.sidecar(tmp_path, 0.5)
    assert not again.link.available
    assert await again.jobs.claim("w") is None
    assert await state(again.jobs, 2) == QUEUED
    await fleet.back(again)
    await again.empty()
    assert await drained(again.jobs) == [1, 2]


async def test_a_crash_on_the_way_to_redis(fleet: Fleet, tmp_path: Path) -> None:
    """Redis has got the jobs, the sidecar did not hear of it and died: each is done once all the same."""
    await fleet.network.refuse()
    dying = await fleet.sidecar(tmp_path, 0.05, stops=False)
    await dying.jobs.submit([submission(n) for n in range(1, 6)])
    async with dying.jobs._move:
        await fleet.back(dying)
        fleet.network.delay = 0.7
    async with fleet.redis() as redis:
        await until(lambda: redis.get(name(5)))
    await fleet.away(dying)
    await dying.crash()

    again = await fleet.sidecar(tmp_path)
    assert await again.jobs.claim("w") is None
    assert [await state(again.jobs, n) for n in range(1, 6)] == [QUEUED] * 5
    await fleet.back(again)
    await again.empty()
    assert await drained(again.jobs) == [1, 2, 3, 4, 5]
    assert [number(job) for job in (await again.jobs.list(v1.ListJobsRequest(), "")).jobs] == [5, 4, 3, 2, 1]


async def test_jobs_survive_the_sidecar_and_redis(fleet: Fleet, tmp_path: Path) -> None:
    """Accepted without Redis, killed, started with Redis: they are handed over by the next process."""
    await fleet.network.refuse()
    dying = await fleet.sidecar(tmp_path, stops=False)
    await dying.jobs.submit([submission(1), submission(2), submission(3)])
    await dying.jobs.complete(await claimed(dying.jobs), answer("kept"))
    await claimed(dying.jobs)
    await dying.crash()
    await fleet.network.heal()
    again = await fleet.sidecar(tmp_path)
    await again.empty()
    other = await fleet.sidecar()
    assert text_of(await other.jobs.result(name(1))) == "kept"
    two, three = await claimed(other.jobs), await claimed(other.jobs)
    assert [(number(claim), claim.tries) for claim in (two, three)] == [(2, 2), (3, 1)]


async def test_the_same_key_on_both_sides(fleet: Fleet) -> None:
    """A key never runs twice: what is accepted while Redis is away waits, and is the job that Redis knew."""
    there = await fleet.sidecar()
    await there.jobs.submit([submission(1, key="k"), submission(2, key="cancelled")])
    await fleet.away(there)
    twins = [submission(3, key="k"), submission(4, key="cancelled"), submission(5, key="new")]
    await there.jobs.submit(twins)
    assert (await there.jobs.submit([submission(6, key="new")]))[0][1]
    assert await there.jobs.claim("w") is None
    await there.jobs.cancel(name(4))
    await fleet.back(there)
    await there.empty()

    twin = await there.jobs.get(name(3))
    assert twin is not None
    assert twin.job_id == name(1)
    assert await drained(there.jobs) == [1, 2, 5]
    assert await state(there.jobs, 4) == CANCELLED
    assert [number(job) for job in (await there.jobs.list(v1.ListJobsRequest(), "")).jobs] == [5, 4, 2, 1]


async def test_what_was_cancelled_here_is_cancelled(fleet: Fleet) -> None:
    """A job that Redis may have got, and has: cancelled while Redis is away, it is not done later."""
    sidecar = await fleet.sidecar(patience=0.05)
    await sidecar.jobs.submit([submission(1)])
    fleet.network.delay = 0.3
    await sidecar.jobs.submit([submission(2)])
    await fleet.away(sidecar)
    cancelled = await sidecar.jobs.cancel(name(2))
    assert cancelled is not None
    assert cancelled.state == CANCELLED
    await fleet.back(sidecar)
    await sidecar.empty()
    assert await state(sidecar.jobs, 2) == CANCELLED
    assert await drained(sidecar.jobs) == [1]


async def test_lists_and_progress_of_both(fleet: Fleet) -> None:
    """While some are here and some in Redis each is told of once, page by page."""
    sidecar = await fleet.sidecar()
    await sidecar.jobs.submit([submission(n, batch="b") for n in range(1, 40, 2)])
    await fleet.away(sidecar)
    await sidecar.jobs.submit([submission(n, batch="b") for n in range(2, 41, 2)])
    busy = [await claimed(sidecar.jobs) for _ in range(20)]
    await fleet.back(sidecar)

    assert await sidecar.jobs.progress("b") == {("", QUEUED): 20, ("", PROCESSING): 20}
    for size in (1, 7, 40, 100):
        query = v1.ListJobsRequest(page_size=size, batch_id="b")
        found: list[int | None] = []
        while True:
            page = await sidecar.jobs.list(query, "shop")
            found += [number(job) for job in page.jobs]
            if not page.next:
                break
            query.page_token = page.next
        assert found == list(range(40, 0, -1))
    for claim in busy:
        await sidecar.jobs.complete(claim, answer())
    await sidecar.empty()
    assert await sidecar.jobs.progress("b") == {("", QUEUED): 20, ("", COMPLETED): 20}


async def test_what_cannot_be_told_of_is_not_told_of_as_nothing(fleet: Fleet) -> None:
    """While Redis is away, nothing here, or a part of a batch, is no answer to how it stands."""
    sidecar = await fleet.sidecar()
    jobs = sidecar.jobs
    await jobs.submit([submission(1, batch="there")])
    await fleet.away(sidecar)
    for call in (jobs.progress("there"), jobs.list(v1.ListJobsRequest(), "shop")):
        with pytest.raises(StoreUnavailableError):
            await call
    await jobs.submit([submission(n, batch="parted") for n in (2, 3)])
    assert await jobs.progress("parted") == {("", QUEUED): 2}
    assert [number(job) for job in (await jobs.list(v1.ListJobsRequest(), "shop")).jobs] == [3, 2]
    busy = await claimed(jobs)
    await fleet.back(sidecar)
    await sidecar.empty()
    await fleet.away(sidecar)
    assert await jobs.complete(busy, answer())
    for batch in ("there", "parted"):
        with pytest.raises(StoreUnavailableError):
            await jobs.progress(batch)
    await fleet.back(sidecar)
    await sidecar.empty()
    assert await jobs.progress("parted") == {("", QUEUED): 1, ("", COMPLETED): 1}
    await fleet.away(sidecar)
    with pytest.raises(StoreUnavailableError):
        await jobs.progress("parted")


async def test_groups_move_along(fleet: Fleet) -> None:
    """Jobs of a batch that move to Redis are counted, left out and told of there as they were here."""
    sidecar = await fleet.sidecar()
    await fleet.away(sidecar)
    failure = v1.GenerationFailure(request_id="r")
    await sidecar.jobs.submit([submission(n, batch="b", group="ab"[n % 2]) for n in range(1, 9)])
    await sidecar.jobs.fail(await claimed(sidecar.jobs), "R", "m", None, failure)
    await fleet.back(sidecar)
    await sidecar.empty()
    async with fleet.redis() as redis:
        assert await redis.progress("b") == {("a", QUEUED): 4, ("b", QUEUED): 3, ("b", FAILED): 1}
        failed = await redis.get(name(1))
        assert failed is not None
        assert failed.failure == failure
        found = [await redis.claim("w", ["b"]) for _ in range(5)]
        assert [number(each) for each in found] == [2, 4, 6, 8, None]


async def test_an_expired_job_is_told_of_once_by_whoever_had_it(fleet: Fleet) -> None:
    """What was accepted here is told of here; what Redis may have too, by Redis when that is back."""
    sidecar = await fleet.sidecar()
    told: list[int | None] = []
    sidecar.jobs.on_ended(lambda job, _: told.append(number(job)))
    await fleet.away(sidecar)
    await sidecar.jobs.submit([submission(1, ttl=0.3), submission(2, key="k", ttl=0.3), submission(3)])

    async def expired() -> bool:
        await sidecar.local.sweep()
        return [await state(sidecar.local, n) for n in (1, 2)] == [v1.JOB_STATE_EXPIRED] * 2

    await until(expired)
    assert told == [1]
    await fleet.back(sidecar)
    await sidecar.empty()
    assert number(await sidecar.jobs.claim("w")) == 3
    assert await sidecar.jobs.claim("w") is None
    assert told == [1, 2]


def test_pages_of_two_stores() -> None:
    """What is older than the end of a short page waits for the next: there may be others before it."""

    def page(*numbers: int, following: int = 0) -> Page:
        return Page([v1.Job(job_id=name(n)) for n in numbers], name(following) if following else "")

    def merged(*pages: Page, size: int = 3) -> tuple[list[int | None], str]:
        found = merge(pages, size)
        return [number(job) for job in found.jobs], found.next

    assert merged(page(9, 7, 5, following=5), page(8, 2)) == ([9, 8, 7], name(7))
    assert merged(page(9, following=6), page(8, 2)) == ([9, 8], name(6))
    assert merged(page(following=6), page(5, 2)) == ([], name(6))
    assert merged(page(9, 8), page(8, 2)) == ([9, 8, 2], "")
    assert merged(page()) == ([], "")


async def test_redis_forgets(prefix: str) -> None:
    """Row 23: it is killed and comes back empty; what it had accepted last is accepted once more."""
    async with (
        redis_server() as server,
        faulty_link(server.port) as network,
        AsyncExitStack() as stack,
    ):
        sidecar = await Fleet(server, network, prefix, stack).sidecar()
        await sidecar.jobs.submit([submission(n, key=f"k{n}") for n in range(1, 21)])
        await sidecar.jobs.submit([submission(30, key="k3"), submission(31, ttl=0.01)])
        await server.kill()
        await sidecar.becomes(available=False)
        await sidecar.jobs.submit([submission(40)])
        await server.start()
        await sidecar.becomes(available=True)
        assert await until(lambda: sidecar.shared.get(name(40)))
        assert await drained(sidecar.jobs) == [*range(1, 21), 40]
        assert (await sidecar.jobs.submit([submission(50, key="k7")]))[0][1]


@asynccontextmanager
async def working(sidecar: Sidecar, done: Callable[[int], None]) -> AsyncIterator[None]:
    """A worker that goes on whatever comes."""

    async def work() -> None:
        while True:
            try:
                claim = await sidecar.jobs.claim("w")
                if claim is None:
                    await asyncio.sleep(0.01)
                    continue
                done(number(claim) or 0)
                await asyncio.sleep(0.002)
                await sidecar.jobs.complete(claim, answer(claim.token))
            except StoreUnavailableError:
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(work()) for _ in range(3)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended


async def test_redis_comes_and_goes_under_load(prefix: str) -> None:
    """Row 23: killed, blackholed, cut off, with two sidecars at work: every job ends once with an answer."""
    with quick_disk() as folder:
        begun = await _all_that_was_begun(prefix, folder)
    assert sorted(begun) == list(range(1, 601))


async def _all_that_was_begun(prefix: str, folder: Path) -> list[int]:
    begun: list[int] = []
    async with (
        redis_server("--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder)) as server,
        faulty_link(server.port) as network,
        AsyncExitStack() as stack,
    ):
        fleet = Fleet(server, network, prefix, stack)
        both = [await fleet.sidecar(folder / which, 0.2, lease=8.0) for which in "ab"]
        async with working(both[0], begun.append), working(both[1], begun.append):
            for n in range(1, 601):
                ((job, existing),) = await both[n % 2].jobs.submit(
                    [submission(n, batch="b", tenant=f"t{n % 3}")]
                )
                assert (job.job_id, existing) == (name(n), False)
                await asyncio.sleep(0.001)
                if n == 100:
                    await fleet.away(*both)
                elif n in {200, 500}:
                    await fleet.back(*both)
                elif n == 300:
                    await server.kill()
                    await server.start()
                elif n == 400:
                    network.blackhole()
            await fleet.back(*both)
            for sidecar in both:
                await sidecar.empty()

            async def all_done() -> bool:
                for sidecar in both:
                    await sidecar.empty()
                return await both[0].shared.progress("b") == {("", COMPLETED): 600}

            await until(all_done)
    return begun
