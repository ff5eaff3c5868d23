"""Requests and answers of jobs as bytes: compressed where that is worth it."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from google.protobuf.message import Message

_Message = TypeVar("_Message", bound="Message")

_PLAIN, _COMPRESSED = b"\x00", b"\x01"
_WORTH_COMPRESSING = 1024  # bytes
_LEVEL = 1  # the higher ones cost thrice the time for a tenth of the size
_LARGE = 128 * 1024  # bytes that are packed and unpacked in a thread
_LARGEST = 256 * 2**20  # bytes, unpacked: a bound for what a few bytes can unfold to


async def pack(message: Message) -> bytes:
    """The bytes of a message."""
    if message.ByteSize() > _LARGE:
        return await asyncio.to_thread(_pack, message)
    return _pack(message)


async def unpack(form: type[_Message], data: bytes) -> _Message | None:
    """The message; None where the bytes are damaged."""
    if len(data) * 4 > _LARGE:
        return await asyncio.to_thread(_unpack, form, data)
    return _unpack(form, data)


def _pack(message: Message) -> bytes:
    data = message.SerializeToString()
    if len(data) < _WORTH_COMPRESSING:
        return _PLAIN + data
    return _COMPRESSED + zlib.compress(data, _LEVEL)


def _unpack(form: type[_Message], data: bytes) -> _Message | None:
    try:
        return form.FromString(_inflate(data[1:]) if data[:1] == _COMPRESSED else data[1:])
    except (zlib.error, DecodeError):
        return None


def _inflate(data: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    plain = unpacking.decompress(data, _LARGEST)
    if not unpacking.eof:
        raise zlib.error("cut, or far too large")
    return plain
