"""The journal on a real file system: torn, damaged, full, locked, read-only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.stores.journal import Journal, Stored
from outrider.stores.journal_frames import OVERHEAD, frame, frames

ROOT = Path(__file__).parents[2]


def opened(folder: Path, max_bytes: int = 2**20) -> tuple[Journal, list[Stored]]:
    """A journal that has the folder, and what it found there."""
    journal = Journal(folder, max_bytes)
    return journal, journal.open()


def batch(number: int, *records: bytes) -> bytes:
    return b"".join(frame(number, record) for record in records)


def content(journal: Journal, left: list[Stored]) -> list[tuple[int, list[bytes]]]:
    """Numbers and records of batches."""
    return [(each.number, [found.record for found in frames(journal.read(each.place))]) for each in left]


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.usage"))


def test_what_was_written_is_found_by_the_next_process(tmp_path: Path) -> None:
    """Batches come back in order, each with the source and the number it had, also if written in parts."""
    first, left = opened(tmp_path / "a" / "b")
    assert left == []
    first.append(1, batch(1, b"one"))
    first.append(1, batch(1, b"two"))
    first.append(2, batch(2, b"three"))
    first.close(empty=False)

    second, left = opened(tmp_path / "a" / "b")
    assert content(second, left) == [(1, [b"one", b"two"]), (2, [b"three"])]
    assert [each.records for each in left] == [2, 1]
    assert {each.source for each in left} == {first.source} != {second.source}
    second.append(1, batch(1, b"four"))
    second.close(empty=False)

    third, left = opened(tmp_path / "a" / "b")
    assert [(each.source, each.number) for each in left] == [
        (first.source, 1),
        (first.source, 2),
        (second.source, 1),
    ]
    third.close(empty=True)
    assert segments(tmp_path / "a" / "b") == []


RECORDS = [b"a" * 5, b"b" * 40, b"", b"\x00" * 20]
FRAMES = b"".join(frame(number, record) for number, record in enumerate(RECORDS, start=1))
ENDS = [found.end for found in frames(FRAMES)]


def whole(size: int) -> int:
    """Records that lie within so many bytes."""
    return sum(end <= size for end in ENDS)


def test_any_cut_keeps_the_records_before_it(tmp_path: Path) -> None:
    """At whatever byte a file ends, what is whole before it is there and nothing fails."""
    journal, _ = opened(tmp_path)
    journal.append(1, FRAMES)
    journal.close(empty=False)
    (file,) = segments(tmp_path)
    data = file.read_bytes()
    header = len(data) - len(FRAMES)

    for size in range(len(data)):
        file.write_bytes(data[:size])
        journal, left = opened(tmp_path)
        assert len(left) == whole(size - header), size
        journal.close(empty=False)


@given(place=st.integers(0, len(FRAMES) - 1), flip=st.integers(1, 255), junk=st.binary(max_size=60))
def test_any_damage_keeps_the_records_before_it(place: int, flip: int, junk: bytes) -> None:
    """A byte that is not what it was, or junk or zeros at the end, never bring a wrong record."""
    damaged = bytearray(FRAMES + junk)
    damaged[place] ^= flip
    good = [found.record for found in frames(bytes(damaged))]

    assert good == RECORDS[: whole(place)]
    assert [found.record for found in frames(FRAMES + bytes(len(junk)))] == RECORDS


@given(st.binary(max_size=200))
def test_junk_is_no_record(junk: bytes) -> None:
    """Whatever a file holds, reading it ends."""
    assert list(frames(junk)) == [] or len(junk) >= OVERHEAD


def test_a_full_journal_drops_its_oldest(tmp_path: Path) -> None:
    """It never grows beyond its bound by more than a batch, and keeps the newest."""
    journal, _ = opened(tmp_path, max_bytes=40_000)
    for number in range(1, 101):
        journal.append(number, batch(number, bytes(1_000)))
        assert sum(file.stat().st_size for file in segments(tmp_path)) <= 40_000
    first = journal.first_segment
    journal.close(empty=False)

    journal, left = opened(tmp_path, max_bytes=40_000)
    numbers = [each.number for each in left]
    assert numbers == list(range(numbers[0], 101))
    assert len(numbers) >= 30
    assert left[0].place.segment == first > 1
    journal.close(empty=True)


def test_what_is_not_needed_is_dropped(tmp_path: Path) -> None:
    """Segments before one go; the last, which is written to, stays."""
    journal, _ = opened(tmp_path, max_bytes=2**16)
    places = [journal.append(number, batch(number, bytes(3_000))) for number in range(1, 9)]
    journal.trim(places[4].segment)
    assert journal.first_segment == places[4].segment
    with pytest.raises(FileNotFoundError):
        journal.read(places[0])
    journal.trim(places[-1].segment)
    assert len(segments(tmp_path)) == 1
    journal.close(empty=False)


def test_two_sidecars_cannot_share_a_folder(tmp_path: Path) -> None:
    """The second is told so, and can have it once the first has left."""
    first, _ = opened(tmp_path)
    second = Journal(tmp_path, 2**20)
    with pytest.raises(OSError, match="another sidecar"):
        second.open()
    with pytest.raises(OSError, match="not open"):
        second.append(1, batch(1, b"x"))
    first.close(empty=False)
    assert second.open() == []
    second.close(empty=True)


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    """Files of other names stay; one that only looks like a segment holds nothing."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "0000000007.usage").write_text("not a journal")
    journal, left = opened(tmp_path)
    assert left == []
    assert journal.append(1, batch(1, b"x")).segment == 8
    journal.close(empty=True)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["lock", "notes.txt"]


