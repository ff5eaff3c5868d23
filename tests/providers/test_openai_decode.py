"""Answers of Chat Completions, in all the dialects it is spoken in, as events."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.providers.openai_format import OpenAIFormat
from outrider.providers.profiles import COMPATIBLE
from tests.providers.openai_answers import (
    EVENT_STREAM,
    USAGE,
    call,
    calls,
    chunk,
    completion,
    decode,
    decode_chunks,
    decode_completion,
    piece,
    reasoning,
    sse,
    text,
    tool_call,
)


def test_a_stream() -> None:
    """Text comes as it is; the end brings reason, usage, id and model."""
    answer = decode_chunks(
        chunk(role="assistant", content=""),
        chunk(content="Hel"),
        chunk(content="lo"),
        chunk("stop"),
        {"choices": [], "usage": USAGE},
    )
    assert answer.parts == [text("Hello")]
    assert answer.completed == v1.Completed(
        finish_reason=v1.FINISH_REASON_STOP,
        provider_finish_reason="stop",
        usage=v1.Usage(input_tokens=9, output_tokens=3, source=v1.USAGE_SOURCE_PROVIDER),
        response_id="chatcmpl-1",
        response_model="gpt-x",
    )


def test_one_read_is_one_message() -> None:
    """Deltas of one read come as one; every later read brings a message of its own."""
    attempt = call()
    decoder = OpenAIFormat().decoder(attempt, EVENT_STREAM)
    burst = decoder.feed(sse(*(chunk(content=str(number)) for number in range(5))))
    assert [event.text_delta.text for event in burst] == ["01234"]
    assert [event.text_delta.text for event in decoder.feed(sse(chunk(content="5")))] == ["5"]
    assert not decoder.done
    assert decoder.feed(sse(chunk("stop"))) == []
    assert [event.WhichOneof("event") for event in decoder.feed(sse("[DONE]"))] == ["completed"]
    assert decoder.done
    assert attempt.progress.output_chars == 6


def test_parts_are_numbered_in_order() -> None:
    """A new part begins where the kind of content changes and with every call; late arguments find theirs."""
    answer = decode_chunks(
        chunk(reasoning="Hm"),
        chunk(content="I will look. "),
        calls(piece("{", index=0, id="a", name="look")),
        calls(piece("{", index=1, id="b", name="see")),
        calls(piece("}", index=0), piece("}", index=1)),
        chunk(content="Wait."),
        chunk("tool_calls"),
    )
    assert answer.parts == [
        reasoning("Hm"),
        text("I will look. "),
        tool_call("a", "look", "{}"),
        tool_call("b", "see", "{}"),
        text("Wait."),
    ]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_fields(field: str) -> None:
    """Reasoning is found under either of its names, in a stream and in one piece."""
    parts = [reasoning("Hm."), text("4")]
    assert decode_chunks(chunk(**{field: "Hm."}, content=None), chunk("stop", content="4")).parts == parts
    assert decode_completion(completion(**{field: "Hm."}, content="4")).parts == parts


def test_reasoning_under_both_names() -> None:
    """A text that a vendor sends under two names is taken once."""
    assert decode_completion(completion(reasoning="Hm.", reasoning_content="Hm.")).parts == [reasoning("Hm.")]


def test_content_becomes_a_list() -> None:
    """Content that turns from a string into parts in mid-stream is read on: thinking is reasoning."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    answer = decode_chunks(
        chunk(content=""),
        chunk(content=[thinking]),
        chunk(content=[{"type": "thinking", "thinking": "So."}, None, "odd"]),
        chunk(content=[thinking, {"type": "text", "text": "A"}, {"type": "reference", "reference_ids": [1]}]),
        chunk(content={"type": "text", "text": "B"}),
        chunk("stop", content="C"),
    )
    assert answer.parts == [reasoning("Hm.So.Hm."), text("ABC")]


def test_refusal() -> None:
    """A refusal is text that says why, and a finish reason of its own."""
    streamed = decode_chunks(chunk(refusal="I can"), chunk(refusal="not."), chunk("stop"))
    whole = decode_completion(completion(content=None, refusal="I cannot."))
    for answer in (streamed, whole):
        assert answer.parts == [text("I cannot.")]
        assert answer.completed.finish_reason == v1.FINISH_REASON_REFUSAL
        assert answer.completed.provider_finish_reason == "stop"


