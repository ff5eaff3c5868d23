"""Every key of a form, on every server of a deployment."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from redis.crc import key_slot
from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from outrider.stores.redis_link import RedisLink

_AT_ONCE = 100


async def scan(link: RedisLink, prefix: str) -> AsyncGenerator[list[str], None]:
    """Names of keys that begin like this, some at a time; one may come twice.

    Raises StoreUnavailableError, and redis-py's ResponseError.
    """
    for anchor in await _anchors(link):
        cursor = b"0"
        while True:
            command = ("SCAN", cursor, "MATCH", f"{_literal(prefix)}*", "COUNT", _AT_ONCE)
            cursor, found = await link.run(*command, key=anchor)
            yield [name.decode() for name in found]
            if cursor == b"0":
                break


async def _anchors(link: RedisLink) -> list[str]:
    """A key on each master, there or not: a Cluster's servers are reached by the keys they have."""
    try:
        shards = await link.run("CLUSTER", "SLOTS")
    except ResponseError:
        return [link.prefix]
    masters: dict[tuple[bytes, int], list[tuple[int, int]]] = {}
    for first, last, (host, port, *_), *_ in shards:
        masters.setdefault((host, port), []).append((first, last))
    return [_key_within(ranges) for ranges in masters.values()]


def _key_within(ranges: Sequence[tuple[int, int]]) -> str:
    for number in count():
        slot = key_slot(b"%d" % number)
        if any(first <= slot <= last for first, last in ranges):
            return str(number)
    raise AssertionError


def _literal(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]^\\" else letter for letter in text)
