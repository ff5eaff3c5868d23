"""Stored answers as bytes that outlive the sidecar that wrote them.

    "ora" version | checksum | flags, length of the label, length of the body | label | body

The label is what an answer can be told by without unpacking it, as MessagePack; the body is the
CompleteResponse, compressed where that is worth it. The checksum begins with the key: what another key's
answer is, is garbage.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING

import msgspec
from google.protobuf.message import DecodeError

from outrider import v1
from outrider.stores.answer_label import Label

if TYPE_CHECKING:
    from outrider.core.answers import StoredAnswer

LARGEST = 32 * 2**20  # bytes of a body, unpacked: a bound for what a few bytes can unfold to
LONGEST_HEAD = 12 * 1024  # bytes in which the label of any valid request ends

_MAGIC = b"ora\x01"
_CHECKSUM = struct.Struct(">I")
_SIZES = struct.Struct(">BII")
_CHECKED = len(_MAGIC) + _CHECKSUM.size  # where the part begins that is checked
_HEAD = _CHECKED + _SIZES.size
_COMPRESSED = 1
_WORTH_COMPRESSING = 1024  # bytes
_LEVEL = 1  # the higher ones cost thrice the time for a tenth of the size


_write_label = msgspec.msgpack.Encoder().encode
_read_label = msgspec.msgpack.Decoder(Label).decode


def encode(key: str, answer: StoredAnswer, epoch: int = 0) -> bytes | None:
    """The bytes; None where the answer is too large to be read back."""
    body = answer.answer.SerializeToString()
    length, flags = len(body), 0
    if length > LARGEST:
        return None
    if length >= _WORTH_COMPRESSING:
        body, flags = zlib.compress(body, _LEVEL), _COMPRESSED
    label = _write_label(Label.of(answer, epoch))
    checked = b"".join((_SIZES.pack(flags, len(label), length), label, body))
    return b"".join((_MAGIC, _CHECKSUM.pack(_checksum(key, checked)), checked))


def decode(key: str, data: bytes) -> tuple[Label, v1.CompleteResponse] | None:
    """What `encode` was given for this key; None for anything else. Never raises."""
    label = peek(data)
    if label is None or _CHECKSUM.unpack_from(data, len(_MAGIC))[0] != _checksum(key, data[_CHECKED:]):
        return None
    flags, label_length, length = _SIZES.unpack_from(data, _CHECKED)
    body = (
        _unpack(data[_HEAD + label_length :], length)
        if flags == _COMPRESSED
        else data[_HEAD + label_length :]
    )
    if body is None or len(body) != length:
        return None
    try:
        return label, v1.CompleteResponse.FromString(body)
    except DecodeError:
        return None


def peek(data: bytes) -> Label | None:
    """The label of an answer whose first LONGEST_HEAD bytes are given. Nothing is checked but its form."""
    if len(data) < _HEAD or not data.startswith(_MAGIC):
        return None
    flags, label_length, length = _SIZES.unpack_from(data, _CHECKED)
    if flags not in (0, _COMPRESSED) or length > LARGEST:
        return None
    try:
        label = _read_label(memoryview(data)[_HEAD : _HEAD + label_length])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    times = (label.stored_at, label.fresh_for, label.stale_for)
    return label if all(map(math.isfinite, times)) else None


def _unpack(body: bytes, length: int) -> bytes | None:
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(body, length + 1)
    except zlib.error:
        return None
    return unpacked if unpacking.eof and not unpacking.unused_data else None


def _checksum(key: str, checked: bytes) -> int:
    return zlib.crc32(checked, zlib.crc32(key.encode()))
