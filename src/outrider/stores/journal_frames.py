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
    while start + OVERHEAD <= len(data):
        (checksum,) = _CHECKSUM.unpack_from(data, start)
        length, number = _HEAD.unpack_from(data, start + _CHECKSUM.size)
        end = start + OVERHEAD + length
        if length > _MAX_RECORD or end > len(data):
            return
        if zlib.crc32(memoryview(data)[start + _CHECKSUM.size : end]) != checksum:
            return
        yield Frame(number, data[start + OVERHEAD : end], end)
        start = end
