"""Sends what was recorded of sidecars as fast as Redis answers."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import hiredis

from benchmarks.redis_server import ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.tape import Batch

_CHUNK = 65_536


def forget(port: int) -> None:
    """Empty Redis, whose scripts stay."""
    ask(port, "FLUSHALL")


def replay(port: int, tapes: Sequence[Sequence[Batch]], connections: int) -> float:
    """Send it all, over so many connections, each as fast as it is answered. Gives the seconds."""
    parts = [part for tape in tapes for part in _split(tape, max(1, connections // len(tapes)))]
    with _open(port, parts) as (selector, players):
        began = time.perf_counter()
        for player in players:
            player.play()
        playing = len(players)
        while playing:
            for key, _ in selector.select():
                playing -= key.data.hear()
        return time.perf_counter() - began


class _Player:
    """One connection, and what is to be sent on it."""

    def __init__(self, port: int, batches: Sequence[Batch]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._batches = iter(batches)
        self._reader = hiredis.Reader()
        self._awaited = 0

    def play(self) -> bool:
        """Send the next batch; False where there is none."""
        batch = next(self._batches, None)
        if batch is None:
            return False
        self._awaited = batch.commands
        self.socket.sendall(batch.data)
        return True

    def hear(self) -> bool:
        """Take answers; whether these were the last."""
        self._reader.feed(self.socket.recv(_CHUNK))
        while (answer := self._reader.gets()) is not False:
            # The first use of a script is recorded too.
            refused = isinstance(answer, hiredis.ReplyError) and not str(answer).startswith("NOSCRIPT")
            assert not refused, f"Redis refused what was recorded: {answer}"
            self._awaited -= 1
        return self._awaited == 0 and not self.play()


@contextmanager
def _open(
    port: int, parts: Sequence[Sequence[Batch]]
) -> Iterator[tuple[selectors.BaseSelector, list[_Player]]]:
    players = [_Player(port, part) for part in parts]
    with selectors.DefaultSelector() as selector:
        for player in players:
            selector.register(player.socket, selectors.EVENT_READ, player)
        try:
            yield selector, players
        finally:
            for player in players:
                player.socket.close()


def _split(tape: Sequence[Batch], parts: int) -> Iterator[Sequence[Batch]]:
    size = -(-len(tape) // parts)
    yield from (tape[start : start + size] for start in range(0, len(tape), size))
