"""The queue of a fleet on real Redis: its keys, its workers, and what happens when either dies."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from outrider import v1
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_jobs import RedisJobs
from outrider.stores.redis_link import RedisLink
from tests.stores.job_rig import (
    LEASE,
    PATIENCE,
    answer,
    claimed,
    drained,
    events,
    name,
    number,
    quick_disk,
    redis_rig,
    state,
    submission,
    text_of,
    until,
)
from tests.support.faulty_link import faulty_link
from tests.support.redis_server import redis_cluster, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from outrider.core.jobs import Claim, Counts, JobStore

ROOT = Path(__file__).parents[2]
QUEUED, COMPLETED, FAILED = v1.JOB_STATE_QUEUED, v1.JOB_STATE_COMPLETED, v1.JOB_STATE_FAILED


@asynccontextmanager
async def connected(url: str, prefix: str, timeout: float = 5) -> AsyncIterator[RedisLink]:  # noqa: ASYNC109
    link = RedisLink(url, prefix=prefix, timeout=timeout)
    await link.start(10)
    try:
        yield link
    finally:
        await link.aclose()


async def keys(link: RedisLink) -> list[str]:
    return sorted(key.decode() for key in await link.run("KEYS", f"{link.prefix}:*", key="x"))


async def test_every_key_has_an_end(redis_url: str, prefix: str) -> None:
    """Row 24: after whatever was done each key has a TTL; and nothing is left when all is forgotten."""
    async with connected(redis_url, prefix) as link:
        store = RedisJobs(link, lease=0.1, max_losses=1)

        async def check() -> list[str]:
            found = await keys(link)
            for key in found:
                assert await link.run("PTTL", key) > 0, key
            return found

        for n in range(1, 9):
            await store.submit([submission(n, tenant=f"t{n}", batch="b", key=f"k{n}", ttl=2.0)])
            await check()
        claims = [await claimed(store) for _ in range(6)]
        await store.publish(claims[0], events(1))
        await store.complete(claims[0], answer())
        await store.fail(claims[1], "R", "m", None)
        await store.fail(claims[2], "R", "m", 0.05)
        await store.release(claims[3], 60)
        await store.renew(claims[4])
        await store.cancel(name(6))
        await check()
        await until(lambda: _is(store, 5, FAILED))  # its worker was lost
        assert len(await check()) > 20

        async def forgotten() -> bool:
            await store.claim("w")
            await check()
            return not (await store.list(v1.ListJobsRequest(), "")).jobs

        await until(forgotten)
        left = [key for key in await check() if ":{jobs}:" in key]
        assert [key.rpartition(":")[2] for key in left] == ["b", "meta", "running"]
        assert await link.run("XLEN", f"{prefix}:{{jobs}}:running") == 0
        assert (await link.run("XPENDING", f"{prefix}:{{jobs}}:running", "workers"))[0] == 0
        flat = await link.run("HGETALL", f"{prefix}:{{jobs}}:meta")
        meta = dict(zip(flat[::2], map(int, flat[1::2]), strict=True))
        assert [meta[field] for field in (b"jobs", b"bytes", b"waiting:2")] == [0, 0, 0]


async def _is(store: JobStore, which: int, wanted: v1.JobState) -> bool:
    await store.claim("sweeper")
    return await state(store, which) == wanted


async def test_requests_are_dropped_when_their_job_ends(redis_url: str, prefix: str) -> None:
    """They are the larger part; answers stay, compressed."""
    async with connected(redis_url, prefix) as link:
        store = RedisJobs(link)
        await store.submit([submission(n, text="long " * 10_000) for n in range(1, 4)])
        assert await link.run("STRLEN", f"{prefix}:job:{{{name(1)}}}:request") < 2_000
        claim = await claimed(store)
        await store.complete(claim, answer("wide " * 10_000))
        await store.fail(await claimed(store), "R", "m", None)
        assert await link.run("STRLEN", f"{prefix}:job:{{{name(1)}}}:result:{claim.token}") < 2_000
        requests = [key for key in await keys(link) if key.endswith("request")]
        assert requests == [f"{prefix}:job:{{{name(3)}}}:request"]


async def test_a_request_that_redis_lost(redis_url: str, prefix: str) -> None:
    """Its job has failed; the others go on."""
    async with connected(redis_url, prefix) as link:
        store = RedisJobs(link)
        await store.submit([submission(1), submission(2)])
        await link.run("DEL", f"{prefix}:job:{{{name(1)}}}:request")
        assert await drained(store) == [2]
        job = await store.get(name(1))
        assert job is not None
        assert (job.state, job.reason) == (FAILED, "REQUEST_LOST")


async def test_what_was_done_may_be_repeated(redis_url: str, prefix: str) -> None:
    """Where an answer of Redis was lost, the same again is the same; but not once another has the job."""
    async with connected(redis_url, prefix) as link:
        store = RedisJobs(link)
        await store.submit([submission(1), submission(2)])
        one, two = await claimed(store), await claimed(store)
        assert await store.complete(one, answer("first"))
        assert await store.complete(one, answer("second"))
        assert text_of(await store.result(name(1))) == "first"
        assert await store.fail(two, "R", "m", 0)
        assert await store.fail(two, "R", "m", 0)
        three = await claimed(store)
        assert three.tries == 2
        assert not await store.fail(two, "R", "m", 0)


async def test_who_asked_for_a_job_and_left(redis_url: str, prefix: str) -> None:
    """What it would have been given goes to the next, at once, and has lost nobody."""
    async with connected(redis_url, prefix) as link:
        store = RedisJobs(link)
        await store.submit([submission(1, retries=0)])
        for _ in range(5):
            claiming = asyncio.create_task(store.claim("w"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            claiming.cancel()
            await asyncio.gather(claiming, return_exceptions=True)
            assert claiming.cancelled()
        claim = await claimed(store)
        assert number(claim) == 1
        assert await store.complete(claim, answer())


async def test_large_batches(redis_url: str, prefix: str) -> None:
    """Thousands are accepted, in their order, by many short scripts."""
    async with connected(redis_url, prefix) as link:
        store = RedisJobs(link)
        await store.submit([submission(n, batch="b") for n in range(1, 2_501)])
        assert await store.progress("b") == {("", QUEUED): 2_500}
        assert [number(await claimed(store)) for _ in range(250)] == list(range(1, 251))


async def test_workers_that_were_all_cut_off_keep_their_jobs(prefix: str) -> None:
    """Row 23: after a silence of Redis longer than any lease nobody is taken for dead at once."""
    async with (
        redis_server() as server,
        connected(server.url, prefix, 1) as link,
        connected(server.url, prefix, 1) as other_link,
    ):
        store, other = RedisJobs(link, lease=1.0), RedisJobs(other_link, lease=1.0)
        await store.submit([submission(1)])
        claim = await claimed(store)
        server.pause()
        await asyncio.sleep(1.2)
        server.resume()
        await until(lambda: _available(link, other_link))
        assert await other.claim("other") is None
        assert await store.complete(claim, answer())


async def test_one_worker_that_is_back_leaves_the_others_time(redis_url: str, prefix: str) -> None:
    """Row 23: after a silence the first word, be it a renewal, does not make the others late."""
    async with redis_rig(redis_url, prefix, Path()) as rig:
        store = await rig.store(lease=1.0)
        await store.submit([submission(1), submission(2)])
        first, second = await claimed(store, "w1"), await claimed(store, "w2")
        await rig.passes(1.1)
        await store.renew(first)
        assert await store.claim("w1") is None
        assert await store.complete(second, answer())


async def _available(*links: RedisLink) -> bool:
    return all(link.available for link in links)


async def test_workers_that_are_gone_are_not_remembered(redis_url: str, prefix: str) -> None:
    """Their names go some time after their last word."""
    async with connected(redis_url, prefix) as link:
        store = RedisJobs(link, lease=0.01)

        async def names() -> set[bytes]:
            consumers = await link.run("XINFO", "CONSUMERS", f"{prefix}:{{jobs}}:running", "workers", key="x")
            return {about[1] for about in consumers}

        for n in range(1, 6):
            await store.submit([submission(n)])
            await store.complete(await claimed(store, f"w{n}"), answer())
        assert await names() >= {b"w1", b"w5"}

        async def gone() -> bool:
            await store.claim("alive")
            return await names() <= {b"alive"}

        await until(gone, 0.05)


async def test_a_redis_that_does_not_answer(prefix: str) -> None:
    """Row 23: every call ends in time, with StoreUnavailableError; once it is healed, all goes on."""
    async with (
        redis_server() as server,
        faulty_link(server.port) as network,
        connected(f"redis://127.0.0.1:{network.port}", prefix, 0.05) as link,
    ):
        store = RedisJobs(link)
        await store.submit([submission(1), submission(2)])
        claim = await claimed(store)
        network.blackhole()
        calls = (
            lambda: store.submit([submission(3)]),
            lambda: store.get(name(1)),
            lambda: store.claim("w"),
            lambda: store.complete(claim, answer()),
            lambda: store.renew(claim),
            lambda: store.list(v1.ListJobsRequest(), ""),
        )
        for call in calls:
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                await call()
            assert time.monotonic() - began < 2
        await network.heal()

        async def completed() -> bool:
            try:
                return await store.complete(claim, answer())
            except StoreUnavailableError:  # it has not come back yet
                return False

        await until(completed)
        assert await drained(store) == [2]


WORKER = """
import asyncio, sys
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_jobs import RedisJobs
from outrider.stores.redis_link import RedisLink
from tests.stores.job_rig import LEASE, answer

