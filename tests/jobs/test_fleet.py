"""Runners that share a queue in Redis."""

from __future__ import annotations

import asyncio

from outrider import v1
from outrider.jobs.watch import watch
from outrider.stores.redis_jobs import RedisJobs
from outrider.stores.redis_link import RedisLink
from tests.jobs.rig import Rig, working
from tests.support.redis_server import redis_server

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
