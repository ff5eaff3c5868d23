"""Answers of Anthropic's that are errors, are cut, or make no sense."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from tests.providers.anthropic_answers import (
    EVENT_STREAM,
    JSON,
    decode,
    delta,
    ending,
    head,
    message,
    reason_of,
    sse,
    start,
    stop,
    text_block,
    whole,
)


@pytest.mark.parametrize("counts", [{"input_tokens": -1}, {"output_tokens": 10**30}, {"input_tokens": "3"}])
def test_absurd_usage_is_an_error(counts: dict[str, Any]) -> None:
    """Counts that no field can hold are the provider's error, not a crash."""
    assert reason_of([sse(head(**counts))]) == Reason.PROVIDER_PROTOCOL_ERROR


ERRORS = {
    "overloaded_error": Reason.PROVIDER_OVERLOADED,
    "api_error": Reason.PROVIDER_ERROR,
    "rate_limit_error": Reason.PROVIDER_RATE_LIMITED,
    "authentication_error": Reason.PROVIDER_CREDENTIALS_REFUSED,
    "invalid_request_error": Reason.INVALID_REQUEST,
    "billing_error": Reason.PROVIDER_QUOTA_SPENT,
}


@pytest.mark.parametrize(("kind", "reason"), ERRORS.items())
@pytest.mark.parametrize("before", ["nothing", "head", "deltas", "stop reason"])
def test_error_event(kind: str, reason: Reason, before: str) -> None:
    """Row 4: an error event has its own reason wherever it comes before the end."""
    events = {
        "nothing": [],
        "head": [head()],
        "deltas": [head(), *text_block(0, "a")[:2]],
        "stop reason": [head(), *text_block(0, "a"), ending()[0]],
    }[before]
    error = {"type": "error", "error": {"type": kind, "message": "no"}}
    assert reason_of([sse(*events), sse(error)]) == reason


def test_error_event_may_lack_its_blank_line() -> None:
    """Row 4: an error is read also where the body ends right after it."""
    error = sse({"type": "error", "error": {"type": "overloaded_error", "message": "no"}})
    assert reason_of([sse(head()), error.rstrip(b"\n")]) == Reason.PROVIDER_OVERLOADED


@pytest.mark.parametrize(
    "data",
    [
        b'event: error\ndata: {"message": "maximum context length"}\n\n',
        b'event: error\ndata: "maximum context length"\n\n',
        b'data: {"error": "maximum context length"}\n\n',
        b'data: {"error": {"message": "no", "code": "context_length_exceeded"}, "usage": {}}\n\n',
    ],
)
def test_error_events_of_other_forms(data: bytes) -> None:
    """Row 4: an error is known by the event's name or by its field, and its words are read."""
    assert reason_of([sse(head()), data]) == Reason.CONTEXT_TOO_LONG


@pytest.mark.parametrize(("kind", "reason"), ERRORS.items())
@pytest.mark.parametrize("streaming", [True, False])
def test_error_body_with_status_200(kind: str, reason: Reason, streaming: bool) -> None:
    """Row 5: a 200 that holds an error is that error, also where a stream was asked for."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": "no"}}).encode()
    assert reason_of([body], JSON, streaming=streaming) == reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html>Bad gateway</html>",
        b"plain text",
        b"{}",
        b"[]",
        b"null",
        b'{"content": 3}',
        b'{"content": [3]}',
        b'{"content": [{"text": "no type"}], "stop_reason": "end_turn"}',
        b'{"detail": "no"}',
        message()[:-9],
    ],
)
@pytest.mark.parametrize("content_type", [JSON, "text/html", "", EVENT_STREAM])
@pytest.mark.parametrize("streaming", [True, False])
def test_what_is_no_answer(body: bytes, content_type: str, streaming: bool) -> None:
    """Row 5: a 200 that is empty, HTML, text, cut or of unknown form is the provider's error."""
    assert (
        reason_of([body] if body else [], content_type, streaming=streaming) == Reason.PROVIDER_PROTOCOL_ERROR
    )


def test_answer_in_one_piece_without_stop_reason() -> None:
    """Row 3: an answer that does not say why it ended is not a success."""
    assert (
        reason_of([message({"type": "text", "text": "a"}, stop_reason=None)], JSON) == Reason.STREAM_TRUNCATED
    )


@pytest.mark.parametrize("last", range(1, 6))
def test_clean_end_before_message_stop(last: int) -> None:
    """Row 3: a stream that ends before `message_stop` is truncated, wherever it ends."""
    events = [head(), *text_block(0, "a"), *ending()]
    assert reason_of([sse(*events[:last])]) == Reason.STREAM_TRUNCATED


