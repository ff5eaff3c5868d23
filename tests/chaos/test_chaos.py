"""Three sidecars, their Redis and three providers, any of which dies at any time: nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Any

import grpc

from outrider import v1
from outrider.jobs.states import has_ended
from tests.chaos.callers import CANCELLED, COMPLETED, Callers
from tests.chaos.monkey import Monkey
from tests.chaos.provider import digest
from tests.chaos.world import world
from tests.fleet.load import counted
from tests.fleet.support import tell

if TYPE_CHECKING:
    from pathlib import Path

    from outrider.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from tests.chaos.world import World

SECONDS = float(os.environ.get("OUTRIDER_CHAOS_SECONDS", "12"))  # of it
SEED = int(os.environ.get("OUTRIDER_CHAOS_SEED", "1"))

SETTLED = 60.0  # seconds until all has ended, once everybody is well
AT_ONCE = 20  # looks
LOST = 1.0  # seconds before a kill of which records may be missing; 50 ms and a write, on a busy machine
GIVEN_UP = {"WORKER_LOST"}  # reasons for which a job may have failed


async def test_every_accepted_job_ends_once_whoever_dies(tmp_path: Path) -> None:
    """Rows 4, 5, 26, 30: one final state and one right answer each; the ledger has what callers received."""
    async with world(tmp_path, SEED) as all_of_it:
        monkey = Monkey(all_of_it, Random(SEED))
        callers = Callers(all_of_it, Random(SEED))
        calling = asyncio.create_task(callers.run())
        try:
            await monkey.run(SECONDS)
        finally:
            callers.stop()
            await calling
        tell(f"\nstrikes: {dict(monkey.strikes)}\ncalls: {dict(callers.calls)}")
        tell(f"refused: {dict(callers.refusals)}")
        jobs = await settled(callers, all_of_it)
        await seen_by_all(callers, all_of_it)
        check_ends(callers, jobs)
        check_keys(callers, jobs)
        for sidecar in all_of_it.sidecars:
            await sidecar.drain()
        check_logs(all_of_it)
        check_ledger(callers, jobs, await counted(all_of_it.redis.url), all_of_it)
        check_events(await told(all_of_it), jobs)


async def settled(callers: Callers, fleet: World) -> dict[str, v1.Job]:
    """Every accepted job, as it stands once it has ended. Fails where one does not end, or is not known."""
    began = time.monotonic()
    waiting = {job_id: "" for order in callers.orders for job_id in order.ids}
    ended: dict[str, v1.Job] = {}
    stubs = cycle(fleet.jobs)

    async def look(job_id: str) -> None:
        try:
            job = await callers.see(job_id, next(stubs))
        except grpc.aio.AioRpcError as error:
            waiting[job_id] = error.details() or ""
        else:
            waiting[job_id] = v1.JobState.Name(job.state)
            if has_ended(job):
                del waiting[job_id]
                ended[job_id] = job

    while waiting and time.monotonic() < began + SETTLED:
        todo = list(waiting)
        for start in range(0, len(todo), AT_ONCE):
            await asyncio.gather(*map(look, todo[start : start + AT_ONCE]))
        await asyncio.sleep(0.1)
    assert not waiting, (
        f"{len(waiting)} of {len(waiting) + len(ended)} have not ended: {Counter(waiting.values())}"
    )
    tell(f"{len(ended)} jobs had ended {time.monotonic() - began:.1f} s after everybody was well")
    return ended


async def seen_by_all(callers: Callers, fleet: World) -> None:
    """Every sidecar says the same of every job, once it has its Redis back."""

    async def look(job_id: str, jobs: JobServiceAsyncStub) -> None:
        while True:
            try:
                await callers.see(job_id, jobs)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    ids = [job_id for order in callers.orders for job_id in order.ids]
    async with asyncio.timeout(SETTLED):
        for jobs in fleet.jobs:
            for start in range(0, len(ids), AT_ONCE):
                await asyncio.gather(*(look(job_id, jobs) for job_id in ids[start : start + AT_ONCE]))


def check_ends(callers: Callers, jobs: dict[str, v1.Job]) -> None:
    """One final state, and one answer, which is right; who has failed has a reason for it."""
    cancelled = {job_id for order in callers.orders if order.cancelled for job_id in order.ids}
    states = Counter(v1.JobState.Name(job.state).removeprefix("JOB_STATE_") for job in jobs.values())
    tries = Counter(job.tries for job in jobs.values())
    tell(f"{len(callers.orders)} orders: {dict(states)}, tries: {dict(sorted(tries.items()))}")
    tell(f"{len(callers.receipts)} answers of Generate, {callers.watched} jobs watched to the end")
    changed = {job_id: states for job_id, states in callers.ends.items() if len(states) > 1}
    assert not changed, f"final states changed: {changed}"
    assert all(len(found) == 1 for found in callers.results.values()), "results changed"
    for order in callers.orders:
        for job_id in order.ids:
            job = jobs[job_id]
            if job.state == COMPLETED:
                assert text_of(callers.results[job_id]) == digest(order.text)
            elif job.state == CANCELLED:
                assert job_id in cancelled
            else:
                assert job.reason in GIVEN_UP, job
    assert states["COMPLETED"] >= 0.9 * len(jobs)


def text_of(results: set[bytes]) -> str:
    """The text of the only answer."""
    (data,) = results
    return "".join(part.text for part in v1.CompleteResponse.FromString(data).message.parts)


def check_keys(callers: Callers, jobs: dict[str, v1.Job]) -> None:
    """The same key is the same job, and has run once, whichever sidecars it was given to."""
    keyed = [order for order in callers.orders if order.key]
    several = [order for order in keyed if len(order.ids) > 1]
    tell(f"{len(keyed)} keys, {len(several)} with ids of their own from sidecars that were cut off")
    for order in several:
        # One that was cancelled where it waited for Redis never ran.
        ran = {jobs[job_id].job_id for job_id in order.ids if jobs[job_id].state != CANCELLED}
        assert len(ran) <= 1, (order, ran)


def check_logs(fleet: World) -> None:
    """No sidecar has met what it did not expect."""
    for sidecar in fleet.sidecars:
        for line in "".join(sidecar.logs).splitlines():
            assert "Traceback" not in line, line[:4000]
            assert '"level":"error"' not in line, line[:4000]


def check_ledger(
    callers: Callers, jobs: dict[str, v1.Job], records: dict[str, v1.UsageRecord], fleet: World
) -> None:
    """What callers received is on record, but for what was written right before a kill."""
    ended = {receipt.request_id: receipt.at for receipt in callers.receipts}
    for job_id, results in callers.results.items():
        answer = v1.CompleteResponse.FromString(next(iter(results)))
        ended[answer.started.request_id] = jobs[job_id].ended_at.ToMilliseconds() / 1e3
    kinds = Counter(f"{record.method} {record.outcome}" for record in records.values())
    missing = [at for request_id, at in ended.items() if request_id not in records]
    tell(f"{len(records)} records: {dict(kinds)}; {len(missing)} of {len(ended)} answers are not on record")
    for receipt in callers.receipts:
        if receipt.request_id in records:
            assert records[receipt.request_id].usage.output_tokens == receipt.usage.output_tokens
    deaths = [at for sidecar in fleet.sidecars for at in sidecar.deaths]
    for at in missing:
        assert any(-LOST < death - at < LOST for death in deaths), (at, deaths)


async def told(fleet: World) -> list[dict[str, Any]]:
    """The events of jobs."""
    raw = await fleet.redis.stream("outrider:events")
    events = [json.loads(line) for line in raw]
    return [event for event in events if event["type"] == "dev.outrider.job.changed"]


def check_events(events: list[dict[str, Any]], jobs: dict[str, v1.Job]) -> None:
    """Nobody was told of an end that was none."""
    ends = Counter(
        (event["subject"], event["data"]["state"])
        for event in events
        if event["data"]["state"] in ("completed", "failed", "cancelled", "expired")
    )
    again = sum(count > 1 for count in ends.values())
    tell(f"{len(events)} events of jobs, {len(ends)} ends, {again} of which were told more than once")
    for job_id, state in ends:
        if job_id in jobs and jobs[job_id].job_id == job_id:
            assert v1.JobState.Name(jobs[job_id].state) == f"JOB_STATE_{state.upper()}", job_id
