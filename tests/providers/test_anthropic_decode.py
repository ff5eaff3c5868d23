"""What Outrider makes of Anthropic's answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.providers.anthropic_format import AnthropicFormat
from tests.providers.anthropic_answers import (
    EVENT_STREAM,
    JSON,
    USAGE,
    call,
    decode,
    delta,
    ending,
    head,
    message,
    sse,
    start,
    stop,
    text_block,
    whole,
)


def test_text_comes_merged_and_ends_with_completed() -> None:
    """Text deltas of one read are one event; `Completed` says who answered, how it ended and what it used."""
    answer = decode([whole(*text_block(0, "Hel", "lo"))])
    assert [event.WhichOneof("event") for event in answer.events] == ["text_delta", "completed"]
    assert answer.parts == [v1.Part(text="Hello")]
    assert answer.completed == v1.Completed(
        finish_reason=v1.FINISH_REASON_STOP,
        provider_finish_reason="end_turn",
        usage=v1.Usage(input_tokens=3, output_tokens=7, source=v1.USAGE_SOURCE_PROVIDER),
        response_id="msg_1",
        response_model="claude-x",
    )
    assert answer.progress.output_chars == len("Hello")


def test_events_come_as_soon_as_they_are_whole() -> None:
    """Nothing is held back: each delta is given out by the read that completes it."""
    decoder = AnthropicFormat().decoder(call(), EVENT_STREAM)
    assert decoder.feed(sse(head(**USAGE), start(0, type="text", text=""))) == []
    [event] = decoder.feed(sse(delta(0, type="text_delta", text="Hi")))
    assert event.text_delta.text == "Hi"
    assert not decoder.done


def test_text_may_stand_in_the_start_of_its_block() -> None:
    """Text given at the start of a block counts."""
    answer = decode([whole(start(0, type="text", text="Hi"), delta(0, type="text_delta", text="!"), stop(0))])
    assert answer.parts == [v1.Part(text="Hi!")]


def test_parts_are_numbered_by_what_is_given_out() -> None:
    """A block without content takes no number, so that parts have no gaps."""
    answer = decode([whole(*text_block(0), *text_block(1, "a"), *text_block(2, ""), *text_block(3, "b"))])
    assert answer.parts == [v1.Part(text="a"), v1.Part(text="b")]


@pytest.mark.parametrize("where", ["delta", "start", "both"])
def test_signature_of_thinking(where: str) -> None:
    """A signature comes once, on the last delta of its part, wherever it stood; the later one counts."""
    begun = {"thinking": "", "signature": "" if where == "delta" else "c2ln+/=="}
    deltas = [delta(0, type="thinking_delta", thinking="Hm")]
    if where != "start":
        deltas.append(delta(0, type="signature_delta", signature="c2ln+/==" if where == "delta" else "new"))
    answer = decode(
        [sse(event) for event in [head(), start(0, type="thinking", **begun), *deltas, stop(0)]]
        + [sse(*ending())]
    )
    assert [event.reasoning_delta.signature for event in answer.events[:-1]] == [
        b"",
        b"new" if where == "both" else b"c2ln+/==",
    ]
    assert answer.parts[0].reasoning.text == "Hm"


def test_thinking_without_words_keeps_its_signature() -> None:
    """Where the words of thinking are withheld, the signature alone is the part."""
    signed = delta(0, type="signature_delta", signature="c2ln")
    answer = decode([whole(start(0, type="thinking", thinking="", signature=""), signed, stop(0))])
    assert answer.parts == [v1.Part(reasoning=v1.Reasoning(), signature=b"c2ln")]


def test_redacted_thinking_is_one_delta() -> None:
    """Redacted thinking comes whole and byte for byte."""
    block = [start(0, type="redacted_thinking", data="RW5j+/="), delta(0, type="novel_delta"), stop(0)]
    answer = decode([whole(*block)])
    assert answer.parts == [v1.Part(reasoning=v1.Reasoning(redacted=b"RW5j+/="))]


def tool_use(index: int, *pieces: str, given: Any = None) -> list[dict[str, Any]]:
    block = start(
        index, type="tool_use", id=f"toolu_{index}", name="look", input={} if given is None else given
    )
    return [
        block,
        *(delta(index, type="input_json_delta", partial_json=piece) for piece in pieces),
        stop(index),
    ]


@pytest.mark.parametrize(
    ("pieces", "given_input", "arguments"),
    [
        (['{"q":', ' "a"}'], None, '{"q": "a"}'),
        (["", '{"q":1}'], {}, '{"q":1}'),
        ([], None, "{}"),
        ([""], {}, "{}"),
        ([], {"q": 1}, '{"q": 1}'),
        (['{"q":2}'], {"q": 1}, '{"q":2}'),
    ],
)
def test_arguments_of_a_tool_call(pieces: list[str], given_input: Any, arguments: str) -> None:
    """Arguments come in deltas, or whole at the start; none at all are an empty object."""
    answer = decode([whole(*tool_use(0, *pieces, given=given_input), reason="tool_use")])
    tool_call = v1.ToolCall(id="toolu_0", name="look", arguments_json=arguments)
    assert answer.parts == [v1.Part(tool_call=tool_call)]
    assert answer.completed.finish_reason == v1.FINISH_REASON_TOOL_CALLS


@pytest.mark.parametrize(
    "block",
    [{"type": "tool_use", "name": "look"}, {"type": "tool_use", "name": "look", "id": "", "input": None}],
)
def test_tool_call_without_id_gets_one(block: dict[str, Any]) -> None:
    """A call that the provider gave no id is given one, and an input of null is an empty object."""
    answer = decode([message(block, block)], JSON)
    first, second = (part.tool_call for part in answer.parts)
    assert first.id
    assert second.id
    assert first.id != second.id
    assert first.arguments_json == "{}"


def test_tools_that_the_provider_runs_are_opaque() -> None:
    """Calls of the provider's own tools and their results are opaque parts; the caller's calls stay apart."""
    search = start(0, type="server_tool_use", id="srv_1", name="web_search", input={})
    query = [delta(0, type="input_json_delta", partial_json=piece) for piece in ('{"query": ', '"x"}')]
    result = {
        "type": "web_search_tool_result",
        "tool_use_id": "srv_1",
        "content": [{"n": 1.50, "s": "ü\u2028"}],
    }
    answer = decode(
        [
            whole(
                search,
                *query,
                stop(0),
                start(1, **result),
                stop(1),
                *tool_use(2, '{"a":1}'),
                reason="tool_use",
            )
        ]
    )
    called, found, own = answer.parts
    assert (called.opaque.format, called.opaque.type) == ("anthropic", "server_tool_use")
    assert json.loads(called.opaque.json) == {
        "type": "server_tool_use",
        "id": "srv_1",
        "name": "web_search",
        "input": {"query": "x"},
    }
    assert found.opaque.json == json.dumps(result), "a block that comes whole is handed on byte for byte"
    assert own.tool_call.name == "look"


def test_unknown_blocks_are_kept_whole() -> None:
    """A kind of block that is newer than Outrider is an opaque part that holds all its deltas."""
    begun = start(0, type="compaction", content=None, notes="a", level=1, text=["not", "a", "string"])
    deltas = [
        delta(0, type="compaction_delta", content="Sum", notes="b"),
        delta(0, type="compaction_delta", content="mary", level=2),
    ]
    [part] = decode([whole(begun, *deltas, stop(0))]).parts
    assert part.opaque.type == "compaction"
    assert json.loads(part.opaque.json) == {
        "type": "compaction",
        "content": "Summary",
        "notes": "ab",
        "level": 2,
        "text": ["not", "a", "string"],
    }


@pytest.mark.parametrize("sent", ['{"que', "[" * 100_000])
def test_half_sent_input_of_a_provider_tool_is_left_out(sent: str) -> None:
    """JSON of an opaque part is always valid, also where the answer was cut at its token limit."""
    block = start(0, type="server_tool_use", id="srv_1", name="web_search", input={})
    answer = decode([whole(block, delta(0, type="input_json_delta", partial_json=sent), reason="max_tokens")])
    assert json.loads(answer.parts[0].opaque.json)["input"] == {}


def test_unknown_events_deltas_and_fields_are_skipped() -> None:
    """What is not known does no harm: citations, pings, new events and new fields."""
    citation = delta(0, type="citations_delta", citation={"type": "page_location", "text": 3})
    answer = decode(
        [
            b"event: ping\ndata:\n\n",
            sse(
                {"type": "novelty", "index": 9},
                head(**USAGE, inference_geo="eu"),
                start(0, type="text", text="", x=[1]),
            ),
            sse(
                citation, {"type": "ping"}, delta(0, type="text_delta", text="Hi", extra={"a": 1}), *ending()
            ),
        ]
    )
    assert answer.parts == [v1.Part(text="Hi")]


def test_events_without_a_type_are_known_by_their_name() -> None:
    """The name of an event stands in for a `type` that is missing."""
    bare = b"".join(
        b"event: %b\ndata: %b\n\n" % (event.pop("type").encode(), json.dumps(event).encode())
        for event in [head(**USAGE), *text_block(0, "Hi"), *ending()]
    )
    assert decode([bare]).parts == [v1.Part(text="Hi")]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", v1.FINISH_REASON_STOP),
        ("stop_sequence", v1.FINISH_REASON_STOP),
        ("max_tokens", v1.FINISH_REASON_MAX_TOKENS),
        ("model_context_window_exceeded", v1.FINISH_REASON_MAX_TOKENS),
        ("tool_use", v1.FINISH_REASON_TOOL_CALLS),
        ("refusal", v1.FINISH_REASON_REFUSAL),
        ("pause_turn", v1.FINISH_REASON_PAUSED),
        ("novel_reason", v1.FINISH_REASON_OTHER),
    ],
)
def test_finish_reasons(reason: str, expected: v1.FinishReason) -> None:
    """Each stop reason has its meaning, streamed or whole, and is told in the provider's own word too."""
    for answer in (decode([whole(reason=reason)]), decode([message(stop_reason=reason)], JSON)):
        assert answer.completed.finish_reason == expected
        assert answer.completed.provider_finish_reason == reason


