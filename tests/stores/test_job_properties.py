"""Whatever happens to jobs, in whatever order: each ends once, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
import uuid
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider import v1
from outrider.core.jobs import QueueFullError
from outrider.stores.job_journal import JobJournal
from outrider.stores.job_watermarks import Watermarks
from outrider.stores.memory_jobs import MemoryJobs
from outrider.stores.redis_jobs import RedisJobs
from tests.stores.job_rig import Clocks, Rig, answer, crash, name, redis_rig, submission

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from outrider.core.jobs import Claim, JobStore

Step: TypeAlias = tuple[str, Any]

CAPACITY = 10
PROCESSING = v1.JOB_STATE_PROCESSING

SUBMIT = st.tuples(
    st.just("submit"),
    st.tuples(
        st.integers(1, 3),  # jobs
        st.sampled_from("ab"),
        st.sampled_from([v1.JOB_PRIORITY_LOW, v1.JOB_PRIORITY_HIGH]),
        st.sampled_from(["", "", "k1", "k2"]),
        st.sampled_from([1.0, 6.0]),  # leases that it may take
    ),
)
CLAIM = st.tuples(st.just("claim"), st.none())
PICK = st.integers(0, 5)
SETTLE = st.tuples(st.sampled_from(["renew", "complete", "release"]), PICK)
FAIL = st.tuples(st.just("fail"), st.tuples(PICK, st.sampled_from([None, 0.0, 0.5])))
CANCEL = st.tuples(st.just("cancel"), PICK)
PASS = st.tuples(st.just("pass"), st.sampled_from([0.2, 0.6, 1.1, 3.0]))
CRASH = st.tuples(st.just("crash"), st.binary(max_size=30))
STEPS = st.lists(st.one_of(SUBMIT, CLAIM, CLAIM, SETTLE, FAIL, CANCEL, PASS, CRASH), min_size=5, max_size=60)


class World:
    """A queue, those who use it, and what they were told."""

    def __init__(self, lease: float, *, exact: bool) -> None:
        self.lease = lease
        self.exact = exact  # no time passes but when it is told to
        self.store: JobStore
        self.number = 0
        self.accepted: dict[str, v1.Job] = {}  # as it was seen last
        self.claims: list[Claim] = []
        self.completed: Counter[str] = Counter()

    async def play(self, what: str, how: Any) -> None:
        if what == "submit":
            await self.submit(*how)
        elif what == "claim":
            if (claim := await self.store.claim("w")) is not None:
                self.claims.append(claim)
        elif what == "fail" and self.claims:
            pick, retry_in = how
            delay = None if retry_in is None else retry_in * self.lease
            await self.store.fail(self.claims[pick % len(self.claims)], "R", "m", delay)
        elif what == "cancel" and self.accepted:
            await self.store.cancel(list(self.accepted)[how % len(self.accepted)])
        elif what in {"renew", "complete", "release"} and self.claims:
            await self.settle(what, self.claims[how % len(self.claims)])

    async def submit(self, jobs: int, tenant: str, priority: v1.JobPriority, key: str, leases: float) -> None:
        numbers = range(self.number + 1, self.number + jobs + 1)
        self.number += jobs
        ttl = leases * self.lease
        try:
            told = await self.store.submit(
                [
                    submission(n, tenant=tenant, priority=priority, key=key, ttl=ttl, retries=1, batch="b")
                    for n in numbers
                ]
            )
        except QueueFullError:
            assert not self.exact or await self.open_jobs() + jobs > CAPACITY * 0.6
            assert [await self.store.get(name(n)) for n in numbers] == [None] * jobs
            return
        for n, (job, existing) in zip(numbers, told, strict=True):
            assert existing == (job.job_id != name(n))
            assert not existing or (key and job.job_id in self.accepted)
            self.accepted[job.job_id] = job
        assert await self.open_jobs() <= CAPACITY

    async def settle(self, what: str, claim: Claim) -> None:
        if what == "complete":
            before = self.completed[claim.job.job_id]
            if await self.store.complete(claim, answer(claim.token)) and not before:
                self.completed[claim.job.job_id] += 1
        elif what == "release":
            await self.store.release(claim)
        else:
            await self.store.renew(claim)

    async def open_jobs(self) -> int:
        found = [await self.store.get(job_id) for job_id in self.accepted]
        return sum(job is not None and job.state <= PROCESSING for job in found)

    async def look(self) -> None:
        """What was final is as it was; only what runs has a claim that is good, and no more than one."""
        good = Counter([claim.job.job_id for claim in self.claims if await self.store.renew(claim)])
        for job_id, before in list(self.accepted.items()):
            job = await self.store.get(job_id)
            if job is None:
                del self.accepted[job_id]
                continue
            if before.state > PROCESSING:
                assert job == before
            late = not self.exact and job.state == v1.JOB_STATE_EXPIRED  # since the claim was looked at
            assert good[job_id] <= (job.state == PROCESSING or late)
            if self.exact or job.state < v1.JOB_STATE_COMPLETED:
                has_result = await self.store.result(job_id) is not None
                assert has_result == (job.state == v1.JOB_STATE_COMPLETED)
            job.position = 0
            self.accepted[job_id] = job
        counts = Counter(("", job.state) for job in self.accepted.values())
        assert not self.exact or await self.store.progress("b") == counts

    async def end(self, rig: Rig) -> None:
        """Once all time is up, everything has ended; once more, and everything is forgotten."""
        await rig.passes(6.1 * self.lease)
        await self.look()
        assert all(job.state > PROCESSING for job in self.accepted.values())
        assert await self.store.claim("w") is None
        await rig.passes(6.1 * self.lease)
        await self.look()
        assert self.accepted == {}
        assert await self.store.progress("b") == {}
        assert (await self.store.list(v1.ListJobsRequest(), "")).jobs == []


@settings(max_examples=150)
@given(STEPS)
def test_every_job_ends_once(steps: list[Step]) -> None:
    """In memory with a journal, which crashes now and then, and has junk at its end after that."""

    async def run(folder: Path) -> None:
        rig, world = Rig("journal", folder), World(10.0, exact=True)
        world.store = store = await opened(rig)
        for what, how in steps:
            if what == "pass":
                await rig.passes(how * world.lease)
            elif what == "crash":
                await crash(store)
                tear(folder, how)
                world.store = store = await opened(rig)
                assert not any([await store.renew(claim) for claim in world.claims])
            else:
                await world.play(what, how)
            await world.look()
        await world.end(rig)
        await store.aclose()

    folder = Path(tempfile.mkdtemp())
    try:
        asyncio.run(run(folder))
        assert list(folder.glob("*.jobs")) == []
    finally:
        shutil.rmtree(folder)


async def opened(rig: Rig) -> MemoryJobs:
    journal = JobJournal(rig.folder, segment_bytes=2_000)
    clock, wall_clock = rig.clocks.monotonic, rig.clocks.wall
    store = MemoryJobs(journal, capacity=CAPACITY, lease=10.0, clock=clock, wall_clock=wall_clock)
    await store.start()
    return store


def tear(folder: Path, junk: bytes) -> None:
    """Something that was begun is at the end of the newest file."""
    for file in sorted(folder.glob("*.jobs"))[-1:]:
        with file.open("ab") as end:
            end.write(junk)


def test_every_job_ends_once_in_redis(redis_url: str) -> None:
    """The same, with two sidecars on one Redis, whose clock nobody can move."""

    @settings(max_examples=12)
    @given(STEPS)
    def check(steps: list[Step]) -> None:
        async def run() -> None:
            async with (
                redis_rig(redis_url, f"t{uuid.uuid4().hex[:12]}", Path()) as rig,
                redis_rig(redis_url, rig.link.prefix if rig.link else "", Path()) as other,
            ):
                world = World(0.05, exact=False)
                both = [await each.store(capacity=CAPACITY, lease=world.lease) for each in (rig, other)]
                world.store = both[0]
                for place, (what, how) in enumerate(steps):
                    world.store = both[place % 2]
                    if what == "pass":
                        await rig.passes(how * world.lease)
                    await world.play(what, how)
                    await world.look()
                await world.end(rig)

        asyncio.run(run())

    check()


ARRIVALS = st.lists(st.sampled_from(["a", "b", "c", "d", "claim", "claim"]), max_size=60)


async def fair(store: JobStore, arrivals: list[str]) -> None:
    """Between a job's arrival and its turn each other tenant is served once more than its own at most."""
    waiting: dict[str, dict[str, Counter[str]]] = defaultdict(dict)
    served: list[str] = []
    for n, what in enumerate([*arrivals, *["claim"] * len(arrivals)], start=1):
        if what != "claim":
            await store.submit([submission(n, tenant=what)])
            waiting[what][name(n)] = Counter()
            continue
        claim = await store.claim("w")
        if claim is None:
            assert not any(waiting.values())
            continue
        tenant = claim.job.attribution.tenant
        oldest = next(iter(waiting[tenant]))
        assert claim.job.job_id == oldest
        counts = waiting[tenant].pop(oldest)
        own = counts.pop(tenant, 0)
        assert all(count <= own + 1 for count in counts.values())
        served.append(tenant)
        for jobs in waiting.values():
            for count in jobs.values():
                count[tenant] += 1
        await store.complete(claim, answer())
    assert len(served) == sum(what != "claim" for what in arrivals)


