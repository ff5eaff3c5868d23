"""A folder in which the jobs of one sidecar survive it.

Every change is appended to the last segment: a job whole, how it stands now, or that it is gone. What reached
`write` survives SIGKILL; with `fsync` also a loss of power. A segment is dropped once every job that is whole
in it has been written again, or is gone: no pause, and never more than about twice what is alive.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from outrider.stores.job_record import JobRecord, Standing
from outrider.stores.journal_frames import find_frame, frame, frames, is_torn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HEADER = b"outrider jobs 1\n"
_NAME = re.compile(r"(\d{10})\.jobs")
_SEGMENT = 4 * 2**20  # bytes
_WHOLE, _STANDING, _GONE = b"W", b"S", b"G"

_write = msgspec.msgpack.Encoder().encode
_read_whole = msgspec.msgpack.Decoder(JobRecord).decode
_read_standing = msgspec.msgpack.Decoder(tuple[str, Standing]).decode


class Left(NamedTuple):
    """A job that an earlier process left, and where it lies whole."""

    record: JobRecord
    segment: int
    size: int


class Damage(NamedTuple):
    """Bytes that cannot be read."""

    file: str
    offset: int
    size: int


def whole(record: JobRecord) -> bytes:
    """The entry of a job with all that is known of it."""
    return frame(0, _WHOLE + _write(record))


def standing(record: JobRecord) -> bytes:
    """The entry of how a job stands now."""
    return frame(0, _STANDING + _write((record.job_id, record.standing)))


def gone(job_id: str) -> bytes:
    """The entry of a job that is forgotten."""
    return frame(0, _GONE + job_id.encode())


class JobJournal:
    """Blocks, and is to be called by one thread at a time.

    `open` comes first. Methods raise OSError where the folder cannot be used; `append` may be tried again.
    """

    damages: Sequence[Damage] = ()
    """Found by `open`. A file that has some is never deleted: it ends as `.damaged`."""

    def __init__(self, folder: Path, *, fsync: bool = False, segment_bytes: int = _SEGMENT) -> None:
        self.segment_bytes = segment_bytes
        self._folder = folder
        self._fsync = fsync
        self._lock: int | None = None
        self._file: int | None = None  # of the last segment, while it can be written to
        self._sizes: dict[int, int] = {}  # of the segments, oldest first
        self._last = 0  # segment

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(self._sizes.values())

    @property
    def first(self) -> int:
        """The oldest segment that is left."""
        return next(iter(self._sizes), self._last)

    @property
    def last(self) -> int:
        """The segment that is written to."""
        return self._last

    def open(self) -> list[Left]:
        """Take the folder for this process; what earlier ones left in it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left = self._replay()
        except BaseException as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                raise OSError(errno.EBUSY, "another sidecar uses it") from None
            raise
        self._lock = lock
        return left

    def append(self, entries: bytes) -> int:
        """Write entries: all, or none. The segment in which they are."""
        if self._file is None or self._sizes[self._last] >= self.segment_bytes:
            self._begin_segment()
        self._write(entries)
        if self._fsync and self._file is not None:
            os.fdatasync(self._file)
        return self._last

    def trim(self, before: int) -> None:
        """Drop the segments before this one; oldest first, as no job may outlive the note that it is gone."""
        damaged = {each.file for each in self.damages}
        for old in [each for each in self._sizes if each < before]:
            path = self._path(old)
            if path.name in damaged:
                path.replace(path.with_suffix(".damaged"))
            else:
                path.unlink(missing_ok=True)
            del self._sizes[old]

    def close(self, *, empty: bool) -> None:
        """Leave the folder to others. `empty`: drop everything."""
        self._end_segment()
        if empty and self._lock is not None:
            self.trim(self._last + 1)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _replay(self) -> list[Left]:
        found: dict[str, Left] = {}
        damages: list[Damage] = []
        self._sizes.clear()
        for name in sorted(os.listdir(self._folder)):  # noqa: PTH208 - names are what is wanted
            if match := _NAME.fullmatch(name):
                self._last = int(match[1])
                data = self._path(self._last).read_bytes()
                self._sizes[self._last] = len(data)
                entries, gaps = _read(data)
                for entry in entries:
                    self._apply(entry, found)
                damages += [Damage(name, start, end - start) for start, end in gaps]
        self.damages = damages
        return list(found.values())

    def _apply(self, entry: bytes, found: dict[str, Left]) -> None:
        kind, body = entry[:1], entry[1:]
        try:
            if kind == _WHOLE:
                record = _read_whole(body)
                found[record.job_id] = Left(record, self._last, len(entry))
            elif kind == _STANDING:
                job_id, now = _read_standing(body)
                if job_id in found:
                    found[job_id].record.standing = now
            else:
                found.pop(body.decode(), None)
        except msgspec.MsgspecError as error:
            raise OSError(errno.EINVAL, f"written by another version: {error}") from None

    def _begin_segment(self) -> None:
        if self._lock is None:
            raise OSError(errno.ENOLCK, "the journal is not open")
        self._end_segment()
        self._last += 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._path(self._last), flags, 0o600)
        self._sizes[self._last] = 0
        self._write(_HEADER)
        if self._fsync:
            self._sync_folder()

    def _end_segment(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, data: bytes) -> None:
        """Write at the end. What was written in part is taken back."""
        if self._file is None:
            raise OSError(errno.EBADF, "the journal is not open")
        try:
            if os.write(self._file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            try:
                os.ftruncate(self._file, self._sizes[self._last])
            finally:
                self._end_segment()
            raise
        self._sizes[self._last] += len(data)

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:010d}.jobs"


def _read(data: bytes) -> tuple[list[bytes], list[tuple[int, int]]]:
    """The entries of a segment, and where it is damaged: a frame that a crash has torn at its end is not."""
    entries: list[bytes] = []
    gaps = [] if data.startswith(_HEADER[: len(data)]) else [(0, len(_HEADER))]
    start = len(_HEADER)
    while start < len(data):
        for found in frames(data, start):
            entries.append(found.record)
            start = found.end
        following = find_frame(data, 0, start)
        if following < len(data) or not is_torn(data, start):
            gaps.append((start, following))
        start = following
    return entries, gaps
