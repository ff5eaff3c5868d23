"""The link to a Redis that is well."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from redis.exceptions import ResponseError

from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_link import RedisLink, Script
from tests.support.faulty_link import faulty_link
from tests.support.redis_server import PATIENCE, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.faulty_link import FaultyLink

ECHO = Script("return {KEYS[1], ARGV[1], tonumber(ARGV[2])}")


@asynccontextmanager
async def linked(url: str, **settings: Any) -> AsyncIterator[RedisLink]:
    """A link that has looked for its Redis, and has all the time in the world."""
    link = RedisLink(url, **{"timeout": PATIENCE, **settings})
    await link.start(PATIENCE)
    try:
        yield link
    finally:
        await link.aclose()


@asynccontextmanager
async def linked_by_network(url: str, **settings: Any) -> AsyncIterator[tuple[RedisLink, FaultyLink]]:
    """The same through a network that can be slow."""
    async with (
        faulty_link(urlsplit(url).port or 0) as network,
        linked(f"redis://127.0.0.1:{network.port}", **settings) as link,
    ):
        yield link, network


async def test_commands_are_answered(redis_url: str, prefix: str) -> None:
    """Arguments are text, bytes and numbers; answers are bytes, numbers, lists and None."""
    async with linked(redis_url, prefix=prefix) as link:
        assert link.available
        assert await link.run("SET", f"{prefix}:a", b"\x00\r\n", "PX", 60_000) == b"OK"
        assert await link.run("GET", f"{prefix}:a") == b"\x00\r\n"
        assert await link.run("GET", f"{prefix}:none") is None
        assert await link.run("INCRBYFLOAT", f"{prefix}:n", 1.5) == b"1.5"
        assert await link.run("HSET", f"{prefix}:h", "é", 1) == 1
        assert await link.run("HGETALL", f"{prefix}:h") == ["é".encode(), b"1"]


async def test_large_values_pass(redis_url: str, prefix: str) -> None:
    """Megabytes go both ways beside small commands."""
    value = bytes(range(256)) * 20_000
    async with linked(redis_url) as link:
        await link.run("SET", f"{prefix}:big", value, "EX", 60)
        found = await asyncio.gather(
            *(link.run("GET", f"{prefix}:big") for _ in range(4)), link.run("PING", "")
        )

    assert found == [value] * 4 + [b""]


async def test_scripts_are_known_by_their_sha(redis_url: str, prefix: str) -> None:
    """A script is sent once; where the server has forgotten it, nobody notices."""
    async with linked(redis_url) as link:
        assert await link.script(ECHO, [f"{{{prefix}}}:a"], ["x", 3]) == [f"{{{prefix}}}:a".encode(), b"x", 3]
        assert await link.run("SCRIPT", "EXISTS", ECHO.sha) == [1]
        await link.run("SCRIPT", "FLUSH", "SYNC")
        many = await asyncio.gather(*(link.script(ECHO, [prefix], ["x", n]) for n in range(50)))

    assert [answer[2] for answer in many] == list(range(50))


async def test_mistakes_are_raised_as_they_are(redis_url: str, prefix: str) -> None:
    """A wrong type or a broken script is no outage: it is told to whoever made it, and the link goes on."""
    async with linked(redis_url) as link:
        await link.run("SET", f"{prefix}:text", "x", "EX", 60)
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await link.run("LPUSH", f"{prefix}:text", 1)
        with pytest.raises(ResponseError, match="Script attempted to access nonexistent global variable"):
            await link.script(Script("return nothing_of_that_name"), [prefix], [])
        with pytest.raises(ResponseError, match="unknown command"):
            await link.run("NOSUCH", prefix)

        assert link.available


async def test_what_is_sent_together_travels_together(redis_url: str, prefix: str) -> None:
    """Commands of everybody in one turn of the loop are one write, and so one round trip."""
    async with linked_by_network(redis_url) as (link, network):
        before = network.requests
        await asyncio.gather(*(link.run("INCR", f"{prefix}:{n}") for n in range(200)))

        assert network.requests == before + 1


async def test_commands_gather_while_others_are_under_way(redis_url: str, prefix: str) -> None:
    """Of a stream of commands no more than a few batches are on the wire; the rest waits for one more."""
    async with linked_by_network(redis_url) as (link, network):
        network.delay = 0.05
        before, calls = network.requests, []
        for _ in range(100):
            calls.append(asyncio.create_task(link.run("INCR", f"{prefix}:n")))
            await asyncio.sleep(0)
        answers = await asyncio.gather(*calls)

    assert answers == list(range(1, 101))
    assert network.requests - before <= 8


async def test_answers_of_callers_that_left_reach_nobody_else(redis_url: str, prefix: str) -> None:
    """Row 22: commands are cancelled while they are under way, 20 times; every later answer is its own."""
    async with linked_by_network(redis_url) as (link, network):
        await asyncio.gather(*(link.run("SET", f"{prefix}:{n}", n, "EX", 60) for n in range(40)))
        for _ in range(20):
            network.delay = 0.01
            left = [asyncio.create_task(link.run("GET", f"{prefix}:{n}")) for n in range(0, 40, 2)]
            kept = [asyncio.create_task(link.run("GET", f"{prefix}:{n}")) for n in range(1, 40, 2)]
            sent = network.requests + 1
            async with asyncio.timeout(PATIENCE):
                while network.requests < sent:  # noqa: ASYNC110 - then it is under way, and not answered
                    await asyncio.sleep(0)
            for call in left:
                call.cancel()
            network.delay = 0.0
            later = await asyncio.gather(*(link.run("GET", f"{prefix}:{n}") for n in range(40)))
            assert later == [str(n).encode() for n in range(40)]
            assert await asyncio.gather(*kept) == [str(n).encode() for n in range(1, 40, 2)]
            await asyncio.gather(*left, return_exceptions=True)
            assert all(call.cancelled() for call in left)


async def test_what_is_not_waited_for_is_not_sent(redis_url: str, prefix: str) -> None:
    """Row 22: a command that was cancelled before it left never reaches Redis."""
    async with linked(redis_url) as link:
        call = asyncio.create_task(link.run("INCR", f"{prefix}:n"))
        asyncio.get_running_loop().call_soon(call.cancel)
        await asyncio.wait([call])

        assert call.cancelled()
        assert await link.run("INCR", f"{prefix}:n") == 1


async def test_an_answer_that_was_given_up_reaches_nobody_else(redis_url: str, prefix: str) -> None:
    """Row 22: after a command that took too long the next answer is its own, on the same connection."""
    async with linked_by_network(redis_url, timeout=0.05) as (link, network):
        await link.run("SET", f"{prefix}:a", "a", "EX", 60)
        connections = network.accepted
        network.delay = 0.1
        with pytest.raises(StoreUnavailableError):
            await link.run("GET", f"{prefix}:a")
        network.delay = 0.0

        assert await link.run("GET", f"{prefix}:b", timeout=PATIENCE) is None
        assert network.accepted == connections


async def test_work_that_nobody_waits_for_has_longer(redis_url: str, prefix: str) -> None:
    """A command may have a time limit of its own, and keeps to it."""
    async with linked_by_network(redis_url, timeout=0.05) as (link, network):
        network.delay = 0.15
        assert await link.run("INCR", f"{prefix}:n", timeout=PATIENCE) == 1
        assert await link.script(ECHO, [prefix], ["x", 1], timeout=PATIENCE) == [prefix.encode(), b"x", 1]
        with pytest.raises(StoreUnavailableError):
            await link.run("INCR", f"{prefix}:n", timeout=0.01)


async def test_closing_lets_what_is_under_way_end(redis_url: str, prefix: str) -> None:
    """A command that was sent is answered; one that comes later is refused."""
    async with linked_by_network(redis_url) as (link, network):
        network.delay = 0.02
        call = asyncio.create_task(link.run("INCR", f"{prefix}:n"))
        await asyncio.sleep(0)
        await link.aclose()

        assert await call == 1
        assert not link.available
        with pytest.raises(StoreUnavailableError):
            await link.run("INCR", f"{prefix}:n")


async def test_a_new_password_is_taken(prefix: str) -> None:
    """The password is asked for with each connection: one that was wrong, or has changed, heals by itself."""
    passwords = ["wrong"]
    changes: asyncio.Queue[bool] = asyncio.Queue()
    async with redis_server("--requirepass", "first") as server:
        link = RedisLink(server.url, password=lambda: passwords[-1], prefix=prefix, timeout=PATIENCE)
        link.on_change(changes.put_nowait)
        await link.start(PATIENCE)
        assert not link.available

        passwords.append("first")
        async with asyncio.timeout(PATIENCE):
            assert await changes.get()
            await server.cli("-a", "first", "config", "set", "requirepass", "second")
            passwords.append("second")
            await server.cli("-a", "second", "client", "kill", "type", "normal")
            assert [await changes.get(), await changes.get()] == [False, True]
        assert await link.run("INCR", f"{prefix}:n") == 1
        await link.aclose()


async def test_user_and_password_of_the_url_are_used(prefix: str) -> None:
    """An ACL user that may touch only the keys of the prefix is all that is needed."""
    rules = ("on", ">s3cret", f"~{prefix}:*", "+@all", "-@admin", "-@dangerous", "+cluster|slots")
    async with redis_server("--user", "sidecar", *rules) as server:
        url = server.url.replace("://", "://sidecar:s3cret@")
        async with linked(url, prefix=prefix) as link:
            assert await link.script(ECHO, [f"{prefix}:a"], ["x", 1]) == [f"{prefix}:a".encode(), b"x", 1]


async def test_the_database_of_the_url_is_used(redis_url: str, prefix: str) -> None:
    """Databases are apart."""
    async with linked(f"{redis_url}/3") as third, linked(redis_url) as first:
        await third.run("SET", f"{prefix}:a", 1, "EX", 60)

        assert await first.run("GET", f"{prefix}:a") is None
        assert await third.run("GET", f"{prefix}:a") == b"1"


async def test_scripts_of_one_step_leave_in_one_write() -> None:
    """Also to a server that does not know them; one that nobody waits for any more disturbs nobody."""
    async with redis_server() as server, linked_by_network(server.url) as (link, network):
        for flush in ("sync", "no"):
            if flush != "no":
                await server.cli("script", "flush", flush)
            before = network.requests
            sent = [link.send(ECHO, [f"key{n}"], ["x", n]) for n in range(5)]
            sent.pop(3).drop()
            assert [await each for each in sent] == [[f"key{n}".encode(), b"x", n] for n in (0, 1, 2, 4)]
        assert network.requests == before + 1
        await server.kill()
        while link.available:  # noqa: ASYNC110 - the loop tells nobody
            await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError):
            link.send(ECHO, ["key"], ["x", 1])
