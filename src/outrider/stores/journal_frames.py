"""How records lie in the journal: each in a frame with the number of its batch and a checksum.

A frame is a CRC-32 of all that follows, the length of the record, the number, and the record itself.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHECKSUM = struct.Struct(">I")
_HEAD = struct.Struct(">IQ")
_NUMBER = struct.Struct(">Q")
OVERHEAD = _CHECKSUM.size + _HEAD.size
"""Bytes of a frame beyond its record."""

# Far above any record, a job with its request among them: a length beyond it is not one.
_MAX_RECORD = 1 << 27


class Frame(NamedTuple):
    """One record, and where it ends."""

    number: int
    record: bytes
    end: int


def frame(number: int, record: bytes) -> bytes:
    """A record of a batch, ready to be written."""
    rest = _HEAD.pack(len(record), number) + record
    return _CHECKSUM.pack(zlib.crc32(rest)) + rest


def frames(data: bytes, start: int = 0) -> Iterator[Frame]:
    """Every whole frame, up to the first that is torn or damaged."""
    while (found := _frame_at(data, start)) is not None:
        yield found
        start = found.end


def find_frame(data: bytes, number: int, start: int) -> int:
    """Where the next whole frame of a batch begins; the end of the data where there is none."""
    mark = _NUMBER.pack(number)
    before = OVERHEAD - len(mark)
    at = data.find(mark, start + before)
    while at >= 0:
        if _frame_at(data, at - before) is not None:
            return at - before
        at = data.find(mark, at + 1)
    return len(data)


def is_torn(data: bytes, start: int) -> bool:
    """Whether what begins there is a frame that the data ends in."""
    if start + OVERHEAD > len(data):
        return True
    length: int = _HEAD.unpack_from(data, start + _CHECKSUM.size)[0]
    return length <= _MAX_RECORD and start + OVERHEAD + length > len(data)


def _frame_at(data: bytes, start: int) -> Frame | None:
    if start + OVERHEAD > len(data):
        return None
    (checksum,) = _CHECKSUM.unpack_from(data, start)
    length, number = _HEAD.unpack_from(data, start + _CHECKSUM.size)
    end = start + OVERHEAD + length
    if length > _MAX_RECORD or end > len(data):
        return None
    if zlib.crc32(memoryview(data)[start + _CHECKSUM.size : end]) != checksum:
        return None
    return Frame(number, data[start + OVERHEAD : end], end)
