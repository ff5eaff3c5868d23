"""Reads the record streams of the shared ledger, page by page, with a cursor that outlives the process.

Streams are read hour by hour. A sidecar that was cut off counts records of earlier hours later: so a cursor
also says up to which moment the earlier hours were read, and the last of them are looked at again first.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from outrider import v1

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from outrider.stores.redis_link import RedisLink

    Page: TypeAlias = list[tuple[str, v1.UsageRecord]]
    Id: TypeAlias = tuple[int, int]  # of an entry: the milliseconds of Redis, and a number within
    Entry: TypeAlias = tuple[Id, bytes]
    Moment: TypeAlias = tuple[int, int, int]  # an entry among those of several streams: its id and its stream

_HOUR_MS = 3_600_000
_AT_ONCE = 200  # records
_LATE_HOURS = 24  # how long a sidecar may be cut off for its records to be met by whoever reads on
_PATIENCE = 2.0  # seconds
_START = (0, 0)
_AFTER_ALL = 10**12  # streams
_CURSOR = re.compile(r"([0-9]{1,9})_([0-9]{1,15}-[0-9]{1,15}-[0-9]{1,15})((?:_[0-9]{1,15}-[0-9]{1,15})+)")


@dataclass(frozen=True, slots=True)
class Position:
    """How far was read: of an hour each shard up to an entry, of those before what came until `late`."""

    hour: int
    late: Moment
    shards: tuple[Id, ...]

    def __str__(self) -> str:
        parts = ("-".join(map(str, part)) for part in ((self.hour,), self.late, *self.shards))
        return "_".join(parts)

    @classmethod
    def parse(cls, text: str, shards: int) -> Position:
        """What a cursor tells. Raises ValueError for what is none."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError("not a cursor")
        milliseconds, number, stream = map(int, match[2].split("-"))
        ids = tuple(_id(part) for part in match[3][1:].split("_"))
        if len(ids) != shards:
            raise ValueError("not a cursor of this ledger")
        return cls(int(match[1]), (milliseconds, number, stream), ids)


class RecordReader:
    """Reads the streams. `stream` names the key of an hour and a shard."""

    def __init__(self, link: RedisLink, stream: Callable[[int, int], str], shards: int) -> None:
        self._link = link
        self._stream = stream
        self._shards = shards

    async def pages(self, start_ms: int, end_ms: int, cursor: str) -> AsyncGenerator[Page, None]:
        """What was counted after a cursor, or all, of the hours that hold this time.

        Raises StoreUnavailableError, and ValueError for a cursor that is none.
        """
        now_ms = int(time.time() * 1000)
        first, end = start_ms // _HOUR_MS, min(-(-end_ms // _HOUR_MS), now_ms // _HOUR_MS + 2)
        begin = (_START,) * self._shards
        if cursor:
            position = Position.parse(cursor, self._shards)
            earlier = range(max(first, position.hour - _LATE_HOURS), min(position.hour, end))
            while (late := await self._late(earlier, position.late)) is not None:
                yield [(str(replace(position, late=moment)), _record(data)) for moment, data in late]
                position = replace(position, late=late[-1][0])
        else:
            position = Position(first, (now_ms, 0, _AFTER_ALL), begin)
        for hour in range(max(first, position.hour), end):
            if hour > position.hour:
                ends = ((*end, _AFTER_ALL) for end in position.shards)
                position = Position(hour, max(position.late, *ends), begin)
            while (after := await self._current(position)) is not None:
                page, position = after
                yield page

    async def _late(self, hours: Iterable[int], after: Moment) -> list[tuple[Moment, bytes]] | None:
        """Entries of these hours after this moment, in order; None: there are none."""
        shards = range(self._shards)
        streams = {
            hour * self._shards + shard: self._stream(hour, shard) for hour in hours for shard in shards
        }
        found = await asyncio.gather(
            # Entries of two streams may have the same id.
            *(self._read(name, after[:2], inclusive=number > after[2]) for number, name in streams.items())
        )
        # Beyond the end of a page that is full, its stream may hold entries that belong between others.
        until = min((page[-1][0] for page in found if len(page) == _AT_ONCE), default=None)
        late = [
            ((*each, number), data)
            for number, page in zip(streams, found, strict=True)
            for each, data in page
            if until is None or each <= until
        ]
        return sorted(late) or None

    async def _current(self, position: Position) -> tuple[Page, Position] | None:
        """The next entries of an hour, and the position after them; None: there are none."""
        found = await asyncio.gather(
            *(self._read(self._stream(position.hour, n), after) for n, after in enumerate(position.shards))
        )
        page: Page = []
        ids = list(position.shards)
        for shard, entries in enumerate(found):
            for each, data in entries:
                ids[shard] = each
                position = replace(position, shards=tuple(ids))
                page.append((str(position), _record(data)))
        return (page, position) if page else None

    async def _read(self, stream: str, after: Id, *, inclusive: bool = False) -> Sequence[Entry]:
        start = f"{'' if inclusive else '('}{after[0]}-{after[1]}"
        found = await self._link.run("XRANGE", stream, start, "+", "COUNT", _AT_ONCE, timeout=_PATIENCE)
        return [(_id(name.decode()), fields[1]) for name, fields in found]


def _id(text: str) -> Id:
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number)


def _record(data: bytes) -> v1.UsageRecord:
    return v1.UsageRecord.FromString(data)
