"""What every queue must do: in memory, in memory with a journal, and in Redis."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from outrider import v1
from outrider.core.jobs import QueueFullError
from tests.stores.job_rig import (
    HIGH,
    LEASE,
    LOW,
    NORMAL,
    Rig,
    answer,
    claimed,
    drained,
    events,
    name,
    number,
    redis_rig,
    state,
    submission,
    text_of,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from outrider.core.jobs import Claim, JobStore

QUEUED, PROCESSING, COMPLETED = v1.JOB_STATE_QUEUED, v1.JOB_STATE_PROCESSING, v1.JOB_STATE_COMPLETED
PRIORITIES = [v1.JOB_PRIORITY_UNSPECIFIED, LOW, NORMAL, HIGH]
FAILED, EXPIRED, CANCELLED = v1.JOB_STATE_FAILED, v1.JOB_STATE_EXPIRED, v1.JOB_STATE_CANCELLED


@pytest_asyncio.fixture
async def shared(redis_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Makes stores in Redis."""
    async with redis_rig(redis_url, prefix, tmp_path) as rig:
        yield rig


@pytest_asyncio.fixture
async def local(tmp_path: Path) -> AsyncIterator[Rig]:
    """Makes stores in memory."""
    rig = Rig("memory", tmp_path / "jobs")
    yield rig
    for store in rig.made:
        await store.aclose()


