"""What every store of idempotency keys must hold to, whatever it is made of."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest
import pytest_asyncio

from outrider.core.keys import Claim, SharedKeys
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_keys import RedisKeys
from outrider.stores.redis_link import RedisLink
from tests.support.memory_keys import MemoryKeys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Make: TypeAlias = Callable[[float], SharedKeys]

LONG, SHORT = 600.0, 0.1
ONE, OTHER = Claim("1" * 32, "a" * 32), Claim("2" * 32, "b" * 32)


@pytest_asyncio.fixture(params=["memory", "redis"])
async def stores(request: pytest.FixtureRequest, redis_url: str, prefix: str) -> AsyncIterator[Make]:
    """Makes stores of each kind, which keep the keys of what was answered for so many seconds."""
    if request.param == "memory":
        yield lambda seconds: MemoryKeys(keep=seconds)
        return
    link = RedisLink(redis_url, prefix=prefix, timeout=5)
    await link.start(10)
    yield lambda seconds: RedisKeys(link, keep=seconds)
    await link.aclose()


@pytest.fixture
def store(stores: Make) -> SharedKeys:
    """A store that forgets nothing while a test runs."""
    return stores(LONG)


@pytest.fixture
def name() -> str:
    """Of a key that nobody has."""
    return uuid.uuid4().hex


async def test_one_of_many_gets_a_key(store: SharedKeys, name: str) -> None:
    """And all others are told which: those who ask at the same time too."""
    claims = [Claim(f"{number:032x}", "a" * 32) for number in range(50)]
    found = await asyncio.gather(*(store.hold(name, claim) for claim in claims))
    assert len(set(found)) == 1
    assert found[0] in claims


async def test_who_has_a_key_holds_on_to_it(store: SharedKeys, name: str) -> None:
    """While it runs and when it has ended; nobody else is given it, or changes anything."""
    ended = ONE._replace(ended=True)
    assert [await store.hold(name, each) for each in (ONE, OTHER, ONE)] == [ONE] * 3
    assert [await store.hold(name, each) for each in (ended, OTHER)] == [ended] * 2
    await store.release(name, OTHER)
    assert await store.hold(name, OTHER) == ended
    assert await store.hold(uuid.uuid4().hex, OTHER) == OTHER


async def test_a_key_that_is_given_up_is_free(store: SharedKeys, name: str) -> None:
    """At once."""
    await store.hold(name, ONE)
    await store.release(name, ONE)
    assert await store.hold(name, OTHER) == OTHER


async def test_keys_are_forgotten(stores: Make, name: str) -> None:
    """Some time after the end of their requests."""
    store = stores(SHORT)
    await store.hold(name, ONE._replace(ended=True))
    async with asyncio.timeout(5):
        while await store.hold(name, OTHER) != OTHER:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def test_every_key_in_redis_has_a_time_to_live(redis_url: str, prefix: str, name: str) -> None:
    """Row 24: a lease while its request runs, the store's time from then on."""
    link = RedisLink(redis_url, prefix=prefix, timeout=5)
    await link.start(10)
    store, key = RedisKeys(link, keep=LONG), f"{prefix}:idempotency:1:{{{name}}}"
    await store.hold(name, ONE)
    assert 0 < await link.run("PTTL", key) <= 10_000
    await store.hold(name, ONE._replace(ended=True))
    assert 10_000 < await link.run("PTTL", key) <= LONG * 1_000
    await link.aclose()


async def test_a_store_that_is_away_says_so(name: str) -> None:
    """Every call raises, and none hangs."""
    store = RedisKeys(RedisLink("redis://127.0.0.1:1"), keep=LONG)
    for call in (store.hold(name, ONE), store.release(name, ONE)):
        with pytest.raises(StoreUnavailableError):
            await call
