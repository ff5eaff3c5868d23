"""Unpacks the bodies of servers that compress although nobody asked for it."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MOST: Final = 262_144  # bytes in one piece, however much a few packed ones may hold
_GZIP: Final = ("gzip", "x-gzip")
_ZLIB_METHOD: Final = 8  # in the low bits of the first byte, where there is a header


class Unpacking:
    """A body as it was before it was packed. `read` is that of the packed one."""

    def __init__(self, coding: str, read: Callable[[], Awaitable[bytes]]) -> None:
        self._coding = coding.strip().lower()
        self._read = read
        self._packed = b""
        self._more = False  # unpacked bytes wait in the unpacker
        self._unpacker: zlib._Decompress | None = None

    async def read(self) -> bytes:
        """What has come, never empty. Raises StopAsyncIteration or GenerationError."""
        while True:
            if not self._packed and not self._more:
                await self._fill()
            data = self._unpack()
            if data:
                return data

    async def _fill(self) -> None:
        try:
            self._packed = await self._read()
        except StopAsyncIteration:
            if self._unpacker is not None and not self._unpacker.eof:
                raise _wrong() from None
            raise

    def _unpack(self) -> bytes:
        if self._unpacker is None or (self._unpacker.eof and self._packed):  # gzip may have several parts
            self._unpacker = zlib.decompressobj(_window(self._coding, self._packed))
        try:
            data = self._unpacker.decompress(self._packed, _MOST)
        except zlib.error:
            raise _wrong() from None
        self._packed = self._unpacker.unconsumed_tail or self._unpacker.unused_data
        self._more = len(data) == _MOST
        return data


def _window(coding: str, packed: bytes) -> int:
    if coding in _GZIP:
        return 16 + zlib.MAX_WBITS
    if coding != "deflate":
        raise GenerationError(Reason.PROVIDER_PROTOCOL_ERROR, "the answer is packed in an unknown way")
    # Some servers leave out the header of what they call deflate.
    return zlib.MAX_WBITS if packed[0] & 15 == _ZLIB_METHOD else -zlib.MAX_WBITS


def _wrong() -> GenerationError:
    return GenerationError(Reason.PROVIDER_PROTOCOL_ERROR, "the answer could not be decompressed")