@pytest.fixture(params=["memory", "journal", "redis"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """Makes stores of one kind."""
    rig: Rig = request.getfixturevalue("shared" if request.param == "redis" else "local")
    rig.kind = request.param
    return rig


@pytest_asyncio.fixture
async def store(rig: Rig) -> JobStore:
    """An empty one."""
    return await rig.store()


async def test_a_job_from_its_arrival_to_its_answer(store: JobStore) -> None:
    """It is told of at each step, arrives whole at its worker, and ends with what it used and cost."""
    given = submission(1, tenant="acme", batch="b", priority=HIGH, text="tell me", retries=2)
    ((job, existing),) = await store.submit([given])
    assert not existing
    assert (job.job_id, job.state, job.tries, job.model) == (name(1), QUEUED, 0, "gpt")
    assert (job.caller, job.batch_id, job.priority) == ("shop", "b", HIGH)
    assert job.attribution == given.job.attribution
    assert job.expires_at.ToMilliseconds() - job.submitted_at.ToMilliseconds() == 60_000
    assert not job.HasField("started_at")
    assert await store.get(name(1)) == job

    claim = await claimed(store)
    assert claim.request == given.request
    assert (claim.tries, claim.max_retries, claim.traceparent) == (1, 2, "trace-1")
    running = await store.get(name(1))
    assert running is not None
    assert running == claim.job
    assert (running.state, running.tries) == (PROCESSING, 1)
    assert running.HasField("started_at")
    assert not running.HasField("ended_at")
    assert await store.claim("w") is None
    assert await store.result(name(1)) is None

    assert await store.complete(claim, answer("told"))
    done = await store.get(name(1))
    assert done is not None
    assert done.state == COMPLETED
    assert done.usage == answer().completed.usage
    assert done.cost == answer().completed.cost
    assert done.expires_at.ToMilliseconds() - done.ended_at.ToMilliseconds() == 60_000
    assert await store.result(name(1)) == answer("told")
    assert await store.claim("w") is None


async def test_a_final_state_never_changes(store: JobStore) -> None:
    """Whatever comes after the end comes too late; an answer is written once."""
    await store.submit([submission(1)])
    claim = await claimed(store)
    await store.complete(claim, answer("first"))
    before = await store.get(name(1))

    await store.complete(claim, answer("second"))
    assert not await store.fail(claim, "R", "m", None)
    assert not await store.release(claim)
    assert not await store.renew(claim)
    assert await store.cancel(name(1)) == before
    ((again, _),) = await store.submit([submission(1)])

    assert again == before == await store.get(name(1))
    assert text_of(await store.result(name(1))) == "first"


async def test_order(store: JobStore) -> None:
    """Priorities first, then tenants in turn, and of a tenant's jobs the oldest."""
    arrivals = ["a1", "a2", "a2", "a2", "b2", "c2", "b2", "b3", "a0", "c3"]  # tenant and priority
    for which, of in enumerate(arrivals, start=1):
        await store.submit([submission(which, tenant=of[0], priority=PRIORITIES[int(of[1])])])

    assert await drained(store) == [8, 10, 2, 5, 6, 3, 7, 4, 9, 1]


async def test_many_jobs_of_one_tenant_hold_up_nobody(store: JobStore) -> None:
    """A tenant with one job waits for one job of each other tenant at most, however many these have."""
    await store.submit([submission(which, tenant="many") for which in range(1, 301)])
    first = await claimed(store)
    await store.submit([submission(1_000, tenant="one")])

    assert [number(first), *[number(await claimed(store)) for _ in range(2)]] == [1, 2, 1_000]


async def test_groups_that_are_left_out(store: JobStore, rig: Rig) -> None:
    """None of their jobs is given; they hold up neither other groups of their tenant nor other tenants, and
    have their old places once they are not left out any more.
    """
    groups = ["a", "a", "b", "a", "", "b"]
    for n, group in enumerate(groups, start=1):
        await store.submit([submission(n, group=group)])
        await rig.passes(0.002)
    await store.submit([submission(n, tenant="t", group="a") for n in (7, 8)])
    await store.submit([submission(9, tenant="u", group="b", priority=HIGH)])

    assert number(await store.claim("w", ["b"])) == 1
    claims = [await store.claim("w", ["a"]) for _ in range(5)]
    assert sorted(map(number, filter(None, claims))) == [3, 5, 6, 9]  # type: ignore[type-var]
    assert claims[-1] is None
    assert number(claims[0]) == 9
    assert claims[1] is not None
    assert (number(claims[1]), claims[1].group) == (3, "b")
    assert await store.claim("w", ["", "a", "b"]) is None
    await store.release(claims[1])
    assert sorted(map(str, await drained(store))) == ["2", "3", "4", "7", "8"]


async def test_of_many_tenants_that_are_left_out_each_is_passed_over(store: JobStore) -> None:
    """However many have nothing else: the one that has gets its turn."""
    await store.submit([submission(n, tenant=f"t{n}", group="a") for n in range(1, 200)])
    await store.submit([submission(200, tenant="other", group="b")])
    assert number(await until(lambda: store.claim("w", ["a"]))) == 200


async def test_positions_among_groups(store: JobStore, rig: Rig) -> None:
    """Those of other groups that came earlier are before it too."""
    for n in range(1, 6):
        await store.submit([submission(n, group="ba"[n % 2])])
        await rig.passes(0.002)
    jobs = [await store.get(name(n)) for n in range(1, 6)]
    assert [job.position for job in jobs if job is not None] == [0, 1, 2, 3, 4]


async def test_positions(store: JobStore) -> None:
    """How many are before it, from its acceptance on; nothing once it does not wait any more."""
    for which, (tenant, priority) in enumerate(
        [("a", NORMAL), ("a", NORMAL), ("b", NORMAL), ("a", HIGH), ("a", NORMAL)], start=1
    ):
        ((accepted, _),) = await store.submit([submission(which, tenant=tenant, priority=priority)])
        assert accepted == await store.get(name(which))

    async def positions() -> list[int]:
        jobs = [await store.get(name(which)) for which in range(1, 6)]
        return [job.position for job in jobs if job is not None]

    assert await positions() == [1, 3, 2, 0, 4]
    await store.cancel(name(4))
    await claimed(store)
    assert await positions() == [0, 1, 0, 0, 2]


async def test_a_failed_try_is_followed_by_others(store: JobStore, rig: Rig) -> None:
    """After its delay, as often as it was submitted with; what failed last is told."""
    await store.submit([submission(1, retries=2)])
    for tries in (1, 2, 3):
        claim = await until(lambda: store.claim("w")) if tries > 1 else await claimed(store)
        assert claim.tries == tries
        assert await store.fail(claim, f"R{tries}", "no luck", 0.5)
        job = await store.get(name(1))
        assert job is not None
        assert (job.reason, job.message, job.tries) == (f"R{tries}", "no luck", tries)
        assert job.state == (QUEUED if tries < 3 else FAILED)
        assert await store.claim("w") is None
        await rig.passes(0.5)

    assert await store.claim("w") is None
    assert await store.result(name(1)) is None


async def test_what_the_last_try_did_is_kept(store: JobStore) -> None:
    """While it waits for the next one, and once it has failed; an answer takes its place."""
    await store.submit([submission(n) for n in (1, 2)])
    failure = v1.GenerationFailure(request_id="r", attempts=[v1.Attempt(provider="p", upstream_status=503)])
    for which, retry_in in ((1, 0.0), (2, None)):
        claim = await claimed(store)
        assert number(claim) == which
        assert await store.fail(claim, "R", "no luck", retry_in, failure)
        job = await store.get(name(which))
        assert job is not None
        assert job.failure == failure
        if retry_in is not None:
            again = await claimed(store)
            assert again.job.failure == failure
            await store.complete(again, answer())
            done = await store.get(name(which))
            assert done is not None
            assert not done.HasField("failure")


async def test_a_failure_that_does_not_pass_ends_the_job(store: JobStore) -> None:
    """Without another try."""
    await store.submit([submission(1)])
    assert await store.fail(await claimed(store), "BAD", "never", None)
    assert await state(store, 1) == FAILED
    assert await store.claim("w") is None


async def test_who_comes_back_has_its_old_place(store: JobStore) -> None:
    """Also of those that were given back, which costs no retry."""
    await store.submit([submission(which, retries=0) for which in (1, 2, 3)])
    for tries in range(1, 6):
        claim = await claimed(store)
        assert (number(claim), claim.tries) == (1, tries)
        assert await store.release(claim)
        assert await state(store, 1) == QUEUED
        assert not await store.complete(claim, answer())

    assert await drained(store) == [1, 2, 3]


async def test_given_back_for_a_while(store: JobStore, rig: Rig) -> None:
    """Nobody is given it before its delay has passed."""
    await store.submit([submission(1), submission(2)])
    assert await store.release(await claimed(store), 0.5)
    assert await drained(store) == [2]
    await rig.passes(0.5)
    assert await drained(store) == [1]


async def test_the_same_key_is_the_same_job(store: JobStore) -> None:
    """Of one caller and tenant, in one call or in several, while it waits, runs, or has ended."""
    first, twin = await store.submit([submission(1, key="k"), submission(2, key="k")])
    assert (number(first[0]), first[1]) == (1, False)
    assert (number(twin[0]), twin[1]) == (1, True)
    others = await store.submit(
        [submission(3, key="k", tenant="t"), submission(4, key="k", caller="x"), submission(5)]
    )
    assert [(number(job), existing) for job, existing in others] == [(3, False), (4, False), (5, False)]

    claim = await claimed(store)
    ((running, _),) = await store.submit([submission(6, key="k")])
    await store.complete(claim, answer())
    ((done, existing),) = await store.submit([submission(7, key="k")])
    assert (number(running), running.state) == (1, PROCESSING)
    assert (number(done), done.state, existing) == (1, COMPLETED, True)
    assert [await store.get(name(which)) for which in (2, 6, 7)] == [None] * 3
    assert sorted(map(str, await drained(store))) == ["3", "4", "5"]


async def test_a_key_lives_as_long_as_its_job(store: JobStore, rig: Rig) -> None:
    """Once the job is forgotten the key is free."""
    await store.submit([submission(1, key="k", ttl=1.0)])
    await store.complete(await claimed(store), answer())
    await rig.passes(1.05)
    ((job, existing),) = await store.submit([submission(2, key="k")])
    assert (number(job), existing) == (2, False)


async def test_the_same_id_is_the_same_job(store: JobStore) -> None:
    """A submission whose answer was lost may be sent again."""
    for _ in range(3):
        ((job, existing),) = await store.submit([submission(1, key="k")])
        assert (number(job), existing) == (1, False)
    assert await drained(store) == [1]
    await store.submit([submission(1, key="k")])
    assert await drained(store) == []


async def test_a_worker_that_died_loses_its_job(rig: Rig) -> None:
    """Another finishes it; whatever the first still says changes nothing."""
    store = await rig.store(lease=LEASE)
    await store.submit([submission(1)])
    first = await claimed(store, "one")

    async def taken_over() -> Claim | None:
        await rig.passes(LEASE / 3)
        return await store.claim("two")

    second = await until(taken_over)

    assert (number(second), second.tries, second.request) == (1, 2, first.request)
    assert second.token != first.token
    assert not await store.renew(first)
    assert not await store.complete(first, answer("stale"))
    assert not await store.fail(first, "STALE", "", None)
    assert not await store.release(first)
    await store.publish(first, events(1, text="stale"))
    assert await store.events(name(1), 2, 0) == []
    assert await store.renew(second)
    assert await store.complete(second, answer("fresh"))
    assert text_of(await store.result(name(1))) == "fresh"


async def test_a_claim_that_is_renewed_stays(rig: Rig) -> None:
    """However long the work takes; others get nothing meanwhile."""
    store = await rig.store(lease=1.0)
    await store.submit([submission(1)])
    claim = await claimed(store)
    for _ in range(5):
        await rig.passes(1 / 3)
        assert await store.renew(claim)
        assert await store.claim("other") is None
    assert await store.complete(claim, answer())


async def test_a_job_that_kills_its_workers_is_given_up(rig: Rig) -> None:
    """After so many of them; and it takes none of the others with it."""
    store = await rig.store(max_losses=2, lease=0.8)
    await store.submit([submission(1, retries=9), submission(2)])
    first = await claimed(store)
    other = await claimed(store)
    assert (number(first), number(other)) == (1, 2)

    async def lost() -> bool:
        assert await store.renew(other)
        again = await store.claim("w")
        assert again is None or number(again) == 1
        await rig.passes(0.2)
        return await state(store, 1) == FAILED

    await until(lost)
    job = await store.get(name(1))
    assert job is not None
    assert (job.reason, job.tries) == ("WORKER_LOST", 2)
    assert await store.complete(other, answer())


async def test_time_is_up_while_it_waits(store: JobStore, rig: Rig) -> None:
    """It has expired, is given to nobody, and is forgotten after as long again."""
    await store.submit([submission(1, ttl=1.0), submission(2)])
    await rig.passes(1.01)
    job = await store.get(name(1))
    assert job is not None
    assert job.state == EXPIRED
    assert job.ended_at.ToMilliseconds() - job.submitted_at.ToMilliseconds() == 1_000
    assert await drained(store) == [2]
    await rig.passes(1.0)
    assert await store.get(name(1)) is None
    assert number((await store.list(v1.ListJobsRequest(), "")).jobs[0]) == 2


async def test_time_is_up_while_it_runs(store: JobStore, rig: Rig) -> None:
    """Its worker is told to stop, and what it says then is too late."""
    await store.submit([submission(1, ttl=1.0)])
    claim = await claimed(store)
    await rig.passes(1.01)
    assert not await store.renew(claim)
    assert not await store.complete(claim, answer())
    assert await state(store, 1) == EXPIRED
    assert await store.result(name(1)) is None


async def test_time_is_up_before_the_next_try(store: JobStore, rig: Rig) -> None:
    """A job that waits for its next try expires like any other."""
    await store.submit([submission(1, ttl=1.0)])
    await store.fail(await claimed(store), "R", "m", 60)
    await rig.passes(1.01)
    assert await store.claim("w") is None
    assert await state(store, 1) == EXPIRED


async def test_who_ends_by_nobodys_doing_is_told_of_once(rig: Rig) -> None:
    """Who waits, waits for the next try, or runs when its time is up, and who lost its last worker."""
    store, told = await rig.store(lease=1.0, max_losses=1), list[tuple[int | None, v1.JobState, str]]()
    others = [store, await rig.store()] if rig.kind == "redis" else [store]
    for each in others:
        each.on_ended(lambda job, trace: told.append((number(job), job.state, trace)))
    await store.submit([submission(n, ttl=0.5 if n < 4 else 60) for n in range(1, 7)])
    await store.fail(await claimed(store), "R", "m", 60)
    claims = [await claimed(store) for _ in range(3)]
    await store.cancel(name(5))
    await store.complete(claims[2], answer())
    await rig.passes(0.51)
    assert await state(store, 1) == EXPIRED  # whoever finds out, it is for who looks for work to tell

    async def all_told() -> bool:
        for each in others:
            await each.sweep()
        await rig.passes(0.1)
        return len(told) >= 3

    await until(all_told)
    assert sorted(told) == [(n, EXPIRED, f"trace-{n}") for n in (1, 2, 3)]
    lost = await claimed(store)
    assert number(lost) == 6

    async def lost_is_told() -> bool:
        return await all_told() and len(told) > 3

    await until(lost_is_told)
    for each in others:
        await each.claim("w")
    assert told[3:] == [(6, FAILED, "trace-6")]


async def test_an_answer_is_kept_for_its_time(store: JobStore, rig: Rig) -> None:
    """Which begins when the job ends; then all of it is forgotten."""
    await store.submit([submission(1, ttl=2.0)])
    claim = await claimed(store)
    await rig.passes(1.0)
    await store.complete(claim, answer())
    await rig.passes(1.2)
    assert await store.result(name(1)) is not None
    await rig.passes(0.9)
    assert await store.result(name(1)) is None
    assert await store.get(name(1)) is None
    assert (await store.list(v1.ListJobsRequest(), "")).jobs == []


async def test_cancel(store: JobStore) -> None:
    """What waits, waits for its next try, or runs is cancelled at once; what is not known is not."""
    await store.submit([submission(which) for which in (1, 2, 3)])
    await store.fail(await claimed(store), "R", "m", 60)
    claim = await claimed(store)
    for which in (1, 2, 3):
        job = await store.cancel(name(which))
        assert job is not None
        assert (job.state, job.HasField("ended_at")) == (CANCELLED, True)

    assert not await store.renew(claim)
    assert not await store.complete(claim, answer())
    assert not await store.fail(claim, "R", "m", 0)
    assert await store.claim("w") is None
    assert await store.cancel(name(9)) is None
    assert await state(store, 2) == CANCELLED


async def test_events_of_the_running_answer(store: JobStore) -> None:
    """From any sequence number on, of the try that is asked for."""
    await store.submit([submission(1), submission(2)])
    first, other = await claimed(store), await claimed(store)
    await store.publish(first, events(1, 3))
    await store.publish(other, events(1, 1, "other"))
    await store.publish(first, events(4, 2))

    assert await store.events(name(1), 1, 0) == events(1, 5)
    assert await store.events(name(1), 1, 3) == events(4, 2)
    assert await store.events(name(1), 1, 5) == []
    assert await store.events(name(1), 2, 0) == []
    assert await store.events(name(9), 1, 0) == []
    await store.fail(first, "R", "m", 0)
    await store.publish(await claimed(store), events(1, 2, "again"))
    assert await store.events(name(1), 2, 1) == events(2, 1, "again")


async def test_events_are_bounded(store: JobStore) -> None:
    """Of very many, or very large ones, the newest are kept."""
    await store.submit([submission(1), submission(2)])
    many, large = await claimed(store), await claimed(store)
    for start in range(1, 12_001, 1_000):
        await store.publish(many, events(start, 1_000))
    for start in range(1, 11):
        await store.publish(large, events(start, 1, "x" * 2**20))

    kept = await store.events(name(1), 1, 0)
    assert [event.sequence for event in kept] == list(range(2_001, 12_001))
    assert [event.sequence for event in await store.events(name(2), 1, 0)] == [8, 9, 10]


async def test_lists(store: JobStore) -> None:
    """Newest first, of a caller alone, with every filter."""
    await store.submit([submission(1, tenant="a"), submission(2, tenant="b")])
    await store.submit([submission(3, caller="other"), submission(4, tenant="a", batch="x")])
    await store.submit([submission(5, batch="x", caller="other")])
    await store.complete(await claimed(store), answer())
    await store.cancel(name(2))

    async def listed(caller: str = "shop", **query: object) -> list[int | None]:
        page = await store.list(v1.ListJobsRequest(**query), caller)  # type: ignore[arg-type]
        assert page.next == ""
        return [number(job) for job in page.jobs]

    assert await listed() == [4, 2, 1]
    assert await listed("") == [5, 4, 3, 2, 1]
    assert await listed("nobody") == []
    assert await listed(tenant="a") == [4, 1]
    assert await listed(batch_id="x") == [4]
    assert await listed("", batch_id="x") == [5, 4]
    assert await listed(states=[COMPLETED, CANCELLED]) == [2, 1]
    assert await listed(states=[QUEUED], tenant="a") == [4]


async def test_pages(store: JobStore) -> None:
    """Each job once, however large the pages, also when others arrive meanwhile."""
    await store.submit([submission(which, tenant="ab"[which % 2]) for which in range(1, 251)])
    for size in (7, 100, 249, 250, 1_000):
        query = v1.ListJobsRequest(page_size=size, tenant="a")
        found: list[int | None] = []
        while True:
            page = await store.list(query, "shop")
            assert len(page.jobs) <= size
            found += [number(job) for job in page.jobs]
            if not page.next:
                break
            query.page_token = page.next
            await store.submit([submission(1_000 + len(found), tenant="a", caller="late")])
        assert found == list(range(250, 0, -2))
    assert len((await store.list(v1.ListJobsRequest(), "shop")).jobs) == 100


@pytest.mark.parametrize("token", ["?", "a b", "x" * 65, "é"])
async def test_what_is_no_page_token_is_refused(store: JobStore, token: str) -> None:
    """With a ValueError."""
    with pytest.raises(ValueError, match="page token"):
        await store.list(v1.ListJobsRequest(page_token=token), "")


async def test_progress_of_a_batch(store: JobStore, rig: Rig) -> None:
    """How many stand how, and nothing once they are forgotten."""
    await store.submit([submission(which, batch="b", ttl=1.0) for which in range(1, 7)])
    await store.submit([submission(9)])
    await store.complete(await claimed(store), answer())
    await store.fail(await claimed(store), "R", "m", None)
    await store.fail(await claimed(store), "R", "m", 60)
    await claimed(store)
    await store.cancel(name(5))
    counts = {QUEUED: 2, PROCESSING: 1, COMPLETED: 1, FAILED: 1, CANCELLED: 1}
    assert await store.progress("b") == {("", state): count for state, count in counts.items()}
    await rig.passes(1.01)
    assert (await store.progress("b"))["", EXPIRED] == 3
    await rig.passes(1.01)
    assert await store.progress("b") == {}
    assert await store.progress("other") == {}


async def test_progress_by_group(store: JobStore) -> None:
    """Each group is counted by itself, whatever it is called."""
    odd = "p/m:1 \x00é"
    await store.submit([submission(n, batch="b", group=odd if n % 2 else "q/m 0") for n in range(1, 6)])
    await store.complete(await claimed(store), answer())
    await store.cancel(name(2))
    assert await store.progress("b") == {
        (odd, QUEUED): 2,
        (odd, COMPLETED): 1,
        ("q/m 0", QUEUED): 1,
        ("q/m 0", CANCELLED): 1,
    }


async def test_watermarks_by_count(rig: Rig) -> None:
    """Nothing is accepted from 8 of 10 on, until no more than 6 have not ended."""
    store = await rig.store(capacity=10)
    await store.submit([submission(which) for which in range(1, 8)])
    await store.submit([submission(8, key="k")])
    for which in (9, 10):
        with pytest.raises(QueueFullError, match="queue at capacity"):
            await store.submit([submission(which)])
    assert (await store.submit([submission(11, key="k")]))[0][1]
    await store.complete(await claimed(store), answer())
    with pytest.raises(QueueFullError):
        await store.submit([submission(12)])
    await store.cancel(name(2))
    await store.submit([submission(13)])
    assert await drained(store) == [3, 4, 5, 6, 7, 8, 13]


async def test_all_or_none(rig: Rig) -> None:
    """Several that have no room together leave no trace, and do not close the queue for fewer."""
    store = await rig.store(capacity=10)
    with pytest.raises(QueueFullError):
        await store.submit([submission(which) for which in range(1, 12)])
    assert await drained(store) == []
    await store.submit([submission(which) for which in range(1, 11)])
    assert len(await drained(store)) == 10


async def test_watermarks_by_bytes(rig: Rig) -> None:
    """A few jobs that are large close the queue too."""
    store = await rig.store(max_bytes=20_000)
    noise = random.Random(1).randbytes(25_000).hex()
    with pytest.raises(QueueFullError):
        await store.submit([submission(1, text=noise)])
    await store.submit([submission(2, text="small")])
    while True:
        try:
            await store.submit([submission(3 + len(await _all(store)), text=noise[:3_000])])
        except QueueFullError:
            break
    waiting = len(await _all(store))
    assert 2 <= waiting < 15
    for which in range(2, 2 + waiting):
        await store.cancel(name(which))
    await store.submit([submission(99, text=noise[:3_000])])


async def test_answers_make_room_for_each_other(rig: Rig) -> None:
    """They close no queue: beyond their bytes the oldest go, and the jobs stay."""
    store = await rig.store(max_bytes=20_000, max_result_bytes=50_000)
    noise = random.Random(1)
    for which in range(1, 9):
        await store.submit([submission(which, batch="b")])
        await store.complete(await claimed(store), answer(noise.randbytes(10_000).hex()))
        await rig.passes(0.002)
    kept = [which for which in range(1, 9) if await store.result(name(which)) is not None]
    assert kept == [5, 6, 7, 8]
    assert await store.progress("b") == {("", COMPLETED): 8}
    await store.submit([submission(9)])
    await store.complete(await claimed(store), answer(noise.randbytes(100_000).hex()))
    assert [await store.result(name(which)) is None for which in (8, 9)] == [True, False]


async def _all(store: JobStore) -> list[int | None]:
    return [number(job) for job in (await store.list(v1.ListJobsRequest(), "")).jobs]


async def test_large_ones_and_odd_names(store: JobStore) -> None:
    """Megabytes go in and come out, names may hold anything."""
    odd = 'a:{b}*\x00 "é\n'
    given = submission(1, tenant=odd, caller=odd, batch=odd, key=odd, text="long " * 500_000)
    await store.submit([given])
    claim = await claimed(store)
    assert claim.request == given.request
    assert claim.job.attribution.tenant == odd
    await store.complete(claim, answer("wide " * 500_000))
    assert await store.result(name(1)) == answer("wide " * 500_000)
    assert (await store.submit([submission(2, tenant=odd, caller=odd, key=odd)]))[0][1]
    assert await store.progress(odd) == {("", COMPLETED): 1}
    assert number((await store.list(v1.ListJobsRequest(batch_id=odd), odd)).jobs[0]) == 1


async def test_many_workers_never_share_a_job(store: JobStore) -> None:
    """Each of many jobs is given to one of many workers, and ends once."""
    await store.submit([submission(which, tenant=f"t{which % 7}") for which in range(1, 201)])
    taken: list[int | None] = []

    async def work(worker: str) -> None:
        while (claim := await store.claim(worker)) is not None:
            taken.append(number(claim))
            assert await store.complete(claim, answer())

    await asyncio.gather(*(work(f"w{n}") for n in range(20)))
    assert sorted(map(int, filter(None, taken))) == list(range(1, 201))
