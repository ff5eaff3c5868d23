"""Callers of the fleet, who write down all that they are told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from outrider import v1
from outrider.jobs.states import has_ended
from tests.chaos.provider import digest
from tests.chaos.world import ROUTE
from tests.support.sidecar import Failure, ask

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from outrider.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from tests.chaos.world import World

COMPLETED, CANCELLED = v1.JOB_STATE_COMPLETED, v1.JOB_STATE_CANCELLED
PATIENCE = 15.0  # seconds for one call
PAUSE = (0.05, 0.25)  # seconds between two calls of a caller
BATCH = 5  # jobs


@dataclass
class Order:
    """A request that was left with the fleet. With a key it may have been handed in several times."""

    text: str
    key: str = ""
    ids: dict[str, float] = field(default_factory=dict)  # of jobs, and when each was first told
    cancelled: bool = False  # somebody has tried to


@dataclass(frozen=True)
class Receipt:
    """An answer of Generate that arrived whole."""

    request_id: str
    at: float  # when, by the Unix clock
    usage: v1.Usage


class Callers:
    """Everybody. What they were told is checked at once as far as that can be, and kept."""

    def __init__(self, world: World, random: Random) -> None:
        self.orders: list[Order] = []
        self.receipts: list[Receipt] = []
        self.ends: dict[str, set[int]] = defaultdict(set)  # final states, by job
        self.results: dict[str, set[bytes]] = defaultdict(set)  # by job
        self.refusals: Counter[str] = Counter()  # calls that failed, by method and reason
        self.calls: Counter[str] = Counter()
        self.watched = 0  # answers that were followed from their first event to their last
        self._world = world
        self._random = random
        self._stopped = False
        self._numbers = 0

    async def run(self) -> None:
        """Call until stopped."""
        kinds: tuple[Callable[[], Any], ...] = (
            *(self._submit, self._submit, self._submit, self._submit_and_watch, self._submit_batch),
            *(self._submit_again, self._look, self._look, self._cancel, self._generate, self._generate),
        )
        await asyncio.gather(*(self._repeat(kind) for kind in kinds))

    def stop(self) -> None:
        """Let them end what they are at."""
        self._stopped = True

    async def see(self, job_id: str, jobs: JobServiceAsyncStub) -> v1.Job:
        """Look at a job; where it has its answer, look at that too."""
        job = (await jobs.GetJob(v1.GetJobRequest(job_id=job_id), timeout=PATIENCE)).job
        self._note(job_id, job)
        if job.state == COMPLETED:
            request = v1.GetJobResultRequest(job_id=job_id)
            result = (await jobs.GetJobResult(request, timeout=PATIENCE)).response
            self.results[job_id].add(result.SerializeToString(deterministic=True))
        return job

    async def _repeat(self, kind: Callable[[], Any]) -> None:
        name = kind.__name__.removeprefix("_")
        while not self._stopped:
            self.calls[name] += 1
            try:
                await kind()
            except grpc.aio.AioRpcError as error:
                reason = Failure.of(error).reason or error.code().name
                self.refusals[f"{name} {reason}"] += 1
            await asyncio.sleep(self._random.uniform(*PAUSE))

    async def _submit(self) -> Order:
        order = self._order()
        try:
            await self._hand_in(order)
        except grpc.aio.AioRpcError:
            if not order.key:
                raise
            await self._hand_in(order)  # which the key is for
        return order

    async def _submit_and_watch(self) -> None:
        order = await self._submit()
        job_id = next(iter(order.ids))
        text, sequence, whole, state = "", 0, False, 0
        async for each in self._anyone().WatchJob(v1.WatchJobRequest(job_id=job_id), timeout=4 * PATIENCE):
            if each.HasField("job"):
                self._note(job_id, each.job)
                state = each.job.state
            elif each.HasField("restarted"):
                text, sequence, whole = "", 0, False
            elif each.generation.sequence == sequence + 1:  # while Redis is away some may be lost
                sequence += 1
                text += each.generation.text_delta.text
                whole = each.generation.HasField("completed")
                assert not whole or text == digest(order.text)
        self.watched += whole and state == COMPLETED

    async def _submit_again(self) -> None:
        keyed = [order for order in self.orders if order.key]
        if keyed:
            await self._hand_in(self._random.choice(keyed))

    async def _submit_batch(self) -> None:
        orders = [self._order() for _ in range(BATCH)]
        request = v1.SubmitBatchRequest(requests=[_request(order) for order in orders])
        accepted = await self._anyone().SubmitBatch(request, timeout=PATIENCE)
        for order, job_id in zip(orders, accepted.job_ids, strict=True):
            self._accepted(order, job_id)

    async def _hand_in(self, order: Order) -> None:
        request = v1.SubmitJobRequest(request=_request(order))
        response = await self._anyone().SubmitJob(request, timeout=PATIENCE)
        self._accepted(order, response.job.job_id)
        self._note(response.job.job_id, response.job)

    async def _look(self) -> None:
        if self.orders:
            job_id = self._random.choice(list(self._random.choice(self.orders).ids))
            await self.see(job_id, self._anyone())

    async def _cancel(self) -> None:
        if self.orders and self._random.random() < 0.3:
            order = self._random.choice(self.orders[-20:])
            order.cancelled = True
            for job_id in list(order.ids):
                request = v1.CancelJobRequest(job_id=job_id)
                self._note(job_id, (await self._anyone().CancelJob(request, timeout=PATIENCE)).job)

    async def _generate(self) -> None:
        text = self._order().text
        whole, request = "", ask(ROUTE, text)
        call = self._random.choice(self._world.callers).generation.Generate(request, timeout=PATIENCE)
        async for event in call:
            whole += event.text_delta.text
            if event.HasField("started"):
                request_id = event.started.request_id
            if event.HasField("completed"):
                assert whole == digest(text)
                self.receipts.append(Receipt(request_id, time.time(), event.completed.usage))

    def _order(self) -> Order:
        self._numbers += 1
        return Order(f"prompt {self._numbers}", f"key {self._numbers}" if self._numbers % 2 else "")

    def _accepted(self, order: Order, job_id: str) -> None:
        if not order.ids:
            self.orders.append(order)
        order.ids.setdefault(job_id, time.time())

    def _note(self, job_id: str, job: v1.Job) -> None:
        if has_ended(job):
            self.ends[job_id].add(job.state)

    def _anyone(self) -> JobServiceAsyncStub:
        return self._random.choice(self._world.jobs)


def _request(order: Order) -> v1.GenerateRequest:
    return ask(ROUTE, order.text, idempotency_key=order.key)
