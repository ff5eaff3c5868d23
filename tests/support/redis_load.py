"""Callers that use a link all the time, as requests do, and what they saw of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_link import RedisLink
from tests.support.redis_server import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CALLERS = 32


class Watched:
    """A link, and what it said of itself."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.link = RedisLink(url, **settings)
        self.changes: list[bool] = []
        self._news = asyncio.Event()
        self.link.on_change(self._changed)

    def _changed(self, available: bool) -> None:
        assert self.link.available is available
        self.changes.append(available)
        self._news.set()

    async def becomes(self, available: bool) -> None:
        """Wait until the link is, or is not, available."""
        async with asyncio.timeout(PATIENCE):
            while self.link.available is not available:
                self._news.clear()
                await self._news.wait()


@dataclass
class Load:
    """Callers that ask all the time, and how long they waited."""

    link: RedisLink
    prefix: str
    waits: list[float] = field(default_factory=list)
    answered: int = 0
    refused: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self) -> None:
        """Ask once, as part of a request that goes on whatever comes."""
        began = time.perf_counter()
        try:
            await self.link.run("INCR", f"{self.prefix}:n")
            self.answered += 1
        except StoreUnavailableError:
            self.refused += 1
        self.waits.append(time.perf_counter() - began)
        self.asked.set()

    async def go_on(self) -> None:
        """One caller, who has other things to do as well."""
        while True:
            await self.ask()
            await asyncio.sleep(0.002)

    async def until(self, enough: Callable[[], bool]) -> None:
        """Wait until the callers have got so far."""
        async with asyncio.timeout(PATIENCE):
            while not enough():
                self.asked.clear()
                await self.asked.wait()

    def p99(self) -> float:
        """Of all waits, in seconds."""
        return sorted(self.waits)[int(len(self.waits) * 0.99)]


@asynccontextmanager
async def watched(url: str, **settings: Any) -> AsyncIterator[Watched]:
    """A link that has had its first look."""
    link = Watched(url, **settings)
    await link.link.start(PATIENCE)
    try:
        yield link
    finally:
        await link.link.aclose()


@asynccontextmanager
async def under_load(link: RedisLink, prefix: str) -> AsyncIterator[Load]:
    """Callers for as long as the block lasts. None of them ever sees anything but StoreUnavailableError."""
    load = Load(link, prefix)
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(load.go_on()) for _ in range(CALLERS)]
        yield load
        for caller in callers:
            caller.cancel()
