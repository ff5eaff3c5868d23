"""What sidecars send to Redis, recorded on its way: each write of theirs with the number of its commands."""

from __future__ import annotations

import asyncio
import random
import secrets
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

import hiredis

from benchmarks.logical_sidecar import TENANTS, LogicalSidecar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from benchmarks.logical_sidecar import Uses

    _Do: TypeAlias = Callable[[Sequence[LogicalSidecar]], Awaitable[None]]

_AT_WORK = 4  # sidecars
_SETTLING = 1.0  # seconds
_TRIES = 3  # a sidecar that has lost Redis asks it no more


class Batch(NamedTuple):
    """What left a sidecar in one write."""

    data: bytes
    commands: int


class _Relay(asyncio.Protocol):
    """Stands between one sidecar and Redis, and keeps what passes."""

    def __init__(self, port: int, tapes: list[list[Batch]]) -> None:
        self._port = port
        self._tape: list[Batch] = []
        tapes.append(self._tape)
        self._early: list[bytes] = []
        self._redis: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to Redis."""
        self._sidecar = cast("asyncio.Transport", transport)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        """Keep, and pass on."""
        self._tape.append(Batch(data, _commands(data)))
        if self._redis is None:
            self._early.append(data)
        else:
            self._redis.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave Redis."""
        if self._redis is not None:
            self._redis.close()

    async def _connect(self) -> None:
        way_back = lambda: _Answers(self._sidecar)  # noqa: E731
        self._redis, _ = await asyncio.get_running_loop().create_connection(way_back, "127.0.0.1", self._port)
        self._redis.write(b"".join(self._early))


class _Answers(asyncio.Protocol):
    def __init__(self, sidecar: asyncio.Transport) -> None:
        self._sidecar = sidecar

    def data_received(self, data: bytes) -> None:
        self._sidecar.write(data)


async def record_requests(port: int, uses: Uses, requests: int) -> list[list[Batch]]:
    """The requests of a few sidecars, one after another for each; one tape for each."""

    async def work(sidecars: Sequence[LogicalSidecar]) -> None:
        await asyncio.gather(*(_ask(each, uses, requests // len(sidecars), known) for each in sidecars))

    async def prepare(sidecars: Sequence[LogicalSidecar]) -> None:
        for place, key in enumerate(known):
            await sidecars[0].store(key, f"tenant-{place}")

    known = [secrets.token_hex(32) for _ in range(TENANTS)] if uses.hit else []
    return await _record(port, _AT_WORK, prepare, work)


async def record_rest(port: int, sidecars: int, seconds: float) -> list[list[Batch]]:
    """So many sidecars of which nobody asks anything, for so long; one tape for each."""

    async def rest(_: Sequence[LogicalSidecar]) -> None:
        await asyncio.sleep(seconds)

    async def settle(_: Sequence[LogicalSidecar]) -> None:
        await asyncio.sleep(_SETTLING)

    return await _record(port, sidecars, settle, rest)


async def _record(port: int, size: int, prepare: _Do, work: _Do) -> list[list[Batch]]:
    for _ in range(_TRIES):
        tapes: list[list[Batch]] = []
        async with _relay(port, tapes) as relay_port:
            sidecars = [LogicalSidecar(f"redis://127.0.0.1:{relay_port}/0") for _ in range(size)]
            for sidecar in sidecars:
                await sidecar.start()
            await prepare(sidecars)
            for tape in tapes:
                tape.clear()  # what comes before is not what the work takes
            await work(sidecars)
            recorded = [list(tape) for tape in tapes]
            lost = sum(sidecar.lost for sidecar in sidecars)
            await asyncio.gather(*(sidecar.aclose() for sidecar in sidecars))
        if not lost:
            return recorded
    raise RuntimeError("this machine is too busy: Redis did not answer for seconds")


async def _ask(sidecar: LogicalSidecar, uses: Uses, requests: int, known: Sequence[str]) -> None:
    # Without gathering records: each request with all that is its own.
    ungathered = replace(uses, ledger=False)
    for _ in range(requests):
        place = random.randrange(TENANTS)
        tenant = f"tenant-{place}"
        await sidecar.request(ungathered, tenant, 0.0, key=known[place] if known else "")
        if uses.ledger:
            await sidecar.count_one(tenant)


@asynccontextmanager
async def _relay(port: int, tapes: list[list[Batch]]) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Relay(port, tapes), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def _commands(data: bytes) -> int:
    reader = hiredis.Reader()
    reader.feed(data)
    found = 0
    while reader.gets() is not False:
        found += 1
    return found
