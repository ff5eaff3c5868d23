"""Several sidecars that share answers: each is a TieredAnswers with a link of its own to a real Redis."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from outrider import v1
from outrider.core.answers import LEASE_SECONDS, Lease, StoredAnswer
from outrider.stores.invalidations import MOST
from outrider.stores.memory_answers import MemoryAnswers
from outrider.stores.redis_answers import RedisAnswers
from outrider.stores.redis_link import RedisLink
from outrider.stores.tiered_answers import TieredAnswers
from tests.support.faulty_link import faulty_link
from tests.support.redis_server import redis_cluster, redis_server
from tests.support.stored_answers import stored, text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

KEY = "0f" * 32
POLL = 0.05
EVERYTHING = v1.InvalidateCacheRequest(all=True)


class Pod:
    """One sidecar's answers. Its clock is `skew` seconds off."""

    def __init__(self, link: RedisLink, skew: float, poll: float) -> None:
        self.link = link
        self.clock: Callable[[], float] = lambda: time.time() + skew
        self.answers = TieredAnswers(
            MemoryAnswers(2**26, self.clock), RedisAnswers(link, self.clock), poll=poll
        )

    async def lease(self, key: str = KEY) -> Lease:
        """The lease, which must be free."""
        found = await self.answers.look_up(key, lease=True)
        assert isinstance(found, Lease), found
        return found

    async def free(self) -> bool:
        """Whether the lease can be had."""
        found = await self.answers.look_up(KEY, lease=True)
        if isinstance(found, Lease):
            await self.answers.release(found)
        return isinstance(found, Lease)

    async def put(
        self, text: str = "yes", key: str = KEY, lease: Lease | None = None, **fields: object
    ) -> None:
        """Store an answer that was made now."""
        await self.answers.put(key, stored(text, at=self.clock(), **fields), lease)  # type: ignore[arg-type]


@asynccontextmanager
async def pods(
    url: str, prefix: str, *skews: float, bound: float = 5.0, poll: float = POLL
) -> AsyncIterator[list[Pod]]:
    """Sidecars with clocks that are so many seconds off."""
    async with AsyncExitStack() as stack:
        made = []
        for skew in skews:
            link = RedisLink(url, prefix=prefix, timeout=bound)
            stack.push_async_callback(link.aclose)
            await link.start(10)
            pod = Pod(link, skew, poll)
            stack.push_async_callback(pod.answers.aclose)
            await pod.answers.start()
            made.append(pod)
        yield made


@pytest_asyncio.fixture
async def two(redis_url: str, prefix: str) -> AsyncIterator[list[Pod]]:
    """Two sidecars, whose clocks are ten seconds apart."""
    async with pods(redis_url, prefix, -5, 5) as made:
        yield made


