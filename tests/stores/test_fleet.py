from __future__ import annotations

from contextlib import AsyncExitStack

from outrider.stores.fleet import Fleet
from outrider.stores.redis_link import RedisLink
from tests.stores.quota_rig import linked, until


async def test_a_fleet_counts_itself(redis_url: str, prefix: str) -> None:
    """Each sidecar learns how many live and which it is; the ranks are 0, 1, 2 and stand still."""
    async with linked(redis_url, prefix) as link:
        fleet = [Fleet(link, name) for name in ("b", "c", "a")]
        for _ in range(2):
            for sidecar in fleet:
                await sidecar.beat()
        assert [sidecar.size for sidecar in fleet] == [3, 3, 3]
        assert [sidecar.rank for sidecar in fleet] == [1, 2, 0]


async def test_who_leaves_or_falls_silent_is_not_counted(redis_url: str, prefix: str) -> None:
    """A sidecar that is stopped leaves; one that crashed is missed after three beats."""
    async with linked(redis_url, prefix) as link:
        stays, leaves, crashes = (Fleet(link, name) for name in ("stays", "leaves", "crashes"))
        for sidecar in (leaves, crashes, stays):
            await sidecar.beat()
        await leaves.aclose()
        await link.run("ZINCRBY", f"{prefix}:{{fleet}}:beats", -16_000, "crashes")
        for _ in range(4):
            await stays.beat()
        assert (stays.size, stays.rank) == (1, 0)


async def test_a_fleet_is_not_believed_small_at_once(redis_url: str, prefix: str) -> None:
    """After Redis has forgotten the fleet, its size is what it was until everybody had time to come back."""
    async with linked(redis_url, prefix) as link:
        sidecar, other = Fleet(link, "sidecar"), Fleet(link, "other")
        await other.beat()
        await sidecar.beat()
        await link.run("DEL", f"{prefix}:{{fleet}}:names")
        await link.run("DEL", f"{prefix}:{{fleet}}:beats")
        sizes = []
        for _ in range(5):
            await sidecar.beat()
            sizes.append(sidecar.size)
    assert sizes == [2, 2, 2, 1, 1]


async def test_redis_away_leaves_what_is_known(redis_url: str, prefix: str) -> None:
    """Without Redis the last known size and rank hold; before it was ever seen, what was configured."""
    away = Fleet(RedisLink("redis://127.0.0.1:1"), "b", expected=8)
    await away.beat()
    assert (away.size, away.rank) == (8, None)
    await away.aclose()
    async with linked(redis_url, prefix) as link:
        await Fleet(link, "a").beat()
        fleet = Fleet(link, "b")
        await fleet.beat()
    await fleet.beat()
    assert (fleet.size, fleet.rank) == (2, 1)


async def test_a_fleet_beats_by_itself(redis_url: str, prefix: str) -> None:
    """Once started a sidecar is seen, and sees who comes later."""
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(linked(redis_url, prefix))
        first, second = Fleet(link, "first", beat=0.05), Fleet(link, "second", beat=0.05)
        await first.start()
        stack.push_async_callback(first.aclose)
        await second.start()

        async def both_seen() -> bool:
            return first.size == 2

        async def one_left() -> bool:
            return first.size == 1

        await until(both_seen)
        await second.aclose()
        await until(one_left)


async def test_a_spoilt_key_is_like_redis_away(redis_url: str, prefix: str) -> None:
    """A key of another type leaves what is known."""
    async with linked(redis_url, prefix) as link:
        await link.run("SET", f"{prefix}:{{fleet}}:names", "spoilt", "PX", 60_000)
        fleet = Fleet(link, "a", expected=3)
        await fleet.start()
        assert fleet.size == 3
        await fleet.aclose()
