"""The connections to one provider: kept while idle, dropped when they are of no more use."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from outrider.providers.http1_connection import Connection

if TYPE_CHECKING:
    from outrider.providers.http1_dial import Dialer

_KEEP_ALIVE: Final = 60.0  # seconds an idle connection is kept for the next request


class Pool:
    """Opens as many connections as are asked for: how many run at once is decided before they come here."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._make = partial(Connection, dialer.host, self._forget)
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []  # the longest idle first
        self._sweep: asyncio.TimerHandle | None = None

    def take(self) -> Connection | None:
        """The connection that was used last, as it is the least likely to have been closed by now, if any."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_woken():
                return connection
            connection.close()
        return None

    def give_back(self, connection: Connection) -> None:
        """End an exchange: what is of no more use is closed at once."""
        if not connection.reusable or connection not in self._open:
            self._open.discard(connection)
            connection.close()
            return
        connection.rest()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_KEEP_ALIVE, self._close_old)

    async def connect(self, timeout: float) -> Connection:  # noqa: ASYNC109 - the request's own limit
        """A new connection. Raises GenerationError."""
        connection = await self._dialer.connect(self._make, timeout)
        self._open.add(connection)
        return connection

    def close(self) -> None:
        """Close every connection."""
        if self._sweep is not None:
            self._sweep.cancel()
        while self._open:
            self._open.pop().close()

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _close_old(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = None
        while self._idle and self._idle[0].idle_since <= loop.time() - _KEEP_ALIVE:
            self._idle.pop(0).close()
        if self._idle:
            self._sweep = loop.call_at(self._idle[0].idle_since + _KEEP_ALIVE, self._close_old)
