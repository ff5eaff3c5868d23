"""Stands between everybody and Redis: open while Redis is away, so that this costs a probe now and then.

There is no counting of requests that may try: one task looks for Redis, and closes the breaker once every
server has taken a write in time.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_routes import NoRouteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.stores.redis_lane import Lane
    from outrider.stores.redis_routes import RouteFinder, Routes

_log = structlog.get_logger("outrider.redis")

_FIRST_PAUSE = 0.25  # seconds between two probes; each that fails makes it half as long again
_LONGEST_PAUSE = 5.0
_BEAT = 5.0  # seconds between two looks at a Redis that is there
_REFRESH = 1.0  # seconds between two looks at where the slots of a Cluster are
_FAILURES = (RedisError, OSError, ValueError, NoRouteError, StoreUnavailableError)


class RedisBreaker:
    """`routes` are the way to Redis; None while it is away. `start` begins to look for it."""

    def __init__(self, finder: RouteFinder, where: str) -> None:
        self._finder = finder
        self._where = where
        self._callbacks: list[Callable[[bool], None]] = []
        self._news = asyncio.Event()  # the routes were lost, or are not all true any more
        self._looked = asyncio.Event()  # the first attempt has ended
        self._told = False  # that Redis is away
        self._fresh_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self.routes: Routes | None = None

    def on_change(self, callback: Callable[[bool], None]) -> None:
        """Call back with whether there are routes, each time that changes. The callback must not raise."""
        self._callbacks.append(callback)

    async def start(self, patience: float) -> None:
        """Begin to look; returns once the first attempt has ended, or after `patience` seconds."""
        self._task = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(patience):
                await self._looked.wait()
        except TimeoutError:
            return

    async def aclose(self) -> None:
        """Stop looking, and close what is open."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def open(self, error: BaseException) -> None:
        """Redis is away, for this reason."""
        if self.routes is None:
            return
        self._tell(error)
        self._become(None)

    def refresh(self) -> None:
        """Not every route is true any more."""
        if time.monotonic() >= self._fresh_until:
            self._news.set()

    async def _look(self) -> None:
        pause = 0.0
        while True:
            try:
                if await self._visit() > _LONGEST_PAUSE:
                    pause = 0.0  # it was well for a while, and most breaks are short
            except Exception:  # noqa: BLE001 - a defect here must not end it
                # Without this task Redis would stay away for ever.
                _log.exception("redis_look_failed", redis=self._where)
            self._looked.set()
            # A fleet that loses its Redis must not come back all at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(max(1.5 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)

    async def _visit(self) -> float:
        """Find Redis, and stay with it until it is lost. Gives for how many seconds it was there."""
        try:
            routes = await self._finder.open(self._lane_lost)
        except _FAILURES as error:
            self._tell(error)
            return 0.0
        found_at = time.monotonic()
        self._become(routes)
        try:
            while self.routes is not None:
                before, routes = routes, await self._watch(routes)
                if before is not routes:
                    await before.close()
        except _FAILURES as error:
            self.open(error)
        finally:
            self._become(None)
            await routes.close()
        return time.monotonic() - found_at

    async def _watch(self, routes: Routes) -> Routes:
        """Wait for news, or until it is time to look. Gives the routes of now. Raises one of _FAILURES."""
        self._news.clear()
        try:
            async with asyncio.timeout(_BEAT):
                await self._news.wait()
        except TimeoutError:
            await self._finder.probe(routes)
            return routes
        if self.routes is None:
            return routes
        fresh = await self._finder.open(self._lane_lost)
        self._fresh_until = time.monotonic() + _REFRESH
        if self.routes is not None:
            self._become(fresh)
        return fresh

    def _lane_lost(self, lane: Lane, error: BaseException) -> None:
        if self.routes is not None and lane in self.routes.lanes.values():
            self.open(error)

    def _become(self, routes: Routes | None) -> None:
        changed = (routes is None) != (self.routes is None)
        self.routes = routes
        if routes is None:
            self._news.set()
        if not changed:
            return
        self._looked.set()
        if routes is not None:
            self._told = False
            _log.info("redis answers", redis=self._where)
        for callback in self._callbacks:
            callback(routes is not None)

    def _tell(self, error: BaseException) -> None:
        if not self._told:
            self._told = True
            _log.warning("redis is away", redis=self._where, error=f"{type(error).__name__}: {error}")