def test_stop_sequence_is_told() -> None:
    """The stop sequence that ended the answer is told."""
    assert decode([sse(head(), *ending("stop_sequence", "END"))]).completed.stop_sequence == "END"


def test_usage_is_merged_by_field() -> None:
    """Later counts win field by field, null erases nothing, and input holds what was cached."""
    begun = head(
        input_tokens=10,
        output_tokens=1,
        cache_read_input_tokens=100,
        cache_creation_input_tokens=30,
        cache_creation={"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    )
    last: dict[str, Any] = {"input_tokens": 4000, "output_tokens": 50, "cache_read_input_tokens": None}
    answer = decode([sse(begun, *ending(**last, output_tokens_details={"thinking_tokens": 40}))])
    assert answer.completed.usage == v1.Usage(
        input_tokens=4130,
        output_tokens=50,
        cached_input_tokens=100,
        cache_write_input_tokens=30,
        cache_write_1h_input_tokens=20,
        reasoning_output_tokens=40,
        source=v1.USAGE_SOURCE_PROVIDER,
    )


def test_usage_is_known_from_the_first_event() -> None:
    """Row 30: what the head of the answer counts is in `progress` at once, so that a cut does not lose it."""
    attempt = call()
    AnthropicFormat().decoder(attempt, EVENT_STREAM).feed(
        sse(head(input_tokens=10, cache_read_input_tokens=5))
    )
    assert attempt.progress.usage == v1.Usage(
        input_tokens=15, cached_input_tokens=5, source=v1.USAGE_SOURCE_PROVIDER
    )


def test_no_usage_is_not_zero_usage() -> None:
    """Row 21: where the provider counted nothing, `Completed` has no usage."""
    silent = head()
    del silent["message"]["usage"]
    last, end = ending()
    del last["usage"]
    assert not decode([sse(silent, last, end)]).completed.HasField("usage")


@pytest.mark.parametrize(
    ("content_type", "streaming"),
    [(EVENT_STREAM, False), ("TEXT/EVENT-STREAM", False), ("", True)],
)
def test_stream_is_read_as_what_it_is(content_type: str, streaming: bool) -> None:
    """What came decides, not what was asked for; without a content type, what was asked for."""
    assert decode([whole(*text_block(0, "a"))], content_type, streaming=streaming).parts == [
        v1.Part(text="a")
    ]


@pytest.mark.parametrize(
    ("content_type", "streaming"),
    [(JSON, True), ("application/json; charset=utf-8", True), ("", False), ("text/plain", True)],
)
def test_whole_answer_is_read_as_what_it_is(content_type: str, streaming: bool) -> None:
    """An answer in one piece is read as such, also where a stream was asked for."""
    body = message({"type": "text", "text": "a"})
    assert decode([body[:20], body[20:]], content_type, streaming=streaming).parts == [v1.Part(text="a")]


def test_whole_answer_is_the_same_as_streamed() -> None:
    """An answer in one piece holds the same parts, finish reason and usage as the same answer streamed."""
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "RW5j"},
        {"type": "text", "text": "Hi", "citations": None},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "tool_use", "id": "t", "name": "look", "input": {"q": 1}},
    ]
    started = [event for index, block in enumerate(blocks) for event in (start(index, **block), stop(index))]
    streamed = decode([sse(head(**USAGE), *started, *ending("tool_use"))])
    collected = decode([message(*blocks, stop_reason="tool_use")], JSON)
    assert collected.parts == streamed.parts
    assert collected.completed == streamed.completed
    assert collected.progress == streamed.progress


TEXTS = st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=6), max_size=4)


@given(st.lists(TEXTS, max_size=4), st.data())
def test_any_cut_gives_the_same_answer(blocks: list[list[str]], data: st.DataObject) -> None:
    """Row 19: wherever the bytes are cut, the answer is the same."""
    events = [event for index, texts in enumerate(blocks) for event in text_block(index, *texts)]
    body = whole(*events)
    cuts = sorted(data.draw(st.lists(st.integers(1, len(body) - 1), max_size=9, unique=True)))
    pieces = [body[low:high] for low, high in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    cut, at_once = decode(pieces), decode([body])
    assert cut.parts == at_once.parts
    assert cut.completed == at_once.completed
    assert [part.text for part in cut.parts] == [text for texts in blocks if (text := "".join(texts))]
