"""No key leaves the process in text."""

from __future__ import annotations

import base64
import html
import json
import string
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.core.redaction import MARK, redact

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = st.text(string.ascii_letters + string.digits + "-_.+/=%&\"'\\<>", min_size=8, max_size=80)
PROSE = st.text(string.ascii_uppercase + " .,:\n\t🙂", max_size=60)
KEY = "sk-proj-Ab3dEf6hIj9lMn2pQr5tUv8x"


def percent_lower(text: str) -> str:
    """Percent-encoded, as servers do that write hex digits in lower case."""
    return "".join(
        part.lower() if part.startswith("%") else part for part in _percent_parts(quote(text, safe=""))
    )


def _percent_parts(quoted: str) -> list[str]:
    parts: list[str] = []
    while quoted:
        size = 3 if quoted.startswith("%") else 1
        parts.append(quoted[:size])
        quoted = quoted[size:]
    return parts


WRITINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent": lambda key: quote(key, safe=""),
    "percent in lower case": percent_lower,
    "json": lambda key: json.dumps(key)[1:-1],
    "json with escaped slashes": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "html": html.escape,
}


@pytest.mark.parametrize("write", WRITINGS.values(), ids=WRITINGS)
@given(key=KEYS, before=PROSE, after=PROSE)
def test_no_secret_survives(write: Callable[[str], str], key: str, before: str, after: str) -> None:
    """Row 28: however a key is written, and whatever stands around it, none of it is left."""
    cleaned = redact(before + write(key) + after, [key])
    assert key not in cleaned
    assert write(key) not in cleaned
    assert MARK in cleaned


@given(key=KEYS, before=st.binary(max_size=20), after=st.binary(max_size=20), urlsafe=st.booleans())
def test_no_secret_survives_in_base64(key: str, before: bytes, after: bytes, urlsafe: bool) -> None:
    """Row 28: a key inside of what was encoded in base64, as in Basic authentication, is found as well."""
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    cleaned = redact(encode(before + key.encode() + after).decode(), [key])
    assert MARK in cleaned


@given(key=KEYS, cut=st.integers(8, 80), before=PROSE, after=PROSE)
def test_beginnings_and_ends_of_a_secret_do_not_survive(key: str, cut: int, before: str, after: str) -> None:
    """Row 28: a message that ends in the middle of a key, or shows its end, gives nothing away."""
    for piece in (key[:cut], key[-cut:]):
        assert piece not in redact(before + piece + after, [key])


@given(text=st.text(max_size=200), key=KEYS)
def test_twice_is_as_once(text: str, key: str) -> None:
    """Text that went through two layers of redaction looks as if it had gone through one."""
    once = redact(text, [key])
    assert redact(once, [key]) == once


@given(text=PROSE)
def test_harmless_text_is_untouched(text: str) -> None:
    """Text without a key comes back as it is."""
    assert redact(text, [KEY]) == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (
            f"Incorrect API key provided: {KEY}. Find yours.",
            "Incorrect API key provided: [redacted]. Find yours.",
        ),
        (
            "Incorrect API key provided: sk-abcd****************wxyz.",
            "Incorrect API key provided: [redacted].",
        ),
        ("key sk-ant-api03-abcDEF_123 is wrong", "key [redacted] is wrong"),
        ("key gsk_abcdefgh12345678 is wrong", "key [redacted] is wrong"),
        ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "[redacted]"),
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer [redacted]"),
        ("{'x-api-key': 'secret1', 'a': 1}", "{'x-api-key': '[redacted]', 'a': 1}"),
        ("Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc_def", "Bearer [redacted]"),
        ("GET https://h/v1?key=abc123&alt=sse", "GET https://h/v1?key=[redacted]&alt=sse"),
        ("https://h/?a=1&access_token=abc", "https://h/?a=1&access_token=[redacted]"),
    ],
)
def test_what_looks_like_a_key_is_removed(text: str, cleaned: str) -> None:
    """Row 28: keys that nobody told us of are known by their form; the words around them stay."""
    assert redact(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "the risk-adjusted value of sk-learn",
        "the key was refused",
        "max_tokens must be at most 4096",
        "use a Bearer token",
        "",
    ],
)
def test_words_that_resemble_keys_stay(text: str) -> None:
    """Ordinary words around keys and tokens are not taken for keys."""
    assert redact(text) == text


def test_short_words_are_no_secrets() -> None:
    """A key of under 4 characters would blacken every message, so it is not looked for."""
    assert redact("an apple", ["", "a", "app"]) == "an apple"


@pytest.mark.parametrize(
    "filler", ["a", "a-", "sk-", "bearer ", "bearer" + " " * 50, "sk-..", "&key", "%41", KEY[:7], KEY[:9]]
)
def test_time_grows_with_the_text_only(filler: str) -> None:
    """Text made to slow the search down takes no longer than other text."""
    text = filler * (100_000 // len(filler)) + " key"
    began = time.process_time()
    redact(text, [KEY])
    assert time.process_time() - began < 1.0
