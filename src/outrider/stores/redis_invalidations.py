"""The fleet's table of invalidations, in Redis: one sorted set, by number."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.answer_scripts import ANNOUNCE
from outrider.stores.invalidations import EVERYTHING, MOST, Invalidations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outrider import v1
    from outrider.stores.answer_label import Label
    from outrider.stores.redis_link import RedisLink

LONGEST_KEPT = 31 * 86_400  # seconds that a row is kept, and so the longest that any answer is

_EVERYTHING = EVERYTHING.SerializeToString(deterministic=True)


class RedisInvalidations:
    """What the fleet has invalidated."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._callbacks: list[Callable[[Sequence[v1.InvalidateCacheRequest]], None]] = []
        self._known = Invalidations()
        self._key = f"{link.prefix}:invalidations"

    @property
    def newest(self) -> int:
        """The number of the newest one known: the epoch of what is stored now."""
        return self._known.newest

    def forbid(self, key: str, label: Label) -> bool:
        """Whether an answer has been invalidated, as far as is known here."""
        return self._known.forbid(key, label)

    def on_news(self, callback: Callable[[Sequence[v1.InvalidateCacheRequest]], None]) -> None:
        """Call back once with what becomes known here. The callback must not raise."""
        self._callbacks.append(callback)

    async def announce(self, selector: v1.InvalidateCacheRequest) -> None:
        """Make it known to the fleet. Raises StoreUnavailableError."""
        data = selector.SerializeToString(deterministic=True)
        args = (data, self.newest, LONGEST_KEPT, MOST, _EVERYTHING)
        try:
            await self._link.script(ANNOUNCE, [self._key], args)
        except ResponseError as error:
            raise StoreUnavailableError("Redis refused the table of invalidations") from error

    async def catch_up(self) -> bool:
        """Learn what is new; whether that worked. Sent in the step in which it is begun."""
        with suppress(StoreUnavailableError, ResponseError):
            command = ("ZRANGEBYSCORE", self._key, f"({self.newest}", "+inf", "WITHSCORES")
            rows = await self._link.run(*command)
            if rows:
                self._learn(list(zip(rows[::2], map(int, map(float, rows[1::2])), strict=True)))
            return True
        return False

    def _learn(self, rows: Sequence[tuple[bytes, int]]) -> None:
        # Many look-ups may bring the same news at the same time.
        news = self._known.learn([row for row in rows if row[1] > self.newest])
        for callback in self._callbacks if news else ():
            callback(news)
