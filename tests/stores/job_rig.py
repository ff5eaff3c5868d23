"""Jobs to submit, and stores to submit them to."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from outrider import v1
from outrider.core.jobs import Claim, JobStore, Submission
from outrider.stores.job_journal import JobJournal
from outrider.stores.memory_jobs import MemoryJobs
from outrider.stores.redis_jobs import RedisJobs
from outrider.stores.redis_link import RedisLink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

LEASE = 0.3  # seconds; Redis's clock cannot be moved
PATIENCE = 30.0
HIGH, NORMAL, LOW = v1.JOB_PRIORITY_HIGH, v1.JOB_PRIORITY_NORMAL, v1.JOB_PRIORITY_LOW


class Clocks:
    """Both clocks of a store, which move when they are told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return 1_000.0 + self.seconds

    def wall(self) -> float:
        return 1_795_271_400.0 + self.seconds


def submission(
    number: int,
    *,
    tenant: str = "",
    caller: str = "shop",
    priority: v1.JobPriority = NORMAL,
    batch: str = "",
    key: str = "",
    ttl: float = 60.0,
    retries: int = 3,
    text: str = "hi",
    model: str = "gpt",
    group: str = "",
) -> Submission:
    """A job whose id is its number."""
    request = v1.GenerateRequest(model=model, idempotency_key=key)
    request.messages.add(role=v1.ROLE_USER).parts.add().text = text
    job = v1.Job(
        job_id=name(number),
        priority=priority,
        model=model,
        caller=caller,
        batch_id=batch,
        attribution=v1.Attribution(tenant=tenant, labels={"a": "b"}),
    )
    job.submitted_at.FromMilliseconds(5_000)
    job.expires_at.FromMilliseconds(5_000 + round(ttl * 1_000))
    return Submission(job, request, retries, f"trace-{number}", group)


def name(number: int) -> str:
    return f"{number:032x}"


def number(job: v1.Job | Claim | None) -> int | None:
    """Which job it is."""
    if job is None:
        return None
    return int((job.job if isinstance(job, Claim) else job).job_id, 16)


def answer(text: str = "hello") -> v1.CompleteResponse:
    """An answer of 10 tokens in and 5 out."""
    response = v1.CompleteResponse()
    response.message.role = v1.ROLE_ASSISTANT
    response.message.parts.add().text = text
    response.completed.usage.input_tokens = 10
    response.completed.usage.output_tokens = 5
    response.completed.cost.total_nano_usd = 7
    return response


def text_of(response: v1.CompleteResponse | None) -> str | None:
    return None if response is None else response.message.parts[0].text


def events(first: int, count: int = 1, text: str = "x") -> list[v1.GenerateResponse]:
    return [
        v1.GenerateResponse(sequence=n, text_delta=v1.TextDelta(text=text))
        for n in range(first, first + count)
    ]


async def claimed(store: JobStore, worker: str = "w") -> Claim:
    """The next job, which must be there."""
    claim = await store.claim(worker)
    assert claim is not None
    return claim


async def state(store: JobStore, which: int) -> v1.JobState | None:
    job = await store.get(name(which))
    return None if job is None else job.state


async def drained(store: JobStore) -> list[int | None]:
    """All that can be claimed now, in order."""
    found = []
    while (claim := await store.claim("w")) is not None:
        found.append(number(claim))
    return found


async def until(condition: Callable[[], Awaitable[Any]], pause: float = 0.01) -> Any:
    """What a condition gives once that is true."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await condition()):  # noqa: ASYNC110 - time, or another process, changes it
            await asyncio.sleep(pause)
    return found


@dataclass
class Rig:
    """Makes stores of one kind, and lets time pass for them."""

    kind: str
    folder: Path
    link: RedisLink | None = None
    clocks: Clocks = field(default_factory=Clocks)
    made: list[MemoryJobs] = field(default_factory=list)

    async def store(self, **settings: Any) -> JobStore:
        settings = {"lease": 30.0, **settings}
        if self.link is not None:
            return RedisJobs(self.link, **settings)
        journal = JobJournal(self.folder) if self.kind == "journal" else None
        clock, wall_clock = self.clocks.monotonic, self.clocks.wall
        store = MemoryJobs(journal, clock=clock, wall_clock=wall_clock, **settings)
        await store.start()
        self.made.append(store)
        return store

    async def passes(self, seconds: float) -> None:
        """Time passes: on the store's own clock, or on Redis's, which nobody can move."""
        if self.link is None:
            self.clocks.seconds += seconds
            return
        start = await self.link.run("TIME", key="x")
        begun = int(start[0]) + int(start[1]) / 1e6
        while True:
            now = await self.link.run("TIME", key="x")
            left = begun + seconds - int(now[0]) - int(now[1]) / 1e6
            if left < 0:
                return
            await asyncio.sleep(left + 0.001)


@asynccontextmanager
async def redis_rig(url: str, prefix: str, folder: Path) -> AsyncIterator[Rig]:
    link = RedisLink(url, prefix=prefix, timeout=5)
    await link.start(10)
    try:
        yield Rig("redis", folder, link)
    finally:
        await link.aclose()


@contextmanager
def quick_disk() -> Iterator[Path]:
    """A folder that keeps what processes write that are killed, and never makes them wait."""
    shared_memory = Path("/dev/shm")
    with TemporaryDirectory(dir=shared_memory if shared_memory.is_dir() else None) as folder:
        yield Path(folder)


async def crash(store: MemoryJobs) -> None:
    """What is in memory is gone, and the lock on the folder with it."""
    desk = store._desk
    if desk is not None:
        await asyncio.to_thread(desk._journal.close, empty=False)
        desk._thread._thread.shutdown()
