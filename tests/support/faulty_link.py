"""A stretch of network in front of a server, on which things go wrong when a test says so.

async with faulty_link(server.port) as network:
    RedisLink(f"redis://127.0.0.1:{network.port}")
    network.blackhole()         # connections stand, and whatever is sent is lost
    network.delay = 0.2         # seconds until an answer comes out
    network.cut()               # every connection is reset; new ones work
    await network.refuse()      # and new ones are refused
    await network.heal()
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_CHUNK = 65_536


class FaultyLink:
    """Forwards TCP connections to a port of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._swallows = False
        self.port = 0
        self.delay = 0.0
        self.accepted = 0  # connections so far
        self.requests = 0  # reads that brought something from a client

    def blackhole(self) -> None:
        """Lose whatever is sent from now on, in both directions."""
        self._swallows = True

    def cut(self) -> None:
        """Reset every connection."""
        for connection in self._connections:
            connection.cancel()

    async def refuse(self) -> None:
        """Reset every connection, and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def heal(self) -> None:
        """Forward as if nothing had been. Connections that have lost something are reset."""
        if self._swallows:
            self.cut()
        self._swallows, self.delay = False, 0.0
        await self.listen()

    async def listen(self) -> None:
        """Accept connections, always on the same port."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=1024)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.accepted += 1
        self._connections.add(task)
        try:
            await self._forward(reader, writer)
        except (asyncio.CancelledError, OSError, ExceptionGroup):
            return  # cut, or left by one of its ends
        finally:
            self._connections.discard(task)
            _reset(writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        answers: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send_requests(reader, far_writer))
                group.create_task(self._take_answers(far_reader, answers))
                group.create_task(_send_answers(answers, writer))
        finally:
            _reset(far_writer)

    async def _send_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            self.requests += 1
            if not self._swallows:
                writer.write(data)
        raise ConnectionResetError

    async def _take_answers(
        self, reader: asyncio.StreamReader, answers: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        while data := await reader.read(_CHUNK):
            if not self._swallows:
                answers.put_nowait((asyncio.get_running_loop().time() + self.delay, data))
        raise ConnectionResetError


async def _send_answers(answers: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    while True:
        due, data = await answers.get()
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        writer.write(data)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    writer.close()


@asynccontextmanager
async def faulty_link(target: int) -> AsyncIterator[FaultyLink]:
    """A stretch of network in front of a port, well at first."""
    link = FaultyLink(target)
    await link.listen()
    try:
        yield link
    finally:
        await link.refuse()