def test_signatures() -> None:
    """Row 32: a signature stands on its reasoning, and all blocks come whole and unchanged at the end."""
    start = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    answer = decode_chunks(
        chunk(content="", reasoning_details=[{**start, "text": "", "signature": ""}]),
        chunk(content="", reasoning="Two ", reasoning_details=[{**start, "text": "Two "}]),
        chunk(content="", reasoning="plus", reasoning_details=[{**start, "text": "plus"}]),
        chunk(content="", reasoning_details=[{**start, "signature": "Sig+/="}]),
        chunk(content="4", reasoning_details=[]),
        chunk("stop"),
    )
    assert answer.parts[:2] == [reasoning("Two plus", b"Sig+/="), text("4")]
    opaque = answer.parts[2].opaque
    assert (opaque.format, opaque.type) == ("openai", "reasoning_details")
    assert json.loads(opaque.json) == [{**start, "text": "Two plus", "signature": "Sig+/="}]


def test_encrypted_reasoning() -> None:
    """Row 32: summaries are shown, encrypted blocks are kept, both in order and with fields yet unknown."""
    blocks = [
        {"type": "reasoning.summary", "summary": "Thought.", "format": "openai-responses-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "index": 0, "new": [1]},
        {"type": "reasoning.encrypted", "data": "gBBB", "id": "rs_2", "index": 0},
    ]
    answer = decode_completion(completion(content="4", reasoning_details=blocks))
    assert answer.parts[:2] == [reasoning("Thought."), text("4")]
    assert json.loads(answer.parts[2].opaque.json) == blocks


def test_unsigned_blocks_are_not_repeated() -> None:
    """Blocks that hold nothing but text are the reasoning itself, and need no second form."""
    blocks = [{"type": "reasoning.text", "text": "Hm.", "signature": None, "index": 0}]
    assert decode_completion(completion(reasoning_details=blocks)).parts == [reasoning("Hm.")]


def test_only_the_first_choice() -> None:
    """Answers that nobody asked for are left out."""
    other = {"index": 1, "delta": {"content": "other"}, "finish_reason": "length"}
    answer = decode_chunks({"choices": [other]}, chunk("stop", content="a"), {"choices": [other]})
    assert answer.parts == [text("a")]
    assert answer.completed.finish_reason == v1.FINISH_REASON_STOP


def test_first_id_and_model_that_are_not_empty() -> None:
    """Azure's first chunk names neither."""
    empty = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{}]}
    later = {**chunk("stop", content="a"), "id": "other", "model": "other"}
    answer = decode_chunks(empty, chunk(content="a"), later)
    assert (answer.completed.response_id, answer.completed.response_model) == ("chatcmpl-1", "gpt-x")


FINISH_REASONS = {
    "stop": v1.FINISH_REASON_STOP,
    "STOP": v1.FINISH_REASON_STOP,
    "eos": v1.FINISH_REASON_STOP,
    "length": v1.FINISH_REASON_MAX_TOKENS,
    "model_length": v1.FINISH_REASON_MAX_TOKENS,
    "content_filter": v1.FINISH_REASON_CONTENT_FILTER,
    "function_call": v1.FINISH_REASON_TOOL_CALLS,
    "brand_new": v1.FINISH_REASON_OTHER,
    1: v1.FINISH_REASON_OTHER,
    0: v1.FINISH_REASON_OTHER,
}


@pytest.mark.parametrize(("word", "reason"), FINISH_REASONS.items(), ids=map(str, FINISH_REASONS))
def test_finish_reasons(word: Any, reason: v1.FinishReason) -> None:
    """Each word has its meaning, and an unknown one is no failure."""
    for answer in (decode_chunks(chunk(word, content="a")), decode_completion(completion(word, content="a"))):
        assert answer.completed.finish_reason == reason
        assert answer.completed.provider_finish_reason == str(word)


