"""Jobs on a real file system: nothing that was accepted is lost, whoever crashes."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from outrider import v1
from outrider.core.jobs import QueueFullError
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.job_journal import JobJournal
from outrider.stores.journal_frames import frame
from outrider.stores.memory_jobs import MemoryJobs
from tests.stores.job_rig import (
    Clocks,
    answer,
    claimed,
    crash,
    drained,
    name,
    number,
    state,
    submission,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
QUEUED, PROCESSING, COMPLETED = v1.JOB_STATE_QUEUED, v1.JOB_STATE_PROCESSING, v1.JOB_STATE_COMPLETED


async def opened(
    folder: Path, clocks: Clocks | None = None, *, segment: int = 2**20, **kw: Any
) -> MemoryJobs:
    clocks = clocks or Clocks()
    journal = JobJournal(folder, segment_bytes=segment)
    store = MemoryJobs(journal, clock=clocks.monotonic, wall_clock=clocks.wall, **kw)
    await store.start()
    return store


@asynccontextmanager
async def after_a_crash(folder: Path, *args: Any, **kw: Any) -> AsyncIterator[MemoryJobs]:
    """The store of the next process, which crashes too."""
    store = await opened(folder, *args, **kw)
    try:
        yield store
    finally:
        await crash(store)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jobs"))


async def test_everything_is_there_after_a_crash(tmp_path: Path) -> None:
    """Jobs in every state, answers, keys, retries that were used up, delays, batches, order."""
    clocks = Clocks()
    async with after_a_crash(tmp_path, clocks) as store:
        await store.submit([submission(n, batch="b", key=f"k{n}", retries=1, group="g") for n in range(1, 8)])
        failure = v1.GenerationFailure(request_id="r", attempts=[v1.Attempt(provider="p")])
        await store.complete(await claimed(store), answer("kept"))
        await store.fail(await claimed(store), "BAD", "never", None, failure)
        await store.fail(await claimed(store), "LATER", "not now", 10, failure)
        await store.cancel(name(4))
        await claimed(store)
        before = {n: await store.get(name(n)) for n in (1, 2, 3, 4, 6, 7)}

    async with after_a_crash(tmp_path, clocks) as store:
        after = {n: await store.get(name(n)) for n in before}
        assert {n: after[n] for n in (1, 2, 3, 4)} == {n: before[n] for n in (1, 2, 3, 4)}
        assert text_of(await store.result(name(1))) == "kept"
        assert [existing for _, existing in await store.submit([submission(9, key="k1")])] == [True]
        assert [job.failure == failure for job in after.values() if job is not None][1:3] == [True, True]
        assert (await store.progress("b"))["g", QUEUED] == 4
        assert await store.claim("w", ["g"]) is None
        claim = await claimed(store)
        assert (claim.job.job_id, claim.tries, claim.traceparent) == (name(5), 2, "trace-5")
        assert claim.request == submission(5, key="k5").request
        assert await drained(store) == [6, 7]
        clocks.seconds += 10
        again = await claimed(store)
        assert (again.job.job_id, again.tries) == (name(3), 2)
        await store.fail(again, "AGAIN", "no luck", 1)
        assert await state(store, 3) == v1.JOB_STATE_FAILED


async def test_time_passes_while_nobody_runs(tmp_path: Path) -> None:
    """What expired meanwhile has expired, what was to be forgotten is."""
    clocks = Clocks()
    async with after_a_crash(tmp_path, clocks) as store:
        await store.submit([submission(1, ttl=10), submission(2, ttl=25), submission(3, ttl=100)])
    clocks.seconds += 30
    async with after_a_crash(tmp_path, clocks) as store:
        told: list[int | None] = []
        store.on_ended(lambda job, _: told.append(number(job)))
        assert [await state(store, n) for n in (1, 2, 3)] == [None, v1.JOB_STATE_EXPIRED, QUEUED]
        assert await drained(store) == [3]
        assert told == [1, 2]
    async with after_a_crash(tmp_path, clocks) as store:
        store.on_ended(lambda job, _: told.append(number(job)))
        await store.sweep()
        assert told == [1, 2]


async def test_a_job_that_kills_its_sidecar_is_given_up(tmp_path: Path) -> None:
    """The third sidecar that dies of it is the last."""
    for tries in (1, 2, 3):
        async with after_a_crash(tmp_path) as store:
            if tries == 1:
                await store.submit([submission(1, retries=9)])
            assert (await claimed(store)).tries == tries
    async with after_a_crash(tmp_path) as store:
        told: list[v1.Job] = []
        store.on_ended(lambda job, _: told.append(job))
        job = await store.get(name(1))
        assert job is not None
        assert (job.state, job.reason) == (v1.JOB_STATE_FAILED, "WORKER_LOST")
        assert told == [job]
    async with after_a_crash(tmp_path) as store:
        assert await store.get(name(1)) == job


async def test_any_cut_keeps_what_was_before_it(tmp_path: Path) -> None:
    """At whatever byte a file ends: what is whole before it is there, and work goes on."""
    folder, copy = tmp_path / "a", tmp_path / "b"
    sizes = [0]
    async with after_a_crash(folder) as store:
        for n in range(1, 6):
            await store.submit([submission(n)])
            sizes.append(segments(folder)[0].stat().st_size)
    data = segments(folder)[0].read_bytes()
    for size in range(0, len(data), 7):
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        (copy / segments(folder)[0].name).write_bytes(data[:size])
        async with after_a_crash(copy) as store:
            whole = sum(each <= size for each in sizes) - 1
            assert await drained(store) == list(range(1, whole + 1)), size


async def test_junk_at_the_end_is_cut(tmp_path: Path) -> None:
    """What follows it, in later files, counts."""
    for n in range(1, 4):
        async with after_a_crash(tmp_path) as store:
            await store.submit([submission(n)])
        with segments(tmp_path)[-1].open("ab") as file:
            file.write(bytes(range(50)) * n)
    async with after_a_crash(tmp_path) as store:
        assert await drained(store) == [1, 2, 3]


async def test_damage_costs_what_it_hits(tmp_path: Path) -> None:
    """Whatever byte of a file is not as it was: at most one job is lost, and the place is told."""
    folder, copy = tmp_path / "a", tmp_path / "b"
    async with after_a_crash(folder) as store:
        for n in range(1, 9):
            last = sum(file.stat().st_size for file in segments(folder))
            await store.submit([submission(n)])
    first = segments(folder)[0].name
    data = (folder / first).read_bytes()
    for place in range(0, last, 13):
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        (copy / first).write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        with structlog.testing.capture_logs() as logs:
            async with after_a_crash(copy) as store:
                assert len(await drained(store)) >= 7, place
        (told,) = [log for log in logs if "damaged" in log["event"]]
        assert told["file"] == first
        assert told["offset"] <= place < told["offset"] + told["size"]


async def test_a_damaged_file_is_not_deleted(tmp_path: Path) -> None:
    """Once no job is in it any more it is put aside."""
    async with after_a_crash(tmp_path) as store:
        await store.submit([submission(1), submission(2)])
    file = segments(tmp_path)[0]
    damaged = bytearray(file.read_bytes())
    damaged[100] ^= 0xFF
    file.write_bytes(damaged)
    store = await opened(tmp_path)
    await store.drop([name(1), name(2)])
    await store.aclose()
    assert segments(tmp_path) == []
    assert file.with_suffix(".damaged").read_bytes() == damaged


async def test_the_journal_stays_small(tmp_path: Path) -> None:
    """However many jobs come and go: about twice what is alive; a job that stays, stays."""
    noise, clocks = random.Random(1), Clocks()
    async with after_a_crash(tmp_path, clocks, segment=10_000) as store:
        await store.submit([submission(1, text="old", ttl=1e6)])
        old = await claimed(store)
        largest = 0
        for n in range(2, 1_000):
            await store.submit([submission(n, text=noise.randbytes(500).hex(), ttl=20.0)])
            await store.complete(await claimed(store), answer(noise.randbytes(500).hex()))
            clocks.seconds += 1
            await store.renew(old)
            largest = max(largest, sum(file.stat().st_size for file in segments(tmp_path)))
        assert largest < 90_000
    async with after_a_crash(tmp_path, clocks, segment=10_000) as store:
        assert (await claimed(store)).request == submission(1, text="old").request
        assert [await state(store, n) for n in (979, 999)] == [None, COMPLETED]


async def test_an_empty_queue_leaves_nothing(tmp_path: Path) -> None:
    """Once all is forgotten, and the sidecar leaves, the folder is as it was."""
    clocks = Clocks()
    store = await opened(tmp_path / "new" / "folder", clocks)
    await store.submit([submission(1, ttl=1)])
    clocks.seconds += 5
    assert await store.get(name(1)) is None
    await store.aclose()
    assert segments(tmp_path / "new" / "folder") == []


async def test_two_sidecars_cannot_share_a_folder(tmp_path: Path) -> None:
    """The second is told so, and can have it once the first has left."""
    first = await opened(tmp_path)
    second = MemoryJobs(JobJournal(tmp_path))
    with pytest.raises(OSError, match="another sidecar"):
        await second.start()
    await first.aclose()
    await second.start()
    await second.aclose()


async def test_with_fsync(tmp_path: Path) -> None:
    """The same, forced to the disk."""
    store = MemoryJobs(JobJournal(tmp_path, fsync=True))
    await store.start()
    await asyncio.gather(*(store.submit([submission(n)]) for n in range(1, 30)))
    await crash(store)
    async with after_a_crash(tmp_path, Clocks()) as again:
        assert sorted(map(str, await drained(again))) == sorted(map(str, range(1, 30)))


async def test_a_file_of_another_version_is_not_misread(tmp_path: Path) -> None:
    """Starting fails, rather than forget jobs."""
    async with after_a_crash(tmp_path) as store:
        await store.submit([submission(1)])
    with segments(tmp_path)[0].open("ab") as file:
        file.write(frame(0, b"W\x93\x01\x02\x03"))
    with pytest.raises(OSError, match="another version"):
        await opened(tmp_path)


KILLED = """
import asyncio, sys
from pathlib import Path
from outrider.stores.job_journal import JobJournal
from outrider.stores.memory_jobs import MemoryJobs
from tests.stores.job_rig import answer, submission

