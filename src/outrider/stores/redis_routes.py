"""Finds the servers of a deployment and opens a lane to each that takes writes."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AuthenticationError, MovedError, RedisError

from outrider.core.redis_url import Deployment, Host, RedisUrl
from outrider.stores.redis_lane import Lane, Plain, Tls, pack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from outrider.stores.redis_lane import Argument

_T = TypeVar("_T")

_PROBE_TTL = 60  # seconds
NOT_SINGLE = "this Redis is part of a Cluster: its URL begins with redis+cluster:// or rediss+cluster://"


class NoRouteError(Exception):
    """The servers that answer do not say where writes go."""


@dataclass(slots=True)
class Routes:
    """The lanes to every server that takes writes, and which one a key belongs to."""

    lanes: dict[Host, Lane]
    owners: list[Lane] | None = None  # by slot; None: there is only one lane

    def lane(self, key: Argument) -> Lane:
        """The lane for a key."""
        if self.owners is not None:
            return self.owners[key_slot(key if isinstance(key, bytes) else str(key).encode())]
        return next(iter(self.lanes.values()))

    async def close(self) -> None:
        """Close every lane."""
        async with asyncio.TaskGroup() as group:
            for lane in self.lanes.values():
                group.create_task(lane.close())


class RouteFinder:
    """Opens Routes. `password` is asked for each connection, so that it may change."""

    def __init__(
        self,
        url: RedisUrl,
        *,
        username: str,
        password: Callable[[], str | None],
        prefix: str,
        timeout: float,
        connect_timeout: float,
        ca_file: str | None,
    ) -> None:
        self._url = url
        self._hosts = list(url.hosts)
        self._username = username
        self._password = password
        self._prefix = prefix
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None

    async def open(self, on_lost: Callable[[Lane, BaseException], None]) -> Routes:
        """Open a lane to every master, each of which has just taken a write in time.

        Raises RedisError, OSError, TimeoutError, ValueError, NoRouteError or StoreUnavailableError.
        """
        if self._url.tls:
            # Read anew, away from the loop: the file may have changed, and it may be long.
            self._tls = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
        async with AsyncExitStack() as undo:
            routes = Routes({})
            undo.push_async_callback(routes.close)
            slots = await self._slots()
            for host in {host for host, *_ in slots}:
                routes.lanes[host] = Lane(await self._connect(host), self._timeout, on_lost)
            if self._url.deployment is Deployment.CLUSTER:
                routes.owners = _owners(slots, routes.lanes)
            await self.probe(routes)
            undo.pop_all()
        return routes

    async def probe(self, routes: Routes) -> None:
        """See that every lane takes a write in time. Raises as `open` does."""
        await asyncio.gather(*(self._probe(routes, lane) for lane in routes.lanes.values()))
        if any(lane.lost for lane in routes.lanes.values()):
            raise NoRouteError("a connection was lost")

    async def _probe(self, routes: Routes, lane: Lane) -> None:
        keys = (f"{self._prefix}:probe:{number}" for number in count())
        key = next(key for key in keys if routes.lane(key) is lane)
        try:
            # A write, because a server that is full, read-only or loading would answer PING.
            await lane.submit(pack("SET", key, 1, "EX", _PROBE_TTL))
        except MovedError as error:
            if routes.owners is None:
                raise NoRouteError(NOT_SINGLE) from error
            raise

    async def _slots(self) -> Sequence[tuple[Host, int, int]]:
        """The masters, each with a range of slots."""
        last = REDIS_CLUSTER_HASH_SLOTS - 1
        if self._url.deployment is Deployment.SINGLE:
            return [(self._hosts[0], 0, last)]
        if self._url.deployment is Deployment.SENTINEL:
            return [(await self._ask(self._master), 0, last)]
        return await self._ask(self._shards)

    async def _ask(self, question: Callable[[Host], Awaitable[_T]]) -> _T:
        """The answer of the first host that has one; it is asked first the next time."""
        problem: Exception = NoRouteError("there is nobody to ask")
        for host in list(self._hosts):
            try:
                answer = await question(host)
            except (RedisError, OSError, NoRouteError) as error:
                problem = error
                continue
            self._hosts.sort(key=host.__ne__)
            return answer
        raise problem

    async def _master(self, sentinel: Host) -> Host:
        command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service)
        try:
            found = await self._once(sentinel, command, credentials=False)
        except AuthenticationError:
            found = await self._once(sentinel, command, credentials=True)
        if not found:
            raise NoRouteError(f"the sentinels know no master named {self._url.service!r}")
        return Host(found[0].decode(), int(found[1]))

    async def _shards(self, node: Host) -> Sequence[tuple[Host, int, int]]:
        slots = [
            (Host(master[0].decode() if master[0] else node.name, int(master[1])), int(first), int(last))
            for first, last, master, *_ in await self._once(node, ("CLUSTER", "SLOTS"), credentials=True)
        ]
        if sum(last - first + 1 for _, first, last in slots) < REDIS_CLUSTER_HASH_SLOTS:
            raise NoRouteError("the cluster does not cover every slot")
        # Those of the URL may all have gone the next time.
        self._hosts = list(dict.fromkeys((*(host for host, *_ in slots), *self._url.hosts)))
        return slots

    async def _once(self, host: Host, command: tuple[str, ...], *, credentials: bool) -> Any:
        """The answer to one command, on a connection of its own."""
        connection = self._connection(host, credentials=credentials)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
                connection.write(pack(*command))
                answer = await connection.read()
        finally:
            await connection.disconnect(nowait=True)
        if isinstance(answer, RedisError):
            raise answer
        return answer

    async def _connect(self, host: Host) -> Plain:
        connection = self._connection(host, credentials=True)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def _connection(self, host: Host, *, credentials: bool) -> Plain:
        settings: dict[str, Any] = {"host": host.name, "port": host.port, "protocol": 2}
        # Whoever waits has the time limit: redis-py's own would close the connection for everybody.
        settings |= {"socket_timeout": None, "socket_connect_timeout": None, "driver_info": None}
        if credentials:
            settings |= {"username": self._username or None, "password": self._password() or None}
            settings["db"] = self._url.database
        if self._tls is None:
            return Plain(**settings)
        secured = Tls(**settings)
        secured.ssl_context.context = self._tls
        return secured


def _owners(slots: Sequence[tuple[Host, int, int]], lanes: dict[Host, Lane]) -> list[Lane]:
    owners = [next(iter(lanes.values()))] * REDIS_CLUSTER_HASH_SLOTS
    for host, first, last in slots:
        owners[first : last + 1] = [lanes[host]] * (last - first + 1)
    return owners
