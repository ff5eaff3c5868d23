"""How a connection to a provider is opened: its name, its addresses, a proxy, TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from functools import lru_cache
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outrider.providers.http1_connection import Connection
    from outrider.providers.http1_proxy import Proxy

    # Family and address, as `getaddrinfo` gives them.
    Address: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]

_DNS_TTL: Final = 30.0  # seconds
_HEAD_START: Final = 0.25  # seconds that an address has before the next one is tried too: RFC 8305


def client_tls() -> ssl.SSLContext:
    """Trusts the system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR."""
    return _client_tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=1)  # to read the authorities again would cost each provider 27 ms and 0.9 MiB
def _client_tls(*_: str | None) -> ssl.SSLContext:
    return ssl.create_default_context()


class Dialer:
    """Opens connections to one host."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        self.host: Final = host
        self._port = port
        self._tls = tls
        self._proxy = proxy
        self._first = (proxy.host, proxy.port) if proxy else (host, port)
        self._addresses: list[Address] = []
        self._looked_up_until = 0.0
        self._looking_up = asyncio.Lock()

    async def connect(self, make: Callable[[], Connection], timeout: float) -> Connection:  # noqa: ASYNC109
        """A new connection, within this many seconds. Raises GenerationError."""
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(make)
        except TimeoutError:
            raise GenerationError(
                Reason.CONNECT_TIMEOUT, f"no connection to {self._first[0]} in time"
            ) from None
        except (OSError, ValueError) as error:  # a name may be one that cannot be
            self._looked_up_until = 0.0  # it may lead elsewhere by now
            what = getattr(error, "strerror", None) or type(error).__name__
            raise GenerationError(
                Reason.PROVIDER_UNREACHABLE, f"{self._first[0]} cannot be reached: {what}"
            ) from None

    async def _connect(self, make: Callable[[], Connection]) -> Connection:
        loop = asyncio.get_running_loop()
        peer = await first_to_connect(await self._look_up())
        # TLS begins afterwards: what a cancelled `create_connection` with TLS leaves, uvloop keeps for 60 s.
        transport: Any = (await loop.create_connection(asyncio.Protocol, sock=peer))[0]
        try:
            if self._proxy is not None:
                tunnel = self._tls is not None
                transport = await self._proxy.prepare(transport, self.host, self._port, tunnel=tunnel)
            connection = make()
            if self._tls is None:
                transport.set_protocol(connection)
            else:
                transport = await loop.start_tls(transport, connection, self._tls, server_hostname=self.host)
        except BaseException:
            transport.abort()
            raise
        connection.connection_made(transport)
        return connection

    async def _look_up(self) -> list[Address]:
        loop = asyncio.get_running_loop()
        async with self._looking_up:
            if loop.time() >= self._looked_up_until:
                found = await loop.getaddrinfo(*self._first, type=socket.SOCK_STREAM)
                self._addresses = alternate([(each[0], each[4]) for each in found])
                self._looked_up_until = loop.time() + _DNS_TTL
        return self._addresses


def alternate(addresses: Sequence[Address]) -> list[Address]:
    """Both families by turns, as one of them may lead nowhere; each in its order."""
    first = [each for each in addresses if each[0] == addresses[0][0]]
    other = [each for each in addresses if each[0] != addresses[0][0]]
    return [each for each in chain.from_iterable(zip_longest(first, other)) if each is not None]


async def first_to_connect(addresses: Sequence[Address]) -> socket.socket:
    """A socket to the first address that answers; each has a head start over the next. Raises OSError."""
    left = list(reversed(addresses))
    running: set[asyncio.Task[socket.socket]] = set()
    winner, failure = None, (0, "its name has no address")
    try:
        while winner is None and (left or running):
            if left:
                running.add(asyncio.create_task(_connect(*left.pop())))
            head_start = _HEAD_START if left else None
            ended, running = await asyncio.wait(
                running, timeout=head_start, return_when=asyncio.FIRST_COMPLETED
            )
            for each in ended:
                error = each.exception()
                if error is not None:
                    number = getattr(error, "errno", None) or 0
                    failure = number, os.strerror(number) if number else repr(error)
                elif winner is None:
                    winner = each.result()
                else:
                    each.result().close()
    finally:
        for each in running:
            each.cancel()
        for late in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(late, socket.socket):
                late.close()
    if winner is None:
        raise OSError(*failure)
    return winner


async def _connect(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    peer = socket.socket(family, socket.SOCK_STREAM)
    try:
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, address)
    except BaseException:
        peer.close()
        raise
    return peer
