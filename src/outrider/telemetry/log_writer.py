"""The thread that turns log entries into lines and writes them: the event loop never waits for a disk."""

from __future__ import annotations

import os
import queue
import select
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outrider.telemetry.log_event import Entry

# Others join the batch meanwhile, and what they put wakes nobody up.
_GATHER_SECONDS = 0.02
# A write of this size to a pipe is atomic, and does not block once the pipe is writable. Rendering as much
# takes about as long as the thread may hold the interpreter lock while the event loop wants it.
_MAX_WRITE = select.PIPE_BUF
_POLL_MILLISECONDS = 100
_JOIN_GRACE_SECONDS = 1.0


class LogWriter:
    """Owns a thread and a file descriptor from here to `close`.

    `render` makes one line of an entry and `report_drops` one of a number; both run on the thread.
    """

    def __init__(
        self, fd: int, render: Callable[[Entry], bytes], report_drops: Callable[[int], bytes], capacity: int
    ) -> None:
        self._fd = fd
        self._render = render
        self._report_drops = report_drops
        self._capacity = capacity
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._refused = 0  # lines that found the queue full, or the writer closed
        self._lost = 0  # lines that could not be written
        self._reported = 0
        self._deadline: float | None = None  # set once closing
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._thread = threading.Thread(target=self._run, name="log-writer")
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that never reached the stream."""
        return self._refused + self._lost

    def put(self, entry: Entry) -> None:
        """Hand over a line, or drop it. Never blocks or raises; also for finalisers and signal handlers."""
        if self._deadline is None and self._queue.qsize() < self._capacity:
            self._queue.put(entry)
        else:
            self._refused += 1

    def close(self, timeout: float = 2.0) -> None:
        """Write what is queued, for at most `timeout` seconds, and end the thread. Idempotent."""
        if self._deadline is not None:
            return
        self._deadline = time.monotonic() + timeout
        self._queue.put(None)
        self._thread.join(timeout + _JOIN_GRACE_SECONDS)
        if not self._thread.is_alive():
            os.close(self._fd)

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            time.sleep(_GATHER_SECONDS)
            closing = self._write_lines(entry)
            if self.dropped > self._reported:
                self._report()
            if closing:
                return

    def _write_lines(self, entry: Entry | None) -> bool:
        """Write `entry` and all that waits behind it; whether the end was met."""
        lines, count = bytearray(), 0
        while entry is not None:
            line = self._render(entry)
            if lines and len(lines) + len(line) > _MAX_WRITE:
                self._write(lines, count)
                lines, count = bytearray(), 0
            lines += line
            count += 1
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                break
        self._write(lines, count)
        return entry is None

    def _report(self) -> None:
        dropped = self.dropped
        if self._write(self._report_drops(dropped - self._reported), 0):
            self._reported = dropped

    def _write(self, data: bytes | bytearray, count: int) -> bool:
        """Write `count` whole lines, waiting while the stream is stalled; whether they were written."""
        try:
            for chunk in _chunks(data):
                self._write_chunk(chunk)
        except OSError:  # a closed pipe, a full disk, a reader that stalls until the end
            self._lost += count
            return False
        return True

    def _write_chunk(self, chunk: memoryview) -> None:
        while chunk:
            late = self._deadline is not None and time.monotonic() >= self._deadline
            if self._poll.poll(0 if late else _POLL_MILLISECONDS):
                chunk = chunk[os.write(self._fd, chunk) :]
            elif late:
                raise TimeoutError


def _chunks(data: bytes | bytearray) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), _MAX_WRITE):
        yield view[start : start + _MAX_WRITE]