FULL_DISK = """
import sys, resource
from pathlib import Path
from outrider.stores.journal import Journal
from outrider.stores.journal_frames import frame

journal = Journal(Path(sys.argv[1]), 2**20)
journal.open()
journal.append(1, frame(1, b"a" * 1000))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
try:
    journal.append(2, frame(2, b"b" * 1000))  # half of it has room
except OSError as error:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print(journal.append(3, frame(3, b"c")).segment)
"""


def test_a_write_that_has_no_room_is_taken_back(tmp_path: Path) -> None:
    """Row 23: half a record is never left where others follow; once there is room, it goes on."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["refused", "2"], done.stderr
    journal, left = opened(tmp_path)
    assert content(journal, left) == [(1, [b"a" * 1_000]), (3, [b"c"])]
    journal.close(empty=True)


FULL_FOR_A_WHILE = """
import asyncio, os, resource, signal, sys
from pathlib import Path
from outrider.stores.journal import Journal
from outrider.stores.ledger_writer import LedgerWriter
from tests.stores.test_ledger_writer import QUICK, Gate, settled, until

async def main():
    writer = LedgerWriter(Gate(), Journal(Path(sys.argv[1]), 2**20), **QUICK)
    await writer.start()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    number = 0
    for room in (hard, 1, hard):
        await asyncio.sleep(1.1 if number else 0)  # after which a disk that failed is tried again
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        for _ in range(3):
            writer.request_finished(settled(number))
            number += 1
        await until(lambda: not writer._finished)
        await asyncio.sleep(0.1)
    print(writer.waiting, writer.lost, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_a_full_disk_costs_a_warning(tmp_path: Path) -> None:
    """Row 23: it goes on in memory, says so once, and journals again once there is room."""
    child = subprocess.run(
        [sys.executable, "-c", FULL_FOR_A_WHILE, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "9 0" in child.stdout.splitlines(), child.stderr
    assert child.stdout.count("cannot be used") == child.stdout.count("written again") == 1
    journal, left = opened(tmp_path)
    ids = [
        v1.UsageRecord.FromString(record).request_id
        for _, batch in content(journal, left)
        for record in batch
    ]
    assert ids == ["r0", "r1", "r2", "r6", "r7", "r8"]
    journal.close(empty=True)
