"""One connection to one Redis, on which everybody's commands travel together.

Answers come back in the order of the commands. A caller that has left, or was told that it took too long, has
only dropped its future: the answer is read all the same, and nobody else gets it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import hiredis
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ResponseError

from outrider.core.store_errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis._parsers.base import AsyncBaseParser

Argument: TypeAlias = str | bytes | int | float

_MAX_IN_FLIGHT = 4  # batches; while so many are, further commands gather in the next
_MAX_GATHERED = 32 * 2**20  # bytes; more says that Redis does not keep up
_STRIKES = 3  # batches in a row without an answer in time
_STALL = 0.005  # seconds; a timer that is later than this says that the loop was busy, not Redis slow
_MAX_SPARED = 4


def pack(*command: Argument) -> bytes:
    """A command as it is sent."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed


_PING = pack("PING")


class Plain(Connection):
    """A connection of redis-py without the parts that wait for one answer before the next command."""

    def write(self, data: bytes) -> None:
        """Send, without waiting for room: what may be under way is bounded by the lane."""
        # Transports of uvloop that the other side has closed raise RuntimeError.
        if self._writer is None or self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(data)

    async def read(self) -> Any:
        """The next answer; one that is an error is returned."""
        return await cast("AsyncBaseParser", self._parser).read_response()


class Tls(Plain, SSLConnection):
    """The same over TLS."""


class _Command(NamedTuple):
    """One command that somebody may be waiting for."""

    data: bytes
    answer: asyncio.Future[Any]
    hurried: bool  # whether the lane's time limit is for it


class _Batch:
    """Commands that leave together, with one time limit."""

    __slots__ = ("commands", "due", "size", "spared", "timer")

    def __init__(self) -> None:
        self.commands: list[_Command] = []
        self.size = 0  # bytes
        self.timer: asyncio.TimerHandle | None = None
        self.due = 0.0
        self.spared = 0  # times that the limit was put off

    def settled(self) -> None:
        """Nobody waits for any of them."""
        if self.timer is not None:
            self.timer.cancel()


class Lane:
    """A connection that stands. `on_lost` is called once when it breaks or stays silent.

    `timeout` is how long a hurried command may wait for its answer.
    """

    def __init__(
        self, connection: Plain, timeout: float, on_lost: Callable[[Lane, BaseException], None]
    ) -> None:
        self._connection = connection
        self._timeout = timeout
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._batch = _Batch()
        self._flushing = False
        self._in_flight = 0
        self._expected: deque[tuple[_Command, _Batch | None]] = deque()  # the batch stands with its last
        self._strikes = 0
        self.lost = False
        self._reader = self._loop.create_task(self._read())

    def submit(self, command: bytes, *, hurried: bool = True) -> asyncio.Future[Any]:
        """Send with whatever else is sent now. Fails with StoreUnavailableError or the server's error."""
        if self.lost:
            raise StoreUnavailableError("Redis is away")
        batch = self._batch
        if batch.size > _MAX_GATHERED:
            raise StoreUnavailableError("Redis does not keep up")
        answer = self._loop.create_future()
        batch.commands.append(_Command(command, answer, hurried))
        batch.size += len(command)
        if hurried and batch.timer is None:
            self._arm(batch, self._timeout)
        self._flush_soon()
        return answer

    async def close(self) -> None:
        """Let what is under way end, as long as a command may take, and close the connection."""
        try:
            with suppress(TimeoutError, StoreUnavailableError, ResponseError):
                async with asyncio.timeout(self._timeout):
                    await self.submit(_PING, hurried=False)
        finally:
            self._lose(StoreUnavailableError("the connection was closed"), tell=False)
            self._reader.cancel()
            # First, because it does not wait: whoever closes may be cancelled while the reader ends.
            await self._connection.disconnect(nowait=True)
            await asyncio.gather(self._reader, return_exceptions=True)

    def _flush_soon(self) -> None:
        if not self._flushing and self._in_flight < _MAX_IN_FLIGHT:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        batch, self._batch = self._batch, _Batch()
        commands = [command for command in batch.commands if not command.answer.done()]
        if not commands or self.lost:
            batch.settled()
            return
        self._expected.extend((command, None) for command in commands[:-1])
        self._expected.append((commands[-1], batch))
        self._in_flight += 1
        try:
            self._connection.write(b"".join(command.data for command in commands))
        except OSError as error:
            self._lose(error)

    async def _read(self) -> None:
        try:
            while True:
                self._settle(await self._connection.read())
        except Exception as error:  # noqa: BLE001 - whatever ends the reading has ended the connection
            self._lose(error)

    def _settle(self, answer: Any) -> None:
        command, batch = self._expected.popleft()
        if not command.answer.done():
            if command.hurried:
                self._strikes = 0
            if isinstance(answer, ResponseError):
                command.answer.set_exception(answer)
            else:
                command.answer.set_result(answer)
        if batch is not None:
            batch.settled()
            self._in_flight -= 1
            if self._batch.commands:
                self._flush_soon()

    def _arm(self, batch: _Batch, seconds: float) -> None:
        batch.due = time.monotonic() + seconds
        batch.timer = self._loop.call_later(seconds, self._expire, batch)

    def _expire(self, batch: _Batch) -> None:
        batch.timer = None  # a batch that cannot leave is still joined
        late = [each.answer for each in batch.commands if each.hurried and not each.answer.done()]
        if not late:
            return
        if time.monotonic() - batch.due > _STALL and batch.spared < _MAX_SPARED:
            batch.spared += 1  # the answer may have come while nobody looked
            self._arm(batch, _STALL)
            return
        for answer in late:
            answer.set_exception(StoreUnavailableError("Redis did not answer in time"))
        self._strikes += 1
        if self._strikes >= _STRIKES:
            self._lose(TimeoutError("no answer in time"))

    def _lose(self, error: BaseException, *, tell: bool = True) -> None:
        if self.lost:
            return
        self.lost = True
        waiting = [*(command for command, _ in self._expected), *self._batch.commands]
        self._expected.clear()
        for command in waiting:
            if not command.answer.done():
                command.answer.set_exception(StoreUnavailableError(f"Redis is away: {type(error).__name__}"))
        if tell:
            self._on_lost(self, error)
