"""Changes of routes that all sidecars of a fleet share: one hash in Redis, looked at every two seconds.

Every write gives the hash a new version: a number that goes up, and a mark of its own. Whoever finds another
version takes it over. Whoever finds a lower number than it has seen writes what it knows back: a Redis that
has lost its last writes, or everything, must not put a target in front again that somebody took out.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from redis.exceptions import ResponseError

from outrider.core.route_changes import RouteChange
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_link import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from outrider.stores.redis_link import Argument, RedisLink

_log = structlog.get_logger("outrider.routes")

_KEPT_SECONDS = 400 * 86_400  # without a single sidecar that looks
_PATIENCE = 0.5  # seconds; no request waits for it
_VERSION, _ACTIVE, _WEIGHT = "version", "active", "weight"
_MARK_BYTES = 6

# ARGV: the version known, how long the hash is kept. nil: nothing is new.
_READ = Script("""
if redis.call('TTL', KEYS[1]) < ARGV[2] / 2 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
if redis.call('HGET', KEYS[1], 'version') == ARGV[1] then return nil end
return redis.call('HGETALL', KEYS[1])
""")

# ARGV: the new mark, how long the hash is kept, a route to forget or "", fields and values.
_CHANGE = Script("""
local number = string.match(redis.call('HGET', KEYS[1], 'version') or '0', '^%d+')
if ARGV[3] ~= '' then
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.match(name, '^%l+\\n([^\\n]+)') == ARGV[3] then redis.call('HDEL', KEYS[1], name) end
  end
end
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'version', string.format('%d:%s', number + 1, ARGV[1]))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
""")

# ARGV: how long the hash is kept, the number known, all fields and values.
_RESTORE = Script("""
local number = string.match(redis.call('HGET', KEYS[1], 'version') or '0', '^%d+')
if tonumber(number) < tonumber(ARGV[2]) then
  redis.call('DEL', KEYS[1])
  for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return redis.call('HGETALL', KEYS[1])
""")


class _State(NamedTuple):
    """What the hash holds."""

    fields: Mapping[str, str]

    @property
    def version(self) -> str:
        return self.fields.get(_VERSION, "")

    @property
    def number(self) -> int:
        number = self.version.partition(":")[0]
        return int(number) if number.isdecimal() else 0

    def changes(self) -> dict[str, RouteChange]:
        """By route. What cannot be read, of another version perhaps, is passed over."""
        active: dict[str, str] = {}
        weights: dict[str, dict[str, float]] = {}
        for name, value in self.fields.items():
            kind, _, rest = name.partition("\n")
            route, _, target = rest.partition("\n")
            if kind == _ACTIVE:
                active[route] = value
            elif kind == _WEIGHT:
                with suppress(ValueError):
                    weights.setdefault(route, {})[target] = float(value)
        return {
            route: RouteChange(active.get(route, ""), weights.get(route, {}))
            for route in (*active, *(name for name in weights if name not in active))
        }


class RedisRouteOverrides:
    """A RouteChangeStore that a fleet shares. `start` reads it, and begins to look every `beat` seconds."""

    def __init__(self, link: RedisLink, *, beat: float = 2.0) -> None:
        self._link = link
        self._beat = beat
        self._keys = [f"{link.prefix}:routes"]
        self._state = _State({})
        self._callbacks: list[Callable[[Mapping[str, RouteChange]], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._refused = False  # and so it was told

    def on_news(self, callback: Callable[[Mapping[str, RouteChange]], None]) -> None:
        """Call back with all changes in force, whenever one is new. The callback must not raise."""
        self._callbacks.append(callback)

    async def start(self) -> None:
        """Begin to look; the first look has been tried on return."""
        await self.catch_up()
        self._task = asyncio.create_task(self._catch_up_for_ever(), name="route-changes")

    async def aclose(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def change(self, route: str, change: RouteChange) -> None:
        """Put a change over those of before. Raises StoreUnavailableError."""
        fields: list[Argument] = []
        if change.active:
            fields += (f"{_ACTIVE}\n{route}", change.active)
        for target, weight in change.weights.items():
            fields += (f"{_WEIGHT}\n{route}\n{target}", repr(weight))
        await self._write("", *fields)

    async def reset(self, route: str) -> None:
        """Forget every change of a route. Raises StoreUnavailableError."""
        await self._write(route)

    async def catch_up(self) -> None:
        """Learn what is new, as far as Redis answers."""
        with suppress(StoreUnavailableError):
            rows = await self._ask(_READ, self._state.version, _KEPT_SECONDS)
            if rows is None:
                return
            if _state(rows).number < self._state.number:
                known = [text for field in self._state.fields.items() for text in field]
                rows = await self._ask(_RESTORE, _KEPT_SECONDS, self._state.number, *known)
            self._learn(rows)

    async def _write(self, forgotten: str, *fields: Argument) -> None:
        await self.catch_up()  # what Redis has lost is there again before it is changed
        mark = os.urandom(_MARK_BYTES).hex()
        self._learn(await self._ask(_CHANGE, mark, _KEPT_SECONDS, forgotten, *fields))

    async def _ask(self, script: Script, *args: Argument) -> Any:
        try:
            answer = await self._link.script(script, self._keys, args, timeout=_PATIENCE)
        except ResponseError as error:
            if not self._refused:
                _log.error("route_changes_refused", error=str(error))
            self._refused = True
            raise StoreUnavailableError("Redis refused the change") from error
        self._refused = False
        return answer

    async def _catch_up_for_ever(self) -> None:
        while True:
            # A fleet that was started together need not ask together.
            await asyncio.sleep(self._beat * random.uniform(0.8, 1.2))  # noqa: S311
            try:
                await self.catch_up()
            except Exception:  # noqa: BLE001 - without this task no change would ever arrive
                _log.exception("route_changes_not_read")

    def _learn(self, rows: Sequence[bytes]) -> None:
        state = _state(rows)
        # Answers may overtake each other.
        if state.version == self._state.version or state.number < self._state.number:
            return
        self._state = state
        for callback in self._callbacks:
            callback(state.changes())


def _state(rows: Sequence[bytes]) -> _State:
    texts = [row.decode(errors="replace") for row in rows]
    return _State(dict(zip(texts[::2], texts[1::2], strict=True)))
