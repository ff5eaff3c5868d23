"""Runners that share a queue in Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from outrider import v1
from outrider.core.errors import Reason
from outrider.jobs.watch import watch
from outrider.stores.fleet_jobs import FleetJobs
from outrider.stores.memory_jobs import MemoryJobs
from outrider.stores.redis_jobs import RedisJobs
from outrider.stores.redis_link import RedisLink
from tests.jobs.rig import Rig, failed, working
from tests.stores.job_rig import until
from tests.support.faulty_link import faulty_link
from tests.support.redis_server import redis_server

if TYPE_CHECKING:
    from tests.jobs.rig import Step

PATIENCE = 20.0


async def test_what_a_dead_worker_began_is_finished_once_by_another() -> None:
    """Row 26: when its lease has ended; whoever watches sees the answer begin anew, and each job has one."""
    async with redis_server() as server:
        link = RedisLink(server.url, timeout=5)
        await link.start(10)
        try:
            store = RedisJobs(link, lease=1.0)
            dead = Rig(store=store)
            jobs = [await dead.submit() for _ in range(5)]
            claims = [await store.claim("dead") for _ in jobs]
            assert all(claims)
            async with asyncio.timeout(PATIENCE), working(["Hello"], store=store) as living:
                for job in jobs:
                    seen = [each async for each in watch(store, job, 0)]
                    stands = [each.job for each in seen if each.HasField("job")]
                    assert (stands[-1].state, stands[-1].tries) == (v1.JOB_STATE_COMPLETED, 2)
                    assert any(each.generation.HasField("completed") for each in seen)
                assert len(living.pipeline.contexts) == 5
            for claim in claims:
                assert claim is not None
                assert not await store.complete(claim, v1.CompleteResponse())
        finally:
            await link.aclose()


@pytest.mark.parametrize(
    ("ending", "state"), [("Hello", "completed"), (failed(Reason.INVALID_REQUEST, "no"), "failed")]
)
async def test_the_end_of_a_job_is_told_once_redis_has_it(ending: Step, state: str) -> None:
    """A job that ends while Redis is away may have been given to another: its end is told when it counts."""
    async with redis_server() as server, faulty_link(server.port) as network:
        link = RedisLink(f"redis://127.0.0.1:{network.port}", timeout=0.5)
        await link.start(10)
        store = FleetJobs(link, RedisJobs(link), MemoryJobs())
        await store.start()
        answered = asyncio.Event()

        async def is_back() -> bool:
            return link.available

        try:
            async with asyncio.timeout(PATIENCE), working([answered, ending], store=store) as rig:
                job = await rig.submit()
                await rig.begun()
                await network.refuse()
                answered.set()
                while not store._outbox:  # noqa: ASYNC110 - the try is waited for
                    await asyncio.sleep(0.01)
                assert rig.states() == ["queued", "processing"]
                await network.heal()
                await until(is_back)
                await rig.ended(job)
                while rig.states()[-1] != state:  # noqa: ASYNC110 - the store is waited for
                    await asyncio.sleep(0.01)
            assert rig.states() == ["queued", "processing", state]
        finally:
            await store.aclose()
            await link.aclose()
