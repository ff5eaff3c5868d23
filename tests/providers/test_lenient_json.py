"""JSON that is broken in the ways of providers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.core.errors import GenerationError, Reason
from outrider.providers import lenient_json


class Item(msgspec.Struct):
    text: str = ""
    count: int = 0
    rest: Any = None


DECODER = msgspec.json.Decoder(Item, strict=False)

CASES = {
    "sound": (b'{"text": "a", "count": 2}', Item("a", 2)),
    "unknown fields": (b'{"other": [1, {}], "text": "a"}', Item("a")),
    "numbers as strings": (b'{"count": "2"}', Item(count=2)),
    "invalid UTF-8": (b'{"text": "a\xffb"}', Item("a\ufffdb")),
    "UTF-8 cut short": (b'{"text": "a\xf0\x9f"}', Item("a\ufffd")),
    "a lone high surrogate": (rb'{"text": "a\ud83db"}', Item("a\ufffdb")),
    "a lone high surrogate at the end": (rb'{"text": "\ud83d"}', Item("\ufffd")),
    "a lone low surrogate": (rb'{"text": "\ude00!"}', Item("\ufffd!")),
    "a lone surrogate in an unknown field": (rb'{"other": "\ud83d", "text": "a"}', Item("a")),
    "pairs beside a lone surrogate": (rb'{"text": "\ud83d\ude00\ud83d"}', Item("😀\ufffd")),
    "a line end inside a string": (b'{"text": "a\nb"}', Item("a\nb")),
    "NaN": (b'{"rest": [NaN, -Infinity]}', Item(rest=[None, None])),
}


@pytest.mark.parametrize(("data", "expected"), CASES.values(), ids=CASES.keys())
def test_mended(data: bytes, expected: Item) -> None:
    """Row 19: what can be understood is decoded, and what has no meaning becomes U+FFFD."""
    assert lenient_json.decode(DECODER, data) == expected


BROKEN = {
    b"": "the provider sent nothing",
    b" \n": "the provider sent nothing",
    b"upstream connect error": "the provider sent text instead of JSON: 'upstream connect error'",
    b"<html>\x00<b>Bad gateway": "the provider sent HTML instead of JSON: '<html> <b>Bad gateway'",
    b'{"text": "secret': "the provider sent JSON that cannot be read: Input data was truncated",
    b'{"text": ["secret"]}': "Expected `str`, got `array` - at `$.text`",
    b'["secret"]': "Expected `object`, got `array`",
    b'{"count": 1' + b"0" * 5000 + b"}": "Integer value out of range",
    b'{"count": 1e999}': "Number out of range",
    b'{"rest": ' + b"[" * 100_000: "maximum recursion depth exceeded",
}


@pytest.mark.parametrize(("data", "message"), BROKEN.items(), ids=[str(data[:12]) for data in BROKEN])
def test_refused(data: bytes, message: str) -> None:
    """Row 5: anything else is the provider's error, told in a few words that hold nothing of an answer."""
    with pytest.raises(GenerationError) as raised:
        lenient_json.decode(DECODER, data)
    assert raised.value.reason is Reason.PROVIDER_PROTOCOL_ERROR
    assert message in raised.value.fact.message
    assert "secret" not in raised.value.fact.message
    assert len(raised.value.fact.message) < 300


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    """Row 19: whatever comes is decoded or is the provider's error, and decoded text can be encoded again."""
    try:
        msgspec.json.encode(lenient_json.decode(DECODER, b'{"rest": "' + data + b'"}'))
    except GenerationError as error:
        assert error.reason is Reason.PROVIDER_PROTOCOL_ERROR
