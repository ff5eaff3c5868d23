"""Changes of routes: in one sidecar, and shared by a fleet."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from outrider.core.route_changes import RouteChange, RouteChangeStore
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.memory_route_overrides import MemoryRouteOverrides
from outrider.stores.redis_link import RedisLink
from outrider.stores.route_overrides import RedisRouteOverrides
from tests.stores.quota_rig import linked, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class Listener:
    """What was told last, and how often."""

    def __init__(self, store: RouteChangeStore) -> None:
        self.changes: Mapping[str, RouteChange] = {}
        self.told = 0
        store.on_news(self._hear)

    def _hear(self, changes: Mapping[str, RouteChange]) -> None:
        self.changes = changes
        self.told += 1


@asynccontextmanager
async def opened(kind: str, url: str, prefix: str) -> AsyncIterator[RouteChangeStore]:
    if kind == "memory":
        yield MemoryRouteOverrides()
        return
    async with linked(url, prefix) as link:
        yield RedisRouteOverrides(link)


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_the_last_change_wins(kind: str, redis_url: str, prefix: str) -> None:
    """By target for weights, and nothing else changes with it; a reset forgets one route."""
    async with opened(kind, redis_url, prefix) as store:
        heard = Listener(store)
        await store.change("a", RouteChange(weights={"p/x": 1.0, "p/y": 2.5}))
        await store.change("a", RouteChange(active="p/y"))
        await store.change("a-b", RouteChange(active="q/z"))
        await store.change("a", RouteChange(weights={"p/x": 0.0}))
        assert heard.changes == {
            "a": RouteChange("p/y", {"p/x": 0.0, "p/y": 2.5}),
            "a-b": RouteChange("q/z"),
        }
        await store.reset("a")
        assert heard.changes == {"a-b": RouteChange("q/z")}
        assert heard.told == 5


async def test_a_fleet_shares_changes(redis_url: str, prefix: str) -> None:
    """Whoever looks learns of them, once; a sidecar that starts later, or again, starts with them."""
    async with linked(redis_url, prefix) as link:
        mine, theirs = RedisRouteOverrides(link), RedisRouteOverrides(link)
        heard = Listener(theirs)
        await mine.change("r", RouteChange(active="p/x", weights={"p/x": 0.1}))
        for _ in range(3):
            await theirs.catch_up()
        assert (heard.changes, heard.told) == ({"r": RouteChange("p/x", {"p/x": 0.1})}, 1)
        late = RedisRouteOverrides(link)
        again = Listener(late)
        await late.start()
        await late.aclose()
        assert again.changes == heard.changes
        assert await link.run("TTL", f"{prefix}:routes") > 86_400


async def test_sidecars_look_by_themselves(redis_url: str, prefix: str) -> None:
    """Every beat, until they are closed."""
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(linked(redis_url, prefix))
        mine, theirs = RedisRouteOverrides(link), RedisRouteOverrides(link, beat=0.02)
        heard = Listener(theirs)
        await theirs.start()
        stack.push_async_callback(theirs.aclose)
        await mine.change("r", RouteChange(active="p/x"))

        async def has_heard() -> bool:
            return heard.told > 0

        await until(has_heard)


async def test_a_redis_that_forgot_is_told_again(redis_url: str, prefix: str) -> None:
    """Emptied, or an older copy: nobody goes back to what was switched off, and new changes count."""
    async with linked(redis_url, prefix) as link:
        mine, theirs = RedisRouteOverrides(link), RedisRouteOverrides(link)
        heard = Listener(theirs)
        await mine.change("r", RouteChange(active="p/x"))
        await mine.change("r", RouteChange(active="p/y"))
        await theirs.catch_up()
        await link.run("DEL", f"{prefix}:routes")
        await theirs.catch_up()
        assert heard.changes == {"r": RouteChange("p/y")}
        assert await link.run("HGET", f"{prefix}:routes", "active\nr") == b"p/y"
        await link.run("DEL", f"{prefix}:routes")
        await mine.change("s", RouteChange(active="q/z"))
        await theirs.catch_up()
        assert heard.changes == {"r": RouteChange("p/y"), "s": RouteChange("q/z")}


async def test_a_copy_of_the_same_age_is_believed(redis_url: str, prefix: str) -> None:
    """After a failover that lost a write, the next one has its number but not its mark."""
    async with linked(redis_url, prefix) as link:
        mine, theirs = RedisRouteOverrides(link), RedisRouteOverrides(link)
        heard = Listener(theirs)
        await mine.change("r", RouteChange(active="p/x"))
        await theirs.catch_up()
        key = f"{prefix}:routes"
        await link.run("HSET", key, "version", "1:another", "active\nr", "p/y")
        await theirs.catch_up()
        assert heard.changes == {"r": RouteChange("p/y")}


async def test_what_cannot_be_read_is_passed_over(redis_url: str, prefix: str) -> None:
    """Fields of another version of the software, and numbers that are none."""
    async with linked(redis_url, prefix) as link:
        store = RedisRouteOverrides(link)
        heard = Listener(store)
        rows = ("version", "7:x", "future\nr\np/x", "1", "weight\nr\np/x", "many", "weight\nr\np/y", "2")
        await link.run("HSET", f"{prefix}:routes", *rows)
        await store.catch_up()
        assert heard.changes == {"r": RouteChange(weights={"p/y": 2.0})}


async def test_redis_away_refuses_changes_and_keeps_those_there_are(redis_url: str, prefix: str) -> None:
    """Rows 22 and 23: a sidecar that starts then has its configuration, one that runs what it knew."""
    async with AsyncExitStack() as stack:
        away = RedisLink("redis://127.0.0.1:1")
        store = RedisRouteOverrides(away)
        heard = Listener(store)
        await store.start()
        stack.push_async_callback(store.aclose)
        with pytest.raises(StoreUnavailableError):
            await store.change("r", RouteChange(active="p/x"))
        assert heard.told == 0
    async with linked(redis_url, prefix) as link:
        store = RedisRouteOverrides(link)
        heard = Listener(store)
        await store.change("r", RouteChange(active="p/x"))
    await store.catch_up()
    with pytest.raises(StoreUnavailableError):
        await store.reset("r")
    assert heard.changes == {"r": RouteChange("p/x")}


async def test_a_key_of_another_kind_is_no_crash(redis_url: str, prefix: str) -> None:
    """Somebody else's key in the place: changes are refused, and said why."""
    async with linked(redis_url, prefix) as link:
        await link.run("SET", f"{prefix}:routes", "x")
        with pytest.raises(StoreUnavailableError, match="refused"):
            await RedisRouteOverrides(link).change("r", RouteChange(active="p/x"))
