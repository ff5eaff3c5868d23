"""Telling a stream from an answer in one piece, whatever the label says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from tests.providers import anthropic_answers, openai_answers

if TYPE_CHECKING:
    from collections.abc import Iterable

OPENAI_STREAM = openai_answers.sse(openai_answers.chunk("stop", content="a"), "[DONE]")
OPENAI_WHOLE = openai_answers.completion(content="a")
ANTHROPIC_STREAM = anthropic_answers.whole(*anthropic_answers.text_block(0, "a"))
ANTHROPIC_WHOLE = anthropic_answers.message({"type": "text", "text": "a"})

BODIES = {
    "openai stream": (openai_answers.decode, OPENAI_STREAM),
    "openai stream, comments first": (
        openai_answers.decode,
        b": OPENROUTER PROCESSING\n\n" * 2 + OPENAI_STREAM,
    ),
    "openai stream, CRLF": (openai_answers.decode, b"\r\n" + OPENAI_STREAM.replace(b"\n", b"\r\n")),
    "openai stream, BOM": (openai_answers.decode, b"\xef\xbb\xbf" + OPENAI_STREAM),
    "openai stream, id and retry first": (openai_answers.decode, b"id: 1\nretry: 9\n" + OPENAI_STREAM),
    "openai whole": (openai_answers.decode, OPENAI_WHOLE),
    "openai whole, keep-alive first": (openai_answers.decode, b"\n\n         \n" + OPENAI_WHOLE),
    "anthropic stream": (anthropic_answers.decode, ANTHROPIC_STREAM),
    "anthropic whole": (anthropic_answers.decode, ANTHROPIC_WHOLE),
}
LABELS = [
    "text/event-stream",
    "application/json",
    "application/octet-stream",
    "text/plain; charset=utf-8",
    "",
]


def cuts(body: bytes) -> Iterable[list[bytes]]:
    yield [body]
    yield [body[at : at + 1] for at in range(len(body))]


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("label", LABELS)
def test_the_bytes_decide(kind: str, label: str) -> None:
    """Row 5: an answer is read as what it is, whatever it is called and whatever was asked for."""
    decode, body = BODIES[kind]
    for pieces in cuts(body):
        for streaming in (True, False):
            assert list(decode(pieces, label, streaming=streaming).parts) == [v1.Part(text="a")]


@pytest.mark.parametrize("label", LABELS)
def test_an_error_under_any_label(label: str) -> None:
    """Row 5: an error in JSON keeps its reason where a stream was announced."""
    error = b'{"error": {"type": "rate_limit_error", "code": "rate_limit_exceeded", "message": "slow down"}}'
    for decode in (openai_answers.decode, anthropic_answers.decode):
        for pieces in cuts(error):
            with pytest.raises(GenerationError) as raised:
                decode(pieces, label)
            assert raised.value.reason is Reason.PROVIDER_RATE_LIMITED


@pytest.mark.parametrize(
    "body", [b"", b"d", b"dat", b"error", b"rate limited", b"<html>", b" \n", b"\xef\xbb"]
)
@pytest.mark.parametrize("label", LABELS)
def test_what_is_neither(body: bytes, label: str) -> None:
    """Row 5: text, HTML and nothing are errors under any label, however short."""
    for decode in (openai_answers.decode, anthropic_answers.decode):
        for pieces in cuts(body):
            with pytest.raises(GenerationError) as raised:
                decode(pieces, label)
            assert raised.value.reason in (Reason.PROVIDER_PROTOCOL_ERROR, Reason.STREAM_TRUNCATED)