async def until(holds: Callable[[], bool | Awaitable[bool]], seconds: float = 10.0) -> float:
    """Wait for something; how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            held = holds()
            if held is True or (isawaitable(held) and await held):
                return time.monotonic() - began
            await asyncio.sleep(0.005)


async def test_one_makes_the_answer_and_the_other_gets_it(two: list[Pod]) -> None:
    """Of two sidecars with the same request one has the lease, and the other waits and gets its answer."""
    one, other = two
    lease = await one.lease()
    assert await other.answers.look_up(KEY, lease=True) is None
    waiting = asyncio.create_task(other.answers.wait_for(KEY, 30))

    await one.put("made by one", lease=lease)

    assert text_of(await waiting) == "made by one"
    assert text_of(other.answers.recall(KEY)) == "made by one"
    assert await one.link.run("PTTL", f"{one.link.prefix}:lease:{{{KEY}}}") == -2


async def test_fifty_at_once_give_one_lease(two: list[Pod]) -> None:
    """However many ask at the same time, one is to make the answer."""
    found = await asyncio.gather(*(pod.answers.look_up(KEY, lease=True) for pod in two * 25))

    assert sum(isinstance(each, Lease) for each in found) == 1


async def test_who_gives_up_lets_the_others_go_on(two: list[Pod]) -> None:
    """A lease that is released ends every wait at once, without an answer, and is free again."""
    one, other = two
    lease = await one.lease()
    waiting = asyncio.create_task(other.answers.wait_for(KEY, 30))
    await asyncio.sleep(0)

    await one.answers.release(lease)

    async with asyncio.timeout(5):
        assert await waiting is None
    await other.lease()


async def test_waiting_has_an_end(two: list[Pod]) -> None:
    """Nobody waits longer for another sidecar than it says."""
    await two[0].lease()
    began = time.monotonic()

    assert await two[1].answers.wait_for(KEY, 0.3) is None

    assert 0.25 < time.monotonic() - began < 3


async def test_a_lease_that_was_lost_is_left_alone(two: list[Pod]) -> None:
    """Whose lease ran out neither renews nor ends that of the next, but its answer is welcome."""
    one, other = two
    lost = await one.lease()
    name = f"{one.link.prefix}:lease:{{{KEY}}}"
    await one.link.run("DEL", name)  # as if its time had been over
    lease = await other.lease()
    await one.link.run("PEXPIRE", name, 5_000)

    await one.answers.renew(lost)
    await one.answers.release(lost)
    await one.put(lease=lost)

    assert await one.link.run("GET", name) == lease.token.encode()
    assert await one.link.run("PTTL", name) <= 5_000
    assert text_of(await other.answers.look_up(KEY, lease=True)) == "yes"
    await other.answers.renew(lease)
    assert LEASE_SECONDS * 1_000 - 5_000 < await one.link.run("PTTL", name) <= LEASE_SECONDS * 1_000


async def test_a_caller_that_leaves_takes_no_lease_with_it(two: list[Pod]) -> None:
    """Row 22: a look-up that is cancelled while Redis grants its lease does not keep the others waiting."""
    one, other = two
    for _ in range(20):
        asking = asyncio.create_task(one.answers.look_up(KEY, lease=True))
        for _ in range(3):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()

        await until(other.free, LEASE_SECONDS / 2)


async def test_a_stale_answer_gives_the_lease(two: list[Pod]) -> None:
    """Past its time an answer is there for who asks for nothing better; who wants a fresh one may make it."""
    one, other = two
    await one.put("old", fresh_for=0.2, stale_for=60)
    await until(other.free)

    lease = await other.lease()
    assert text_of(await one.answers.look_up(KEY, lease=False)) == "old"
    assert await one.answers.look_up(KEY, lease=True) is None
    waiting = asyncio.create_task(one.answers.wait_for(KEY, 30))
    await other.put("new", lease=lease)
    assert text_of(await waiting) == "new"


async def test_ages_are_right_whatever_the_clocks_say(two: list[Pod]) -> None:
    """Row 24: with clocks ten seconds apart, both sidecars say the same age, and both give what is fresh."""
    one, other = two
    made = stored(at=one.clock() - 20, fresh_for=25, stale_for=1)
    await one.answers.put(KEY, made, None)

    for pod in two:
        found = await pod.answers.look_up(KEY, lease=True)
        assert isinstance(found, StoredAnswer)
        assert found.age(pod.clock()) == pytest.approx(20, abs=1)
        assert found.is_fresh(pod.clock())
    recalled = other.answers.recall(KEY)
    assert recalled is not None
    assert recalled.age(other.clock()) == pytest.approx(20, abs=1)


@pytest.mark.parametrize("invalidating", [0, 1])
async def test_invalidation_reaches_the_others(two: list[Pod], invalidating: int) -> None:
    """Row 24: what one sidecar forgets is in no answer of the shared store at once, and leaves the others'
    memory with the next poll, however far their clocks are off; what is stored afterwards stays.
    """
    one, other = two[invalidating], two[1 - invalidating]
    await other.put(tenant="acme")
    await other.put(key="1" * 64, tenant="zeta")
    assert await one.answers.look_up(KEY, lease=False) is not None

    assert await one.answers.invalidate(v1.InvalidateCacheRequest(tenant="acme")) == 2

    assert one.answers.recall(KEY) is None
    assert await other.answers.look_up(KEY, lease=False) is None
    assert await until(lambda: other.answers.recall(KEY) is None) < POLL + 1
    assert other.answers.recall("1" * 64) is not None
    for pod in two:
        await pod.put("new", tenant="acme")
        assert text_of(await one.answers.look_up(KEY, lease=True)) == "new"
    await asyncio.sleep(3 * POLL)
    assert text_of(other.answers.recall(KEY)) == "new"


async def test_what_was_not_removed_is_not_given(two: list[Pod]) -> None:
    """An invalidation holds for entries that nobody has removed yet; the next caller makes the answer."""
    one, other = two
    await one.put(model="openai/a")
    await RedisAnswers(other.link).invalidations.announce(v1.InvalidateCacheRequest(model="openai/a"))

    assert isinstance(await one.answers.look_up(KEY, lease=True), Lease)
    assert await one.link.run("EXISTS", f"{one.link.prefix}:answer:1:{{{KEY}}}") == 0


async def test_an_answer_that_was_on_its_way_falls_too(two: list[Pod]) -> None:
    """What a sidecar stores that has not heard of an invalidation yet is not given by those that have."""
    one, other = two
    await other.answers.aclose()  # it polls no more
    await one.answers.invalidate(EVERYTHING)
    await other.put()

    assert isinstance(await one.answers.look_up(KEY, lease=True), Lease)


async def test_a_wait_does_not_end_with_what_was_invalidated(two: list[Pod]) -> None:
    """Who waits for an answer that is forgotten before it comes goes on alone."""
    one, other = two
    lease = await one.lease()
    await other.answers.aclose()
    waiting = asyncio.create_task(other.answers.wait_for(KEY, 5))
    await RedisAnswers(one.link).invalidations.announce(EVERYTHING)
    await RedisAnswers(one.link).put(KEY, stored(at=time.time()), lease.token)

    assert await waiting is None


@pytest.mark.parametrize("entry", [b"", b"abc", b"\0\0\0\0garbage", b"\xff\xff\xff\xffora\x01"])
async def test_garbage_is_no_answer(two: list[Pod], entry: bytes) -> None:
    """An entry that cannot be read is none: it goes, and somebody makes the answer."""
    name = f"{two[0].link.prefix}:answer:1:{{{KEY}}}"
    await two[0].link.run("SET", name, entry, "PX", 60_000)

    assert await two[0].answers.look_up(KEY, lease=False) is None
    await two[0].lease()
    await two[0].link.run("SET", name, entry, "PX", 60_000)
    assert await two[1].answers.wait_for(KEY, 0.1) is None
    await two[0].answers.invalidate(EVERYTHING)


async def test_a_key_of_another_kind_is_no_answer(two: list[Pod]) -> None:
    """Keys that something else has put there harm nobody."""
    prefix = two[0].link.prefix
    await two[0].link.run("LPUSH", f"{prefix}:answer:1:{{{KEY}}}", "a")
    await two[0].link.run("LPUSH", f"{prefix}:invalidations", "a")

    assert await two[0].answers.look_up(KEY, lease=True) is None
    await two[0].put()
    assert text_of(two[0].answers.recall(KEY)) == "yes"
    assert await two[0].answers.invalidate(EVERYTHING) == 1


async def test_everything_in_redis_ends(two: list[Pod], prefix: str) -> None:
    """Row 24: no key stays for ever, and an answer goes when it is of no use any more."""
    await two[0].lease("1" * 64)
    await two[0].put(fresh_for=30, stale_for=10)
    await two[0].put(key="2" * 64, fresh_for=10**9)
    await two[0].answers.invalidate(v1.InvalidateCacheRequest(tenant="acme"))
    names = [name.decode() for name in await two[0].link.run("KEYS", f"{prefix}:*")]

    lives = {name: await two[0].link.run("TTL", name) for name in names if ":probe:" not in name}

    assert len(lives) == 4
    assert all(0 < left <= 31 * 86_400 for left in lives.values())
    assert 30 <= lives[f"{prefix}:answer:1:{{{KEY}}}"] <= 40


async def test_large_answers_stay_at_home(two: list[Pod], prefix: str) -> None:
    """What is larger than a megabyte when it is packed is not shared, but whoever waits for it goes on."""
    one, other = two
    big = random.Random(1).randbytes(1_400_000).decode("latin-1")
    lease = await one.lease()
    waiting = asyncio.create_task(other.answers.wait_for(KEY, 30))

    await one.put(big, lease=lease)

    assert await waiting is None
    assert text_of(one.answers.recall(KEY)) == big
    assert await one.link.run("EXISTS", f"{prefix}:answer:1:{{{KEY}}}") == 0


async def test_answers_of_hundreds_of_kilobytes_are_shared(two: list[Pod]) -> None:
    """An answer that is packed and unpacked in a thread arrives as it was."""
    text = "".join(f"{number * 7919} " for number in range(60_000))
    await two[0].put(text)

    assert text_of(await two[1].answers.look_up(KEY, lease=True)) == text


async def test_all_of_a_large_store_is_removed(two: list[Pod]) -> None:
    """To forget one tenant among thousands of answers removes and counts each of its own."""
    for number in range(0, 2_000, 100):
        await asyncio.gather(
            *(two[0].put(key=f"{n:064}", tenant=("acme", "zeta")[n % 2]) for n in range(number, number + 100))
        )

    assert await two[1].answers.invalidate(v1.InvalidateCacheRequest(tenant="acme")) == 1_000

    await until(lambda: two[0].answers.stats().entries == 1_000)


async def test_many_invalidations_take_bounded_room(two: list[Pod]) -> None:
    """Beyond ten thousand the older ones become one that everything fits: nothing that should go stays."""
    one, other = two
    await one.put("before")
    table = RedisAnswers(one.link).invalidations
    for start in range(0, MOST + 10, 1_000):
        await asyncio.gather(
            *(
                table.announce(v1.InvalidateCacheRequest(tenant=f"tenant-{number}"))
                for number in range(start, min(start + 1_000, MOST + 10))
            )
        )

    assert await one.link.run("ZCARD", f"{one.link.prefix}:invalidations") <= MOST
    assert isinstance(await other.answers.look_up(KEY, lease=True), Lease)
    await other.put("after")
    assert text_of(await one.answers.look_up(KEY, lease=True)) == "after"


async def test_round_trips(redis_url: str, prefix: str) -> None:
    """A look-up is one round trip, whether it finds an answer, a lease or neither, and so is storing an
    answer; what was sent off in the moment before travels along.
    """
    port = int(redis_url.rpartition(":")[2])
    async with (
        faulty_link(port) as network,
        pods(f"redis://127.0.0.1:{network.port}", prefix, 0, poll=3_600) as (pod,),
    ):
        await pod.put(lease=await pod.lease())  # Redis knows the scripts from here on

        async def trips(work: Awaitable[object]) -> int:
            before = network.requests
            await work
            return network.requests - before

        assert await trips(pod.answers.look_up(KEY, lease=True)) == 1
        assert await trips(pod.lease("1" * 64)) == 1
        assert await trips(pod.answers.look_up("1" * 64, lease=True)) == 1
        assert await trips(pod.put("again")) == 1
        beside = asyncio.create_task(pod.link.run("GET", "something"))
        assert await trips(pod.answers.look_up(KEY, lease=True)) == 1
        assert beside.done()


async def test_without_redis_memory_goes_on() -> None:
    """Rows 23, 33: Redis is killed in the middle of everything: nothing raises, what is in memory is given,
    what is asked of the fleet is not there, and no call takes longer than it may. On its return all is shared
    again, and what was invalidated meanwhile is forgotten by everybody.
    """
    async with redis_server() as server, pods(server.url, "outrider", 0, 0, bound=0.25) as (one, other):
        await one.put("kept")
        await one.put("known", key="1" * 64)
        assert await other.answers.look_up("1" * 64, lease=True) is not None
        lease = await one.lease("2" * 64)
        waiting = asyncio.create_task(other.answers.wait_for("2" * 64, 30))
        asking = [asyncio.create_task(one.answers.look_up(f"{n:064}", lease=True)) for n in range(20)]
        await asyncio.sleep(0)
        await server.kill()

        async with asyncio.timeout(5):
            assert await waiting is None
            found = await asyncio.gather(*asking)
        assert not any(isinstance(each, StoredAnswer) for each in found)
        await until(lambda: not one.answers.shared and not other.answers.shared)
        began = time.monotonic()
        for _ in range(100):
            assert text_of(one.answers.recall(KEY)) == "kept"
            assert await one.answers.look_up("3" * 64, lease=True) is None
            await one.put("new", key="2" * 64, lease=lease)
            await one.answers.renew(lease)
            await one.answers.release(lease)
            assert text_of(one.answers.recall("2" * 64)) == "new"
        assert time.monotonic() - began < 3
        assert await one.answers.invalidate(v1.InvalidateCacheRequest(key="1" * 64)) == 1
        assert text_of(other.answers.recall("1" * 64)) == "known"

        await server.start()

        await until(lambda: one.answers.shared and other.answers.shared, 30)
        await until(lambda: other.answers.recall("1" * 64) is None)
        assert text_of(one.answers.recall(KEY)) == "kept"
        await one.put("again", key="4" * 64)
        assert text_of(await other.answers.look_up("4" * 64, lease=True)) == "again"


async def test_a_redis_that_does_not_answer_costs_its_bound() -> None:
    """Row 23: with Redis stopped, a look-up takes no longer than the link's time limit, and then nothing."""
    async with redis_server() as server, pods(server.url, "outrider", 0, bound=0.1) as (pod,):
        await pod.put()
        server.pause()
        try:
            began = time.monotonic()
            assert await pod.answers.look_up("1" * 64, lease=True) is None
            assert time.monotonic() - began < 3
            await until(lambda: not pod.answers.shared)
            assert text_of(pod.answers.recall(KEY)) == "yes"
        finally:
            server.resume()


async def test_on_a_cluster() -> None:
    """Everything works where keys are on several servers: leases, answers, invalidation and its count."""
    async with redis_cluster() as cluster, pods(cluster.url, "outrider", 0, 0) as (one, other):
        keys = [f"{number:064}" for number in range(50)]
        leases = await asyncio.gather(*map(one.lease, keys))
        for key, lease in zip(keys, leases, strict=True):
            await one.put(key=key, lease=lease, tenant="acme")
        found = await asyncio.gather(*(other.answers.look_up(key, lease=True) for key in keys))
        assert all(isinstance(each, StoredAnswer) for each in found)

        assert await other.answers.invalidate(v1.InvalidateCacheRequest(tenant="acme")) == 100

        assert not any(await asyncio.gather(*(one.answers.look_up(key, lease=False) for key in keys)))
        await until(lambda: one.answers.stats().entries == 0)