def test_message_stop_without_stop_reason() -> None:
    """Row 3: the end marker alone is no success, and no reason is made up."""
    assert reason_of([sse(head(), *text_block(0, "a"), *ending(None))]) == Reason.STREAM_TRUNCATED


def test_the_last_event_may_lack_its_blank_line() -> None:
    """Row 20: `message_stop` counts without a blank line after it, and after it nothing counts."""
    body = whole(*text_block(0, "a"))
    assert decode([body.rstrip(b"\n")]).parts == [v1.Part(text="a")]
    late = sse({"type": "error", "error": {"type": "api_error"}}) + b"event: x\ndata: nonsense\n\n"
    assert decode([body + late, late]).parts == [v1.Part(text="a")]


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([*text_block(0, "a")], "a"),
        ([start(0, type="text", text=""), delta(0, type="text_delta", text="a")], "a"),
        ([stop(3), *text_block(0, "a"), stop(0), stop(0)], "a"),
        ([head(), head(), *text_block(0, "a"), {"type": "message_start"}, {"type": "message_delta"}], "a"),
        ([*text_block(0, "a"), *text_block(0, "b")], "ab"),
        ([start(0, type="text", text="a"), start(0, type="text", text="b"), stop(0)], "ab"),
        ([start(7, type="text", text="a"), start(2, type="text", text="b"), stop(7)], "ab"),
        ([*text_block(0, "a")[:2], {"type": "content_block_delta", "index": 0}], "a"),
    ],
)
def test_odd_order_is_put_up_with(events: list[dict[str, Any]], text: str) -> None:
    """A missing head or stop, repeated heads, stops and indices, and gaps between indices do no harm."""
    answer = decode([sse(*events, *ending())])
    assert "".join(part.text for part in answer.parts) == text


@pytest.mark.parametrize(
    "events",
    [
        [delta(0, type="text_delta", text="a")],
        [*text_block(0, "a"), delta(0, type="text_delta", text="b")],
        [{"type": "content_block_start", "index": 0}],
        [start(0, text="no type")],
        [start(0, type="tool_use", id="1")],
        [start(0, type="text", text=5)],
        [start(0, type="redacted_thinking")],
        [{"type": "content_block_delta", "index": "0", "delta": {"text": "a"}}],
    ],
)
def test_what_cannot_be_understood_is_an_error(events: list[dict[str, Any]]) -> None:
    """An event that makes no sense where it stands is the provider's error, never a crash or lost text."""
    assert reason_of([whole(*events)]) == Reason.PROVIDER_PROTOCOL_ERROR


def test_broken_unicode_is_replaced() -> None:
    """Row 19: a lone surrogate and bytes that are not UTF-8 become replacement characters."""
    surrogate = sse(*text_block(0, "a")).replace(b'"a"', b'"\\ud83d"')
    invalid = sse(*text_block(1, "a")).replace(b'"a"', b'"\xff"')
    opaque = sse(start(2, type="novelty", s="a"), stop(2)).replace(b'"a"', b'"\xff\\udead"')
    answer = decode([sse(head()), surrogate, invalid, opaque, sse(*ending())])
    assert [part.text for part in answer.parts[:2]] == ["\ufffd", "\ufffd"]
    assert json.loads(answer.parts[2].opaque.json)["s"] == "\ufffd\ufffd"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "a"]), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    [
        "type",
        "index",
        "delta",
        "content_block",
        "message",
        "usage",
        "error",
        "text",
        "input",
        "partial_json",
        "content",
    ]
)
KINDS = st.sampled_from(
    [
        "message_start",
        "message_delta",
        "message_stop",
        "content_block_start",
        "content_block_delta",
        "error",
        "text",
    ]
)


@given(st.lists(st.tuples(KINDS, st.dictionaries(FIELDS, JSON_VALUES, max_size=4)), max_size=5))
def test_nothing_but_a_generation_error_is_raised(events: list[tuple[str, dict[str, Any]]]) -> None:
    """Whatever JSON comes as events or as an answer, decoding ends or raises GenerationError."""
    bodies = [
        (
            sse(
                *(
                    {"type": kind, **fields} if isinstance(fields.get("type", ""), str) else {"type": kind}
                    for kind, fields in events
                )
            ),
            EVENT_STREAM,
        )
    ]
    bodies += [(json.dumps(fields).encode(), JSON) for _, fields in events]
    for body, content_type in bodies:
        try:
            decode([body], content_type)
        except GenerationError:
            continue
