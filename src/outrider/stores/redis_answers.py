"""The answers that a fleet shares, in Redis."""

from __future__ import annotations

import asyncio
import struct
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import msgspec
from redis.exceptions import ResponseError

from outrider.core.answers import LEASE_SECONDS, Lease, StoredAnswer
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores import answer_scripts as scripts
from outrider.stores.answer_codec import LONGEST_HEAD, decode, encode, peek
from outrider.stores.answer_label import fits
from outrider.stores.redis_invalidations import LONGEST_KEPT, RedisInvalidations
from outrider.stores.redis_scan import scan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from outrider import v1
    from outrider.stores.answer_label import Label
    from outrider.stores.redis_link import RedisLink, Script

FORM = 1  # of the entries; sidecars that write another one use other keys

_STALE_MS = struct.Struct(">I")  # before each entry, for the scripts
_LEASE_MS = int(LEASE_SECONDS * 1_000)
_LARGEST = 2**20  # bytes of an entry; larger ones are not shared
_LARGE = 128 * 1024  # bytes of an answer that is packed and unpacked in a thread
_REMOVAL_SECONDS = 2.0
_HEADS = (512, LONGEST_HEAD + _STALE_MS.size)  # bytes read for a label: most are short
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.02, 1.5, 0.2  # seconds between two looks for an awaited answer


class RedisAnswers:
    """Entries and leases. What was invalidated anywhere is never given.

    Every method raises StoreUnavailableError, and takes no longer than the link allows for a call or two; but
    for `wait_for` and `remove`, which say. Ages are counted by Redis: the clocks of other pods do not matter.
    `clock` is the Unix clock.
    """

    def __init__(self, link: RedisLink, clock: Callable[[], float] = time.time) -> None:
        self._link = link
        self._clock = clock
        self.invalidations = RedisInvalidations(link)
        self._entries = f"{link.prefix}:answer:{FORM}:{{"

    @property
    def available(self) -> bool:
        """Whether Redis is there."""
        return self._link.available

    async def look_up(self, key: str, token: str = "") -> StoredAnswer | bool:
        """The answer, in one round trip; without one, whether `token` now has the lease.

        With a token, an answer that is stale counts as none.
        """
        for _ in range(2):
            news = asyncio.create_task(self.invalidations.catch_up())  # leaves in the same batch
            try:
                reply = await self._script(scripts.LOOK_UP, self._keys(key), (token, _LEASE_MS))
                current = await news
            finally:
                news.cancel()
            if not isinstance(reply, list):
                return bool(reply)
            if not current:
                raise StoreUnavailableError("what has been invalidated is not known")
            found = await self._read(key, *reply)
            if found is not None:
                return found
            await self._run("UNLINK", self._entry(key))
        return False

    async def wait_for(self, key: str, patience: float) -> StoredAnswer | None:
        """The answer, once it is there; None when the lease ends without one, or after `patience` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        pause = _FIRST_PAUSE
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(pause, left))
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)
            reply = await self._script(scripts.AWAIT, self._keys(key), ())
            if isinstance(reply, list):
                return await self._read(key, *reply) if await self.invalidations.catch_up() else None
            if not reply:
                break
        return None

    async def put(self, key: str, answer: StoredAnswer, token: str = "") -> None:
        """Store, and end the lease. An answer that is too large, or of no use any more, just ends it."""
        kept = min(answer.fresh_for + answer.stale_for - answer.age(self._clock()), LONGEST_KEPT)
        entry = await self._pack(key, answer) if kept >= 0.001 else None
        if entry is not None and len(entry) <= _LARGEST:
            await self._script(scripts.PUT, self._keys(key), (entry, int(kept * 1_000), token))
        elif token:
            await self.hold(Lease(key, token), 0)

    async def hold(self, lease: Lease, seconds: float) -> None:
        """Keep a lease for so long from now; 0 ends it. One that is another's now stays as it is."""
        await self._script(scripts.HOLD, self._keys(lease.key)[1:], (lease.token, int(seconds * 1_000)))

    async def remove(self, selector: v1.InvalidateCacheRequest) -> int:
        """Remove what fits and has been invalidated; how many were found within two seconds. Never raises.

        That is for room and for the count: what is missed is never given either.
        """
        removed = 0
        with suppress(TimeoutError, StoreUnavailableError):
            async with asyncio.timeout(_REMOVAL_SECONDS), aclosing(self._candidates(selector)) as found:
                async for names in found:
                    removed += await self._remove(names, selector)
        return removed

    async def _candidates(self, selector: v1.InvalidateCacheRequest) -> AsyncGenerator[Sequence[str], None]:
        if selector.key:
            yield [self._entry(selector.key)]
            return
        try:
            async with aclosing(scan(self._link, self._entries)) as found:
                async for names in found:
                    yield names
        except ResponseError as error:
            raise StoreUnavailableError("Redis does not let its keys be read") from error

    async def _remove(self, names: Sequence[str], selector: v1.InvalidateCacheRequest) -> int:
        labels = await asyncio.gather(*map(self._label, names))
        gone = [
            self._run("UNLINK", name)
            for name, label in zip(names, labels, strict=True)
            if label is not None and self._falls(name[len(self._entries) : -1], label, selector)
        ]
        return sum(await asyncio.gather(*gone))

    async def _label(self, name: str) -> Label | None:
        for length in _HEADS:
            head = await self._run("GETRANGE", name, 0, length - 1)
            label = peek(head[_STALE_MS.size :])
            if label is not None or len(head) < length:
                return label
        return None

    def _falls(self, key: str, label: Label, selector: v1.InvalidateCacheRequest) -> bool:
        return fits(selector, key, label) and self.invalidations.forbid(key, label)

    async def _pack(self, key: str, answer: StoredAnswer) -> bytes | None:
        epoch = self.invalidations.newest
        if answer.answer.ByteSize() > _LARGE:
            data = await asyncio.to_thread(encode, key, answer, epoch)
        else:
            data = encode(key, answer, epoch)
        stale = _STALE_MS.pack(int(min(answer.stale_for, LONGEST_KEPT) * 1_000))
        return None if data is None else stale + data

    async def _read(self, key: str, entry: bytes, left: int) -> StoredAnswer | None:
        data = entry[_STALE_MS.size :]
        decoded = await asyncio.to_thread(decode, key, data) if len(data) * 4 > _LARGE else decode(key, data)
        if decoded is None or self.invalidations.forbid(key, decoded[0]):
            return None
        label, answer = decoded
        age = max(0.0, min(label.kept_for, LONGEST_KEPT) - left / 1_000)
        return msgspec.structs.replace(label, stored_at=self._clock() - age).attach(answer)

    def _entry(self, key: str) -> str:
        return f"{self._entries}{key}}}"

    def _keys(self, key: str) -> tuple[str, str]:
        return self._entry(key), f"{self._link.prefix}:lease:{{{key}}}"

    async def _script(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        try:
            return await self._link.script(script, keys, args)
        except ResponseError as error:
            raise StoreUnavailableError("Redis refused a script of the cache") from error

    async def _run(self, *command: str | bytes | int) -> Any:
        try:
            return await self._link.run(*command)
        except ResponseError as error:
            raise StoreUnavailableError("Redis refused a command of the cache") from error