@given(ARRIVALS)
def test_tenants_have_turns(arrivals: list[str]) -> None:
    """In memory."""
    clocks = Clocks()
    asyncio.run(fair(MemoryJobs(clock=clocks.monotonic, wall_clock=clocks.wall), arrivals))


def test_tenants_have_turns_in_redis(redis_url: str) -> None:
    """In Redis."""

    @settings(max_examples=15)
    @given(ARRIVALS)
    def check(arrivals: list[str]) -> None:
        asyncio.run(run(arrivals))

    async def run(arrivals: list[str]) -> None:
        async with empty_redis(redis_url) as store:
            await fair(store, arrivals)

    check()


MANY = st.lists(
    st.tuples(st.sampled_from("tu"), st.sampled_from("abc"), st.sampled_from([1, 3])), max_size=12
)


async def left_out(rig: Rig, jobs: list[tuple[str, str, Any]], without: set[str]) -> list[str]:
    """In which order jobs are given: first those that are not left out, each once, then the others."""
    store = await rig.store()
    for n, (tenant, group, priority) in enumerate(jobs, start=1):
        await store.submit([submission(n, tenant=tenant, group=group, priority=priority)])
        await rig.passes(0.002)  # Redis's clock has milliseconds
    given: list[str] = []
    while (claim := await store.claim("w", without)) is not None:
        assert claim.group not in without
        given.append(claim.job.job_id)
    rest: list[str] = []
    while (claim := await store.claim("w")) is not None:
        assert claim.group in without
        rest.append(claim.job.job_id)
    assert sorted(given + rest) == [name(n) for n in range(1, len(jobs) + 1)]
    for tenant, priority in {(tenant, priority) for tenant, _, priority in jobs}:
        own = [name(n) for n, job in enumerate(jobs, 1) if (job[0], job[2]) == (tenant, priority)]
        assert [each for each in given if each in own] == sorted(set(given) & set(own))
        assert [each for each in rest if each in own] == sorted(set(rest) & set(own))
    return given + rest