async def main():
    store = MemoryJobs(JobJournal(Path(sys.argv[1]), segment_bytes=20_000), capacity=10**6)
    await store.start()
    first = int(sys.argv[2])

    async def produce(start):
        for n in range(start, start + 10**6):
            if n % 3 == 0:
                await store.submit([submission(5 * n + k, tenant=f"t{n % 4}") for k in range(5)])
                for k in range(5):
                    print("accepted", 5 * n + k, flush=True)
            else:
                await store.submit([submission(5 * n)])
                print("accepted", 5 * n, flush=True)

    async def work():
        while True:
            claim = await store.claim("w")
            if claim is None:
                await asyncio.sleep(0.001)
                continue
            await store.complete(claim, answer(claim.job.job_id))
            print("completed", int(claim.job.job_id, 16), flush=True)

    await asyncio.gather(produce(first), produce(first + 10**7), work())

asyncio.run(main())
"""


def test_sigkill_loses_nothing(tmp_path: Path) -> None:
    """What the process said it had accepted or completed is so, though it was killed at any moment."""
    said: dict[str, set[int]] = {"accepted": set(), "completed": set()}
    for run, lines in enumerate([60, 250, 700], start=1):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "jobs"), str(run * 10**8)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            heard = [child.stdout.readline() for _ in range(lines)]
            child.kill()
            heard += child.stdout.read().splitlines(keepends=True)
        for line in heard:
            if line.endswith("\n") and line.startswith(("accepted", "completed")):
                said[line.split()[0]].add(int(line.split()[1]))

    async def check() -> None:
        store = MemoryJobs(JobJournal(tmp_path / "jobs"), capacity=10**6)
        await store.start()
        for which in said["completed"]:
            assert await state(store, which) == COMPLETED
            assert text_of(await store.result(name(which))) == name(which)
        for which in said["accepted"] - said["completed"]:
            assert await state(store, which) in (QUEUED, COMPLETED)
        await crash(store)

    assert len(said["accepted"]) > 300
    assert len(said["completed"]) > 50
    asyncio.run(check())


FULL_DISK = """
import asyncio, os, resource, signal, sys
from pathlib import Path
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.job_journal import JobJournal
from outrider.stores.memory_jobs import MemoryJobs
from tests.stores.job_rig import answer, claimed, submission