def test_finish_reason_comes_early_and_twice() -> None:
    """The chunk with the finish reason may carry content, and be followed by more of both."""
    answer = decode_chunks(
        chunk("stop", content="a"), chunk("", content="b"), chunk(None, content="c"), chunk("length")
    )
    assert answer.parts == [text("abc")]
    assert answer.completed.finish_reason == v1.FINISH_REASON_MAX_TOKENS


def test_nothing_after_the_end_marker() -> None:
    """What follows `[DONE]` is not read, and the body's end adds nothing."""
    attempt = call()
    decoder = OpenAIFormat().decoder(attempt, EVENT_STREAM)
    decoder.feed(sse(chunk("stop", content="a"), "[DONE]", chunk(content="b")))
    assert decoder.done
    assert decoder.feed(sse({"error": {"message": "late"}})) == []
    assert decoder.finish() == []


TRUNCATED = {
    "nothing": b"",
    "no end marker": sse(chunk(content="a"), chunk("stop")),
    "no finish reason": sse(chunk(content="a"), "[DONE]"),
    "neither": sse(chunk(content="a")),
    "a tool call half sent": sse(calls(piece('{"x', index=0, id="a", name="look"))),
    "an end marker alone": sse("[DONE]"),
    "cut inside an event": sse(chunk(content="a")) + sse(chunk("stop"))[:-30],
    "cut inside the end marker": sse(chunk("stop")) + b"data: [DON",
    "comments only": b": OPENROUTER PROCESSING\n\n" * 3,
}


@pytest.mark.parametrize("body", TRUNCATED.values(), ids=TRUNCATED.keys())
def test_truncated(body: bytes) -> None:
    """Row 3: a stream without a finish reason and its end marker has failed, however cleanly it ends."""
    with pytest.raises(GenerationError) as raised:
        decode([body])
    assert raised.value.reason is Reason.STREAM_TRUNCATED


def test_vendors_without_an_end_marker() -> None:
    """Row 3: where a vendor has none, the finish reason and the body's end make the answer whole."""
    markerless = replace(COMPATIBLE, done_marker=False)
    answer = decode([sse(chunk("stop", content="a"), {"choices": [], "usage": USAGE})], profile=markerless)
    assert answer.completed.usage.output_tokens == 3
    with pytest.raises(GenerationError) as raised:
        decode([sse(chunk(content="a"))], profile=markerless)
    assert raised.value.reason is Reason.STREAM_TRUNCATED


def test_the_last_event_lacks_its_blank_line() -> None:
    """Row 20: an end marker that is the body's last line counts."""
    assert decode([sse(chunk("stop", content="a")) + b"data: [DONE]"]).parts == [text("a")]


@pytest.mark.parametrize(
    ("content_type", "streaming", "body"),
    [
        ("application/json; charset=utf-8", True, completion(content="a")),
        ("Text/Event-Stream", False, sse(chunk("stop", content="a"), "[DONE]")),
        ("", True, sse(chunk("stop", content="a"), "[DONE]")),
        ("", False, completion(content="a")),
    ],
)
def test_what_came_decides(content_type: str, streaming: bool, body: bytes) -> None:
    """Row 5: an answer is read as what it says it is; where it does not say, as what was asked for."""
    assert decode([body], content_type, streaming=streaming).parts == [text("a")]


@pytest.mark.parametrize(
    ("broken", "mended"),
    [(b"a\xffb", "a\ufffdb"), (rb"\ud83d", "\ufffd"), (rb"a\ude00", "a\ufffd"), ("é🐎".encode(), "é🐎")],
)
def test_broken_characters(broken: bytes, mended: str) -> None:
    """Row 19: invalid UTF-8 and lone surrogates become U+FFFD; what is sound stays as it is."""
    stream = sse(chunk("stop", content="@"), "[DONE]").replace(b"@", broken)
    assert decode([stream]).parts == [text(mended)]
    assert decode_completion(completion(content="@").replace(b"@", broken)).parts == [text(mended)]


def test_spaces_around_data() -> None:
    """Row 20: more spaces than the one that belongs to the colon do no harm."""
    body = b"data:   " + json.dumps(chunk("stop", content="a")).encode() + b"\n\ndata:\n\ndata:  [DONE] \n\n"
    assert decode([body]).parts == [text("a")]