def test_groups_are_left_out_alike(redis_url: str) -> None:
    """Each job is given once, of a tenant the oldest first; in memory in the same order as in Redis."""

    @settings(max_examples=40)
    @given(MANY, st.sets(st.sampled_from("abc")))
    def check(jobs: list[tuple[str, str, Any]], without: set[str]) -> None:
        asyncio.run(run(jobs, without))

    async def run(jobs: list[tuple[str, str, Any]], without: set[str]) -> None:
        local = Rig("memory", Path())
        async with redis_rig(redis_url, f"t{uuid.uuid4().hex[:12]}", Path()) as shared:
            assert await left_out(local, jobs, without) == await left_out(shared, jobs, without)

    check()


@asynccontextmanager
async def empty_redis(url: str) -> AsyncIterator[RedisJobs]:
    async with redis_rig(url, f"t{uuid.uuid4().hex[:12]}", Path()) as rig:
        store = await rig.store(lease=30.0)
        assert isinstance(store, RedisJobs)
        yield store


CHANGES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 120), st.booleans()), max_size=60)


@given(CHANGES)
def test_watermarks(changes: list[tuple[int, int, bool]]) -> None:
    """Never beyond the capacity; refused from the high mark on, and until the low one is reached."""
    marks = Watermarks(100, 1_000)
    inside: list[tuple[int, int]] = []
    closed = False
    for jobs, size, comes in changes:
        if comes:
            room = marks.jobs + jobs <= 100 and marks.bytes + size <= 1_000
            if closed or not room:
                with pytest.raises(QueueFullError, match="queue at capacity"):
                    marks.check(jobs, size)
                continue
            marks.check(jobs, size)
            marks.change(jobs, size)
            inside.append((jobs, size))
        elif inside:
            jobs, size = inside.pop(0)
            marks.change(-jobs, -size)
        level = max(sum(each[0] for each in inside) / 100, sum(each[1] for each in inside) / 1_000)
        assert math.isclose(marks.level, level)
        closed = level >= 0.8 or (closed and level > 0.6)
        assert marks.closed is closed
