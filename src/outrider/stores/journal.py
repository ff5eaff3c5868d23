"""A folder in which usage records wait: they survive a crash of the sidecar, and a Redis that is away.

Records are appended to segments, files of one process each. What reached `write` survives SIGKILL; nothing is
forced to the disk, so a loss of power may take the last seconds.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from outrider.stores.journal_frames import frames

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = re.compile(rb"outrider usage 1 ([0-9a-f]{32})\n")
_HEADER_BYTES = 50
_NAME = re.compile(r"(\d{10})\.usage")
_SEGMENTS = 16  # in a full journal, about
_SMALLEST_SEGMENT = 4096


class Place(NamedTuple):
    """Where a batch lies."""

    segment: int
    offset: int
    length: int


class Stored(NamedTuple):
    """A batch that an earlier process left."""

    source: str
    number: int
    records: int
    place: Place


class Journal:
    """Blocks, and is to be called by one thread at a time. `source` is new with every process.

    `open` comes first, and again where it failed. Methods raise OSError where the folder cannot be used, and
    may be tried again later.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.source = uuid4().hex
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = max(_SMALLEST_SEGMENT, max_bytes // _SEGMENTS)
        self._lock: int | None = None
        self._file: int | None = None  # of the last segment, while it can be written to
        self._sizes: dict[int, int] = {}  # of the segments, oldest first
        self._last = 0  # segment
        self._number = 0  # of the batch written last

    def open(self) -> list[Stored]:
        """Take the folder for this process; what earlier ones left in it, oldest first."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left = self._scan()
        except BaseException as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                raise OSError(errno.EBUSY, "another sidecar uses it") from None
            raise
        self._lock = lock
        return left

    def append(self, number: int, data: bytes) -> Place:
        """Write frames of a batch: all, or none. They lie together, unless a write of the batch failed."""
        full = self._sizes.get(self._last, 0) >= self._segment_bytes
        if self._file is None or (full and number != self._number):
            self._begin_segment()
        self._make_room(len(data))
        offset = self._sizes[self._last]
        self._write(data, offset)
        self._sizes[self._last] = offset + len(data)
        self._number = number
        return Place(self._last, offset, len(data))

    @property
    def first_segment(self) -> int:
        """The oldest that is left: what lay in older ones is gone."""
        return next(iter(self._sizes), self._last + 1)

    def read(self, place: Place) -> bytes:
        """The frames at a place; less where the file was damaged."""
        file = os.open(self._path(place.segment), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(file, place.length, place.offset)
        finally:
            os.close(file)

    def trim(self, segment: int) -> None:
        """Drop the segments before this one."""
        for old in [each for each in self._sizes if each < segment]:
            self._drop(old)

    def close(self, *, empty: bool) -> None:
        """Leave the folder to others. `empty`: drop everything."""
        self._end_segment()
        if empty:
            for segment in list(self._sizes):
                self._drop(segment)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _scan(self) -> list[Stored]:
        found: list[Stored] = []
        self._sizes.clear()
        for name in sorted(os.listdir(self._folder)):  # noqa: PTH208 - names are what is wanted
            if match := _NAME.fullmatch(name):
                self._last = int(match[1])
                data = self._path(self._last).read_bytes()
                self._sizes[self._last] = len(data)
                found += _batches(self._last, data)
        return found

    def _begin_segment(self) -> None:
        if self._lock is None:
            raise OSError(errno.ENOLCK, "the journal is not open")
        self._end_segment()
        self._last += 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._path(self._last), flags, 0o600)
        self._sizes[self._last] = _HEADER_BYTES
        self._write(b"outrider usage 1 %s\n" % self.source.encode(), 0)

    def _end_segment(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, data: bytes, offset: int) -> None:
        """Write at the end, which is at `offset`. What was written in part is taken back."""
        if self._file is None:
            raise OSError(errno.EBADF, "the journal is not open")
        try:
            if os.write(self._file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            try:
                os.ftruncate(self._file, offset)
            finally:
                if offset == 0:
                    self._drop(self._last)
                self._end_segment()
            raise

    def _make_room(self, size: int) -> None:
        while sum(self._sizes.values()) + size > self._max_bytes and len(self._sizes) > 1:
            self._drop(self.first_segment)

    def _drop(self, segment: int) -> None:
        del self._sizes[segment]
        # What stays for lack of permission is sent once more by the next process, and counts nothing again.
        try:
            self._path(segment).unlink(missing_ok=True)
        except OSError:
            return

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:010d}.usage"


def _batches(segment: int, data: bytes) -> list[Stored]:
    """The batches of a segment, up to its end or to what is torn or damaged."""
    header = _HEADER.match(data)
    found: list[Stored] = []
    if header is None:
        return found
    source, start = header[1].decode(), header.end()
    for number, _, end in frames(data, start):
        last = found[-1] if found else None
        if last is not None and last.number == number:
            place = last.place._replace(length=end - last.place.offset)
            found[-1] = last._replace(records=last.records + 1, place=place)
        else:
            found.append(Stored(source, number, 1, Place(segment, start, end - start)))
        start = end
    return found
