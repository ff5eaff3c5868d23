"""Every record counts exactly once, whatever happens between a sidecar, its disk and the ledger."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.core.store_errors import StoreRewoundError, StoreUnavailableError
from outrider.stores.backlog import Backlog
from outrider.stores.journal import Journal
from outrider.stores.journal_desk import JournalDesk
from outrider.stores.ledger_sender import LedgerSender
from tests.support.ledger import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider.core.ledger import LedgerBatch

Answer: TypeAlias = Literal["counted", "away", "reply lost", "rewound"]


class Shared:
    """A ledger as a fleet has it: it outlives its sidecars, and answers as it is told; then it is well."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.batches: list[tuple[str, int, list[str]]] = []

    async def append(self, batch: LedgerBatch) -> None:
        answer = self.answers.pop(0) if self.answers else "counted"
        if answer == "away":
            raise StoreUnavailableError
        if answer == "rewound":
            del self.batches[-3:]
            raise StoreRewoundError
        last = max((number for source, number, _ in self.batches if source == batch.source), default=0)
        if batch.number > last:
            ids = [each.request_id for each in batch.records]
            self.batches.append((batch.source, batch.number, ids))
        if answer == "reply lost":
            raise StoreUnavailableError

    @property
    def counted(self) -> Counter[str]:
        return Counter(name for _, _, ids in self.batches for name in ids)


class Run:
    """One process of a sidecar, from start to crash."""

    def __init__(self, folder: Path, shared: Shared, max_bytes: int) -> None:
        self.journal = Journal(folder, 2**20)
        self.backlog = Backlog(self.journal.source, max_records=10_000, max_bytes=max_bytes)
        self.desk = JournalDesk(self.journal, self.backlog, keep=False)
        self.sender = LedgerSender(shared, self.backlog, self.desk, interval=0.0, keep=True)

    async def finish(self, numbers: Sequence[int], *, written: bool) -> None:
        """Requests end; their records may not reach the disk."""
        batches = {self.backlog.add(record(n).SerializeToString(), 0.0): None for n in numbers}
        if written:
            await self.desk.write(batches)
            self.backlog.relieve()

    async def crash(self) -> None:
        """What is in memory is gone, and the lock on the folder with it."""
        await asyncio.to_thread(self.journal.close, empty=False)
        self.desk._thread._thread.shutdown()


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.usage"))


def tear(folder: Path, size: int) -> None:
    """Cut so many bytes off the end of what was written last."""
    for file in segments(folder)[-1:]:
        data = file.read_bytes()
        file.write_bytes(data[: max(0, len(data) - size)])


FINISH = st.tuples(st.just("finish"), st.integers(1, 4))
SEAL = st.tuples(st.just("seal"), st.just(0))
SEND = st.tuples(st.just("send"), st.lists(st.sampled_from(["counted", "away", "reply lost"]), max_size=3))
CRASH = st.tuples(st.just("crash"), st.integers(0, 2))
TEAR = st.tuples(st.just("tear"), st.integers(1, 400))


@settings(max_examples=80)
@given(st.lists(st.one_of(FINISH, SEAL, SEND, CRASH, TEAR), max_size=14), st.sampled_from([0, 2**20]))
def test_every_record_counts_once(steps: list[tuple[str, Any]], max_bytes: int) -> None:
    """Rows 23 and 30: appends, retries, lost replies, crashes before and after, torn files, replays."""

    async def play(folder: Path) -> None:
        shared, number = Shared(), 0
        kept: list[int] = []  # records that are on disk, in the order they were written
        run = Run(folder, shared, max_bytes)
        await run.desk.prepare()
        for what, how in steps:
            if what == "finish":
                numbers = range(number, number + how)
                await run.finish(numbers, written=True)
                kept += numbers
                number = numbers.stop
            elif what == "seal" and run.backlog:
                run.backlog.take()
            elif what == "send":
                shared.answers = how
                await run.sender.drain()
                shared.answers = []
            elif what in {"crash", "tear"}:
                unwritten = range(number, number + (how if what == "crash" else 0))
                number = unwritten.stop
                await run.finish(unwritten, written=False)
                await run.crash()
                if what == "tear":
                    tear(folder, how)
                    kept = []  # of the earlier ones any may be gone
                run = Run(folder, shared, max_bytes)
                await run.desk.prepare()
        await run.sender.drain()
        counted = shared.counted
        assert set(counted.values()) <= {1}
        assert {f"request-{n}" for n in kept} <= set(counted)
        assert run.backlog.lost == 0 or any(what == "tear" for what, _ in steps)
        await run.desk.aclose()
        assert not segments(folder)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder)))


REWIND = st.lists(st.sampled_from(["counted", "away", "reply lost", "rewound"]), max_size=5)


@settings(max_examples=80)
@given(st.lists(st.one_of(FINISH, SEAL, st.tuples(st.just("send"), REWIND)), max_size=14))
def test_what_a_replica_forgot_is_sent_again(steps: list[tuple[str, Any]]) -> None:
    """Row 23: a replica takes over that never heard of the last batches; each counts once all the same."""

    async def play() -> None:
        shared, number = Shared(), 0
        backlog = Backlog("me", max_records=10_000, max_bytes=2**20)
        sender = LedgerSender(shared, backlog, None, interval=0.0, keep=True)
        for what, how in steps:
            if what == "finish":
                for _ in range(how):
                    backlog.add(record(number).SerializeToString(), 0.0)
                    number += 1
            elif what == "seal" and backlog:
                backlog.take()
            elif what == "send":
                shared.answers = how
                while shared.answers and backlog:
                    await sender.drain()
                shared.answers = []
        await sender.drain()
        assert shared.counted == Counter(f"request-{n}" for n in range(number))

    asyncio.run(play())
