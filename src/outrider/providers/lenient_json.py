"""JSON from a provider into typed structs: strict and fast, then once more with what is broken mended."""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec

from outrider.core.errors import GenerationError, Reason

T = TypeVar("T")

_EXCERPT = 80  # characters of a body that is not JSON
_MAX_REASON = 200


def decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Decode one JSON value; invalid UTF-8, lone surrogates and NaN are replaced, not refused.

    Raises GenerationError with PROVIDER_PROTOCOL_ERROR on anything else; its message holds no answer text.
    """
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        first = error
    try:
        return decoder.decode(_mend(data))
    except (ValueError, RecursionError):  # those of json and msgspec are ValueErrors
        raise GenerationError(
            Reason.PROVIDER_PROTOCOL_ERROR, f"the provider sent {_describe(data, first)}"
        ) from None


def _mend(data: bytes) -> bytes:
    """The same JSON, as every decoder accepts it. Slow, and rarely needed."""
    text = data.decode("utf-8-sig", "replace")
    value = json.loads(text, strict=False, parse_constant=lambda _: None)
    mended = json.dumps(value, ensure_ascii=False)
    # UTF-16 holds lone surrogates apart from pairs, so that only they are replaced.
    return mended.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _describe(data: bytes, error: Exception) -> str:
    """What came instead of the expected JSON, in a few words without answer text."""
    start = data[: 4 * _EXCERPT].decode("utf-8", "replace").strip()
    if not start:
        return "nothing"
    if start[0] in "{[":
        # msgspec names the place and the type that is wrong, never the value.
        return f"JSON that cannot be read: {str(error)[:_MAX_REASON]}"
    kind = "HTML" if start[0] == "<" else "text"
    excerpt = "".join(char if char.isprintable() else " " for char in start[:_EXCERPT])
    return f"{kind} instead of JSON: {excerpt!r}"