url, prefix, name = sys.argv[1:]

async def work(store, worker):
    while True:
        try:
            claim = await store.claim(worker)
            if claim is None:
                await asyncio.sleep(0.02)
                continue
            await asyncio.sleep(0.01)
            if await store.complete(claim, answer(name)):
                print("done", int(claim.job.job_id, 16), flush=True)
        except StoreUnavailableError:
            await asyncio.sleep(0.02)

async def main():
    link = RedisLink(url, prefix=prefix, timeout=1)
    await link.start(10)
    store = RedisJobs(link, lease=LEASE, max_losses=10)
    await asyncio.gather(*(work(store, name) for _ in range(4)))

asyncio.run(main())
"""


class Workers:
    """Sidecars as processes, and what they said they had done."""

    def __init__(self, url: str, prefix: str) -> None:
        self._arguments = (url, prefix)
        self._processes: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []
        self.done: Counter[int] = Counter()

    async def start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKER, *self._arguments, f"w{len(self._processes)}"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        self._processes.append(process)
        self._readers.append(asyncio.create_task(self._read(process)))
        return process

    async def stop(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*self._readers)
        await asyncio.gather(*(process.wait() for process in self._processes))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            if line.startswith(b"done ") and line.endswith(b"\n"):
                self.done[int(line.split()[1])] += 1


@asynccontextmanager
async def workers(url: str, prefix: str, count: int) -> AsyncIterator[Workers]:
    found = Workers(url, prefix)
    try:
        for _ in range(count):
            await found.start()
        yield found
    finally:
        await found.stop()


async def test_killed_workers_are_replaced(redis_url: str, prefix: str) -> None:
    """Two sidecars share the work, none is done twice; what one that is killed had begun is done too."""
    async with connected(redis_url, prefix) as link, workers(redis_url, prefix, 2) as fleet:
        store = RedisJobs(link, lease=LEASE)
        await store.submit([submission(n, batch="b", tenant=f"t{n % 3}") for n in range(1, 301)])
        for victim in list(fleet._processes):
            enough = len(fleet.done) + 60
            await until(lambda enough=enough: _reached(fleet, enough))  # type: ignore[misc]
            victim.kill()
            await fleet.start()
        await until(lambda: _progress(store, {("", COMPLETED): 300}))

    assert max(fleet.done.values()) == 1
    # Of a worker that is killed, the last words may be lost.
    assert 290 <= len(fleet.done) <= 300


async def _reached(fleet: Workers, enough: int) -> bool:
    return len(fleet.done) >= enough


async def _progress(store: JobStore, wanted: Counts) -> bool:
    try:
        return await store.progress("b") == wanted
    except StoreUnavailableError:
        return False


async def test_redis_is_killed_under_load(prefix: str) -> None:
    """Row 23: with `appendfsync always` what it had confirmed is there again, and ends once."""
    with quick_disk() as folder:
        always = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder))
        await _kill_redis_under_load(always, prefix)


async def _kill_redis_under_load(durable: tuple[str, ...], prefix: str) -> None:
    async with (
        redis_server(*durable) as server,
        connected(server.url, prefix, 0.5) as link,
        workers(server.url, prefix, 2) as fleet,
    ):
        store, accepted, told = RedisJobs(link, lease=LEASE), 0, 0
        while told < 400:
            told += 1
            try:
                await store.submit([submission(told, batch="b")])
                accepted += 1
            except StoreUnavailableError:
                await asyncio.sleep(0.02)
            if told in {150, 300}:
                await server.kill()
                await server.start()
        known = [await store.get(name(n)) for n in range(1, told + 1)]
        expected = sum(job is not None for job in known)
        assert 250 < accepted <= expected  # some were accepted though nobody was told
        await until(lambda: _progress(store, {("", COMPLETED): expected}))

    assert max(fleet.done.values()) == 1


async def test_on_a_cluster(prefix: str) -> None:
    """Keys of the queue are in one slot, those of each job in its own: all of it works on three masters."""
    async with redis_cluster() as cluster, connected(cluster.url, prefix) as link:
        store = RedisJobs(link, lease=LEASE)
        await store.submit([submission(n, tenant=f"t{n % 5}", batch="b", key=f"k{n}") for n in range(1, 41)])
        assert (await store.submit([submission(99, key="k7", tenant="t2")]))[0][1]

        async def work() -> list[Claim]:
            done = []
            while (claim := await store.claim("w")) is not None:
                await store.publish(claim, events(1, 3))
                assert len(await store.events(claim.job.job_id, 1, 1)) == 2
                assert await store.complete(claim, answer(claim.job.job_id))
                done.append(claim)
            return done

        done = await asyncio.gather(*(work() for _ in range(5)))
        assert sorted(number(claim) or 0 for some in done for claim in some) == list(range(1, 41))
        assert [text_of(await store.result(name(n))) for n in (1, 40)] == [name(1), name(40)]
        assert await store.progress("b") == {("", COMPLETED): 40}
        assert len((await store.list(v1.ListJobsRequest(), "shop")).jobs) == 40


async def test_looking_at_an_empty_queue_is_one_command(prefix: str) -> None:
    """However often, until there is something to do; then the next look has it, whoever brought it."""
    async with (
        redis_server() as server,
        connected(server.url, prefix) as link,
        connected(server.url, prefix) as other_link,
    ):
        idle, other = RedisJobs(link), RedisJobs(other_link)
        await other.submit([submission(1)])
        await other.complete(await claimed(other), answer())

        async def commands() -> int:
            text = (await link.run("INFO", "stats", key="x")).decode()
            return int(text.split("total_commands_processed:")[1].split()[0])

        assert await idle.claim("idle") is None
        before = await commands()
        for _ in range(50):
            assert await idle.claim("idle") is None
            await idle.sweep()
        assert await commands() - before == 100 + 1

        await other.submit([submission(2)])
        theirs = await claimed(idle)
        assert number(theirs) == 2
        assert await idle.claim("idle") is None
        await other.submit([submission(3)])
        await other.release(await claimed(other), 0.2)
        assert idle.waiting == 0
        assert await idle.claim("idle") is None
        assert idle.waiting == 1
        assert number(await until(lambda: idle.claim("idle"))) == 3


async def test_what_is_not_ours_is_refused(redis_url: str, prefix: str) -> None:
    """A key of another kind where one of ours should be: StoreUnavailableError, and nothing else."""
    async with connected(redis_url, prefix) as link:
        store = RedisJobs(link)
        await link.run("SET", f"{prefix}:{{jobs}}:meta", "mine", "PX", int(PATIENCE * 1_000))
        with pytest.raises(StoreUnavailableError):
            await store.submit([submission(1)])
