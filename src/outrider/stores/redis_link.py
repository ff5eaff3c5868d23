"""The only way to the shared Redis: bounded, pipelined, and out of the way while Redis is."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from outrider.core.redis_url import Host, parse_redis_url
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_breaker import RedisBreaker
from outrider.stores.redis_lane import Argument, pack
from outrider.stores.redis_routes import NOT_SINGLE, NoRouteError, RouteFinder

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence

    from outrider.stores.redis_routes import Routes

__all__ = ["Argument", "RedisLink", "Script", "Sent"]

_UNWELL = (OutOfMemoryError, ReadOnlyError, ClusterDownError, MasterDownError, NoPermissionError)
_UNWELL_CODES = ("MISCONF", "NOREPLICAS", "BUSY ")  # those that redis-py has no class for
_ASKING = pack("ASKING")


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, known to Redis by its SHA. Its keys share a hash tag."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        # The name that Redis gives it, not a matter of security.
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


class Sent:
    """A script that is on its way. Awaited, once at most, it gives what `RedisLink.script` does."""

    __slots__ = ("_answer", "_finish")

    def __init__(self, answer: asyncio.Future[Any], finish: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._answer = answer
        self._finish = finish

    def __await__(self) -> Generator[Any, None, Any]:
        return self._finish().__await__()

    def drop(self) -> None:
        """Nobody will await it."""
        self._answer.cancel()


class RedisLink:
    """A way to one Redis deployment. Making it neither blocks nor fails; `start` begins to connect.

    While `available` is False every call raises StoreUnavailableError at once: a task of its own looks for
    Redis meanwhile. A call takes at most `timeout` seconds. Answers are bytes, numbers, lists and None. A
    command that Redis refuses (a wrong type, a mistake in a script) raises redis-py's ResponseError.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str = "",
        password: Callable[[], str | None] = lambda: None,
        prefix: str = "outrider",
        timeout: float = 0.05,
        connect_timeout: float = 1.0,
        ca_file: str | None = None,
    ) -> None:
        where = parse_redis_url(url)
        self.prefix = prefix
        self.timeout = timeout
        self.where = str(where)
        finder = RouteFinder(
            where,
            username=username or where.username,
            password=lambda: password() or where.password,
            prefix=prefix,
            timeout=timeout,
            connect_timeout=connect_timeout,
            ca_file=ca_file,
        )
        self._breaker = RedisBreaker(finder, self.where)

    @property
    def available(self) -> bool:
        """Whether a call would be tried now."""
        return self._breaker.routes is not None

    def on_change(self, callback: Callable[[bool], None]) -> None:
        """Call back with every new value of `available`. The callback must not raise."""
        self._breaker.on_change(callback)

    async def start(self, patience: float = 0.5) -> None:
        """Begin to connect; returns once that has worked or failed, or after `patience` seconds."""
        await self._breaker.start(patience)

    async def aclose(self) -> None:
        """Close the connections; what is under way may still end, within `timeout`."""
        await self._breaker.aclose()

    async def run(
        self,
        *command: Argument,
        key: Argument | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it bounds the command, not the coroutine
    ) -> Any:
        """The answer to one command, which must not block. Raises StoreUnavailableError.

        `key`: where it is not the first argument. `timeout`: for work that nobody waits for.
        """
        where = command[1] if key is None else key
        return await self._send(where, pack(*command), timeout)

    async def script(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Any:
        """The answer of a script. Raises StoreUnavailableError."""
        rest = (len(keys), *keys, *args)
        try:
            return await self._send(keys[0], pack("EVALSHA", script.sha, *rest), timeout)
        except NoScriptError:
            return await self._send(keys[0], pack("EVAL", script.text, *rest), timeout)

    def send(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Sent:
        """Send a script in this very step, so that several leave together. Raises StoreUnavailableError."""
        rest = (len(keys), *keys, *args)
        command = pack("EVALSHA", script.sha, *rest)
        routes = self._routes()
        answer = routes.lane(keys[0]).submit(command)

        async def finish() -> Any:
            try:
                return await self._answer(answer, routes, command)
            except NoScriptError:
                return await self._send(keys[0], pack("EVAL", script.text, *rest), None)

        return Sent(answer, finish)

    async def _send(self, key: Argument, command: bytes, patience: float | None) -> Any:
        routes = self._routes()
        answer = routes.lane(key).submit(command, hurried=patience is None)
        if patience is None:
            return await self._answer(answer, routes, command)
        try:
            async with asyncio.timeout(patience):
                return await self._answer(answer, routes, command)
        except TimeoutError:
            raise StoreUnavailableError("Redis did not answer in time") from None

    async def _answer(self, answer: asyncio.Future[Any], routes: Routes, command: bytes) -> Any:
        try:
            return await answer
        except AskError as error:  # MOVED too
            return await self._follow(error, routes, command)
        except ResponseError as error:
            self._examine(error)
            raise

    def _routes(self) -> Routes:
        routes = self._breaker.routes
        if routes is None:
            raise StoreUnavailableError("Redis is away")
        return routes

    async def _follow(self, error: AskError, routes: Routes, command: bytes) -> Any:
        """Send once more, to the server that the answer names."""
        if routes.owners is None:
            self._breaker.open(NoRouteError(NOT_SINGLE))
        elif isinstance(error, MovedError):
            self._breaker.refresh()
        lane = routes.lanes.get(Host(error.host, error.port))
        if lane is None or routes.owners is None:
            raise StoreUnavailableError("the key is on a server that is not known yet")
        try:
            return (await asyncio.gather(lane.submit(_ASKING), lane.submit(command)))[1]
        except AskError:
            raise StoreUnavailableError("the key is being moved") from None
        except ResponseError as refusal:
            self._examine(refusal)
            raise

    def _examine(self, error: ResponseError) -> None:
        """Raise StoreUnavailableError where an answer says that Redis is unwell, not that the command is."""
        if isinstance(error, _UNWELL) or str(error).startswith(_UNWELL_CODES):
            self._breaker.open(error)
        elif not isinstance(error, TryAgainError):
            return
        raise StoreUnavailableError(f"Redis is unwell: {type(error).__name__}") from error
