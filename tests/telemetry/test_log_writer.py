from __future__ import annotations

import os
import select
import socket
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from outrider.telemetry.log_event import event_of
from outrider.telemetry.log_writer import LogWriter

if TYPE_CHECKING:
    from outrider.telemetry.log_event import Entry


def render(entry: Entry) -> bytes:
    assert not callable(entry)
    return f"{entry.event}\n".encode()


def notice(count: int) -> bytes:
    return f"dropped {count}\n".encode()


def writer_to(fd: int, capacity: int = 64) -> LogWriter:
    return LogWriter(fd, render, notice, capacity)


def put(writer: LogWriter, text: str) -> None:
    writer.put(event_of("info", text, {}))


def read_all(fd: int) -> list[str]:
    with open(fd, encoding="ascii") as stream:
        return stream.read().splitlines()


class Reader:
    """Reads a pipe to its end, on a thread of its own."""

    def __init__(self, fd: int) -> None:
        self._lines: list[str] = []
        self._thread = threading.Thread(target=lambda: self._lines.extend(read_all(fd)))
        self._thread.start()

    def lines(self) -> list[str]:
        self._thread.join()
        return self._lines


def dropped_in(lines: list[str]) -> int:
    return sum(int(line.split()[1]) for line in lines if line.startswith("dropped"))


def test_stalled_reader_costs_lines_and_not_time() -> None:
    """While nobody reads, logging goes on at once; lines too many are dropped, counted, and told of later."""
    read_end, write_end = os.pipe()
    writer = writer_to(write_end)
    text = "x" * 1_000
    begun = time.monotonic()
    for _ in range(10_000):  # ten megabytes, into a pipe that holds 64 KiB
        put(writer, text)
    assert time.monotonic() - begun < 5.0
    reader = Reader(read_end)
    writer.close(timeout=10.0)
    lines = reader.lines()
    assert writer.dropped > 9_000
    assert lines.count(text) == 10_000 - writer.dropped
    assert dropped_in(lines) == writer.dropped


def test_close_gives_up_on_a_stalled_reader() -> None:
    """`close` takes no longer than its timeout where nobody reads, and counts what is left as dropped."""
    read_end, write_end = os.pipe()
    writer = writer_to(write_end, capacity=1_000)
    for _ in range(200):
        put(writer, "x" * 1_000)
    begun = time.monotonic()
    writer.close(timeout=0.1)
    assert time.monotonic() - begun < 5.0
    lines = read_all(read_end)
    assert 0 < writer.dropped < 200
    assert len(lines) == 200 - writer.dropped


def test_closed_pipe_is_survived() -> None:
    """A pipe whose reader has gone costs its lines and nothing else."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = writer_to(write_end)
    put(writer, "into the void")
    writer.close()
    assert writer.dropped == 1


def test_full_disk_is_survived() -> None:
    """A disk that is full costs its lines and nothing else."""
    writer = writer_to(os.open("/dev/full", os.O_WRONLY))
    put(writer, "no room")
    writer.close()
    assert writer.dropped == 1


def test_stream_that_recovers_hears_of_the_loss() -> None:
    """When a stream takes lines again, the first report says how many are missing."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write_end, b"filler\n" * 100)
    writer = writer_to(write_end, capacity=1)
    for _ in range(50):
        put(writer, "x")
    reader = Reader(read_end)
    writer.close(timeout=10.0)
    lines = reader.lines()
    assert dropped_in(lines) == writer.dropped == 50 - lines.count("x")


def test_lines_are_written_whole() -> None:
    """A write holds whole lines and is atomic on a pipe, so that lines of two processes do not mix."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        with closing(writer_to(ours.detach(), capacity=1_000)) as writer:
            for number in range(100):
                put(writer, f"{number} " + "x" * (number * 3))
        packets = []
        while packet := theirs.recv(65_536):
            packets.append(packet)
    assert b"".join(packets).count(b"\n") == 100
    assert 1 < len(packets) < 100
    assert all(packet.endswith(b"\n") and len(packet) <= select.PIPE_BUF for packet in packets)


def test_line_longer_than_a_write() -> None:
    """A line that is longer than one write arrives in full."""
    read_end, write_end = os.pipe()
    with closing(writer_to(write_end)) as writer:
        put(writer, "x" * 20_000)
    assert read_all(read_end) == ["x" * 20_000]


def test_nothing_is_taken_after_close() -> None:
    """What is put after `close` is dropped and counted; closing again does nothing."""
    read_end, write_end = os.pipe()
    writer = writer_to(write_end)
    writer.close()
    put(writer, "too late")
    writer.close()
    assert writer.dropped == 1
    assert read_all(read_end) == []


def test_many_threads_may_log() -> None:
    """Lines of several threads all arrive, each thread's in its order."""
    read_end, write_end = os.pipe()
    with closing(writer_to(write_end, capacity=10_000)) as writer:
        reader = Reader(read_end)
        threads = [
            threading.Thread(target=lambda name=name: [put(writer, f"{name}{i:03}") for i in range(200)])
            for name in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = reader.lines()
    for name in "abcd":
        assert [line for line in lines if line[0] == name] == [f"{name}{i:03}" for i in range(200)]
