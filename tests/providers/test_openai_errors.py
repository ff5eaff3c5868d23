"""Errors of Chat Completions under status 200."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.core.errors import GenerationError, Reason
from outrider.providers.openai_format import OpenAIFormat
from outrider.providers.openai_wire import Choice, Chunk, Delta, Function, ToolCall
from tests.providers.openai_answers import (
    COUNTED,
    EVENT_STREAM,
    JSON,
    USAGE,
    call,
    chunk,
    completion,
    decode,
    decode_chunks,
    sse,
    text,
)

STREAM_ERRORS: dict[str, tuple[bytes, Reason]] = {
    "an error field": (sse({"error": {"code": 502, "message": "gone"}}), Reason.PROVIDER_ERROR),
    "an error field beside a choice": (
        sse({**chunk("error"), "error": {"code": 429, "message": "slow down"}}),
        Reason.PROVIDER_RATE_LIMITED,
    ),
    "an error field with usage": (
        sse({"choices": [], "usage": USAGE, "error": {"type": "overloaded_error"}}),
        Reason.PROVIDER_OVERLOADED,
    ),
    "an error event": (
        b'event: error\ndata: {"error": {"type": "rate_limit_exceeded"}}\n\n',
        Reason.PROVIDER_RATE_LIMITED,
    ),
    "an error event of text": (b"event: error\ndata: boom\n\n", Reason.PROVIDER_PROTOCOL_ERROR),
    "an error after the finish reason": (
        sse(chunk("stop"), {"error": {"message": "oops", "type": "server_error"}}),
        Reason.PROVIDER_ERROR,
    ),
    "an error as a string": (sse({"error": "boom"}), Reason.PROVIDER_ERROR),
    "an error without its field": (
        sse({"object": "error", "message": "too long", "code": 400}),
        Reason.INVALID_REQUEST,
    ),
    "a detail": (sse({"detail": "Internal"}), Reason.PROVIDER_ERROR),
    "Groq's field": (sse({**chunk(), "x_groq": {"id": "r", "error": "stopped"}}), Reason.PROVIDER_ERROR),
    "a JSON string": (sse('"boom"'), Reason.PROVIDER_ERROR),
    "text": (sse("upstream connect error"), Reason.PROVIDER_PROTOCOL_ERROR),
    "an odd shape": (sse({"choices": {"delta": 1}}), Reason.PROVIDER_PROTOCOL_ERROR),
    "a failure as finish reason": (sse(chunk("error"), "[DONE]"), Reason.PROVIDER_ERROR),
    "no resources": (sse(chunk("insufficient_system_resource"), "[DONE]"), Reason.PROVIDER_OVERLOADED),
}


@pytest.mark.parametrize(("error", "reason"), STREAM_ERRORS.values(), ids=STREAM_ERRORS.keys())
def test_errors_in_a_stream(error: bytes, reason: Reason) -> None:
    """Row 4: an error in mid-stream ends the answer, whatever comes behind it."""
    for before in (b"", sse(chunk(content="a"))):
        with pytest.raises(GenerationError) as raised:
            decode([before, error, sse("[DONE]")])
        assert raised.value.reason is reason


def test_content_before_an_error() -> None:
    """Row 4: content that comes in one read with an error is given out first; the error stands behind it."""
    attempt = call()
    decoder = OpenAIFormat().decoder(attempt, EVENT_STREAM)
    error = {"choices": [], "usage": USAGE, "error": {"code": 429}}
    [event] = decoder.feed(sse(chunk(content="ab"), chunk(content="c"), error, chunk(content="d")))
    assert event.text_delta.text == "abc"
    assert decoder.error is not None
    assert decoder.error.reason is Reason.PROVIDER_RATE_LIMITED
    for more in (lambda: decoder.feed(sse("[DONE]")), decoder.finish):
        with pytest.raises(GenerationError) as raised:
            more()
        assert raised.value is decoder.error
    assert not decoder.done
    assert attempt.progress.usage == COUNTED
    assert attempt.progress.output_chars == 3


def test_an_error_that_lacks_its_blank_line() -> None:
    """Row 4: an error that the body ends with is told as what it is, not as a cut."""
    with pytest.raises(GenerationError) as raised:
        decode([sse(chunk(content="a"), {"error": {"code": 429}}).rstrip()])
    assert raised.value.reason is Reason.PROVIDER_RATE_LIMITED


@pytest.mark.parametrize("error", [None, {}, "", False])
def test_an_empty_error_is_none(error: Any) -> None:
    """Vendors that always send the field do not always fail."""
    assert decode_chunks({**chunk("stop", content="a"), "error": error}).parts == [text("a")]


UNARY_ERRORS: dict[str, tuple[bytes, Reason]] = {
    "an error object": (b'{"error": {"code": 429, "message": "slow"}}', Reason.PROVIDER_RATE_LIMITED),
    "an error string": (b'{"error": "model overloaded"}', Reason.PROVIDER_ERROR),
    "a detail": (b'{"detail": "Unauthorized"}', Reason.PROVIDER_ERROR),
    "no choices": (b'{"id": "x", "choices": []}', Reason.PROVIDER_PROTOCOL_ERROR),
    "no choices at all": (b'{"id": "x"}', Reason.PROVIDER_PROTOCOL_ERROR),
    "null": (b"null", Reason.PROVIDER_PROTOCOL_ERROR),
    "text": (b"OK", Reason.PROVIDER_PROTOCOL_ERROR),
    "HTML": (b"<html>Bad gateway</html>", Reason.PROVIDER_PROTOCOL_ERROR),
    "nothing": (b"", Reason.PROVIDER_PROTOCOL_ERROR),
    "JSON cut short": (completion(content="a")[:-5], Reason.PROVIDER_PROTOCOL_ERROR),
    "no finish reason": (completion(None, content="a"), Reason.STREAM_TRUNCATED),
}


@pytest.mark.parametrize(("body", "reason"), UNARY_ERRORS.values(), ids=UNARY_ERRORS.keys())
@pytest.mark.parametrize("content_type", [JSON, "text/plain", "text/html; charset=utf-8"])
def test_errors_in_place_of_an_answer(body: bytes, reason: Reason, content_type: str) -> None:
    """Row 5: status 200 with an error, HTML, text or nothing is an error, asked for a stream or not."""
    for streaming in (True, False):
        with pytest.raises(GenerationError) as raised:
            decode([body], content_type, streaming=streaming)
        assert raised.value.reason is reason


STRUCTS = (Chunk, Choice, Delta, ToolCall, Function)
FIELDS = [field for struct in STRUCTS for field in struct.__struct_fields__] + ["type", "text", "thinking"]

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES, JSON_VALUES, st.sampled_from([EVENT_STREAM, JSON]))
def test_any_answer(first: Any, delta: Any, content_type: str) -> None:
    """Row 5: whatever JSON comes, the answer is decoded or refused, and nothing else is raised."""
    choice = {"index": 0, "delta": delta, "message": delta, "finish_reason": "stop"}
    if content_type == JSON:
        body = json.dumps({"choices": [choice]}).encode()
    else:
        body = sse(json.dumps(first), {"choices": [choice]}, "[DONE]")
    with contextlib.suppress(GenerationError):
        decode([body], content_type)