async def main():
    store = MemoryJobs(JobJournal(Path(sys.argv[1])))
    await store.start()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    await store.submit([submission(1), submission(2)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    for n in (3, 4):
        try:
            await store.submit([submission(n)])
        except StoreUnavailableError:
            print("refused")
    assert await store.complete(await claimed(store), answer("done meanwhile"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await asyncio.sleep(1.1)  # after which a disk that failed is tried again
    await store.submit([submission(5)])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_a_full_disk_refuses_jobs_and_goes_on(tmp_path: Path) -> None:
    """Nothing is accepted that is not on disk; what ended meanwhile is written once there is room."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.stdout.splitlines().count("refused") == 2, child.stderr
    assert child.stdout.count("cannot be written") == child.stdout.count("written again") == 1

    async def check() -> None:
        store = MemoryJobs(JobJournal(tmp_path))
        await store.start()
        assert text_of(await store.result(name(1))) == "done meanwhile"
        assert await drained(store) == [2, 5]
        await crash(store)

    asyncio.run(check())


async def test_what_is_kept_counts_too(tmp_path: Path) -> None:
    """After a crash the watermarks stand where they stood."""
    async with after_a_crash(tmp_path, capacity=10) as store:
        await store.submit([submission(n) for n in range(1, 10)])
    async with after_a_crash(tmp_path, capacity=10) as store:
        with pytest.raises(QueueFullError):
            await store.submit([submission(20)])


async def test_a_journal_that_was_closed_accepts_nothing(tmp_path: Path) -> None:
    """With StoreUnavailableError, not silently."""
    store = await opened(tmp_path)
    await store.aclose()
    with pytest.raises(StoreUnavailableError):
        await store.submit([submission(1)])
