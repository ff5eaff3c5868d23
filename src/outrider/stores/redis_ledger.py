"""The usage ledger that a fleet shares, in Redis.

Each hour has a few slots (one, but on a Cluster), each with three keys: the sums, the records, and the last
number of every source, which makes counting twice impossible. One script call counts a batch. Sums are exact
up to 2^53, which is nine million dollars an hour for one key.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import OrderedDict
from contextlib import aclosing
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from outrider.core.ledger import UsageKey
from outrider.core.store_errors import StoreRewoundError
from outrider.stores.ledger_pages import RecordReader
from outrider.stores.redis_link import Script
from outrider.stores.usage_sums import add, count, crowd_of, hour_of, key_of, new_totals, to_message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from outrider import v1
    from outrider.core.ledger import LedgerBatch
    from outrider.stores.redis_link import Argument, RedisLink
    from outrider.stores.usage_sums import Totals

_SCRIPT = Script(files("outrider.stores").joinpath("ledger.lua").read_text())
_HOUR = 3600  # seconds
_AT_ONCE = 64  # records that are added up before others may run: under a millisecond
_KEYS_AT_ONCE = 500
_HOURS_AT_ONCE = 24
_PATIENCE = 2.0  # seconds; no request waits for the ledger
_REMEMBERED = 64  # hours and sources whose last number is known

_encode = msgspec.msgpack.encode
_key_decoder = msgspec.msgpack.Decoder(tuple[str, str, str, str, str, str])
_totals_decoder = msgspec.msgpack.Decoder(list[int])


class RedisLedger:
    """A LedgerStore. Sums are kept for `retention` seconds, records for `record_retention`.

    `max_records` are kept for an hour and shard; beyond `max_keys` in an hour keys are counted as others.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        shards: int = 1,
        retention: float = 90 * 24 * _HOUR,
        record_retention: float = 7 * 24 * _HOUR,
        max_records: int = 100_000,
        max_keys: int = 10_000,
    ) -> None:
        self._link = link
        self._shards = shards
        self._retention = retention
        self._record_retention = min(record_retention, retention)
        self._max_records = max_records
        self._max_keys = max(1, max_keys // shards)
        self._confirmed: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._doubtful = False
        link.on_change(self._link_changed)

    async def append(self, batch: LedgerBatch) -> None:
        """Count a batch. One that has been counted already counts nothing again.

        Raises StoreUnavailableError, and StoreRewoundError where Redis may have lost what it had confirmed: a
        replica took over that had not heard of it yet.
        """
        if self._doubtful:
            self._rewind()
        for hour, part in (await _parts(batch)).items():
            await self._count(batch.source, batch.number, hour, part)

    async def sums(self, first_hour: int, end_hour: int) -> Sequence[tuple[UsageKey, v1.UsageTotals]]:
        """Every sum of the hours from `first_hour` to before `end_hour`, each key once."""
        now = int(time.time()) // _HOUR
        first = max(first_hour, now - int(self._retention) // _HOUR - 1)
        end = min(end_hour, now + 2)  # clocks differ
        found: list[tuple[UsageKey, v1.UsageTotals]] = []
        for start in range(first, end, _HOURS_AT_ONCE):
            some = range(start, min(start + _HOURS_AT_ONCE, end))
            for sums in await asyncio.gather(*(self._hour(hour) for hour in some)):
                found += [(key, to_message(totals)) for key, totals in sums.items()]
        return found

    async def records(
        self, start_ms: int, end_ms: int, cursor: str = ""
    ) -> AsyncGenerator[tuple[str, v1.UsageRecord], None]:
        """Kept records that ended in this time, each with its cursor: hour by hour, as they were counted.

        Continues after `cursor`, first with those that earlier hours have got since; it is good for another
        process too. Raises ValueError for a cursor that is none.
        """
        oldest = int((time.time() - self._record_retention) * 1000)
        reader = RecordReader(self._link, self._stream, self._shards)
        async with aclosing(reader.pages(max(start_ms, oldest), end_ms, cursor)) as pages:
            async for page in pages:
                for place, record in page:
                    if start_ms <= record.ended_at.ToMilliseconds() < end_ms:
                        yield place, record

    async def _count(self, source: str, number: int, hour: int, part: _Part) -> None:
        slot = self._slot(hour, zlib.crc32(source.encode()) % self._shards)
        ends = (hour + 1) * _HOUR
        arguments: list[Argument] = [
            source,
            number,
            self._confirmed.get((source, hour), 0),
            self._max_keys,
            self._max_records,
            ends + int(self._retention),
            ends + int(self._record_retention),
            len(part.sums),
        ]
        for key, totals in part.sums.items():
            arguments += (_encode(key[1:]), _encode(crowd_of(key)[1:]), _encode(totals))
        arguments += part.records
        keys = (f"{slot}:sums", f"{slot}:sources", f"{slot}:records")
        if await self._link.script(_SCRIPT, keys, arguments, timeout=_PATIENCE) < 0:
            self._rewind()
        self._confirmed[source, hour] = number
        if len(self._confirmed) > _REMEMBERED:
            self._confirmed.popitem(last=False)

    async def _hour(self, hour: int) -> dict[UsageKey, Totals]:
        """The sums of an hour, all shards together."""
        shards = await asyncio.gather(
            *(self._scan(f"{self._slot(hour, n)}:sums") for n in range(self._shards))
        )
        sums: dict[UsageKey, Totals] = {}
        for shard in shards:
            for field, value in shard.items():
                key = UsageKey(hour, *_key_decoder.decode(field))
                add(_totals_decoder.decode(value), sums.setdefault(key, new_totals()))
            await asyncio.sleep(0)
        return sums

    async def _scan(self, key: str) -> dict[bytes, bytes]:
        """A hash, a part at a time: neither Redis nor the loop stands still for a large one."""
        found: dict[bytes, bytes] = {}
        position: bytes | int = 0
        while True:
            position, flat = await self._link.run(
                "HSCAN", key, position, "COUNT", _KEYS_AT_ONCE, timeout=_PATIENCE
            )
            found.update(zip(flat[::2], flat[1::2], strict=True))
            if int(position) == 0:
                return found

    def _slot(self, hour: int, shard: int) -> str:
        return f"{self._link.prefix}:{{ledger:{hour}:{shard}}}"

    def _stream(self, hour: int, shard: int) -> str:
        return f"{self._slot(hour, shard)}:records"

    def _link_changed(self, available: bool) -> None:
        # Whoever answers now may be a replica that had not heard of the last batches.
        self._doubtful = self._doubtful or (available and bool(self._confirmed))

    def _rewind(self) -> None:
        self._doubtful = False
        self._confirmed.clear()
        raise StoreRewoundError("Redis may have lost the last batches")


class _Part:
    """What a batch holds of one hour."""

    __slots__ = ("records", "sums")

    def __init__(self) -> None:
        self.sums: dict[UsageKey, Totals] = {}
        self.records: list[bytes] = []


async def _parts(batch: LedgerBatch) -> dict[int, _Part]:
    """A batch by hours: always the same parts, so that each is counted once however often it is sent."""
    parts: dict[int, _Part] = {}
    for place, record in enumerate(batch.records, start=1):
        part = parts.get(hour := hour_of(record))
        if part is None:
            part = parts[hour] = _Part()
        key = key_of(record)
        totals = part.sums.get(key)
        if totals is None:
            totals = part.sums[key] = new_totals()
        count(record, totals)
        part.records.append(record.SerializeToString())
        if place % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return parts
