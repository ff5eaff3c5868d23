"""Whose signatures are whose: what is signed goes back to its maker byte for byte, and to nobody else."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.collect import Collector
from outrider.core.context import Progress
from outrider.core.ports import Call
from outrider.providers.anthropic_format import AnthropicFormat
from outrider.providers.openai_format import OpenAIFormat
from outrider.providers.profiles import COMPATIBLE, GROQ, OPENAI
from outrider.providers.signatures import signer

if TYPE_CHECKING:
    from outrider.core.ports import WireFormat
    from outrider.providers.profiles import Profile

MODEL = "claude-sonnet-4-5"


def compatible(url: str, profile: Profile = COMPATIBLE) -> OpenAIFormat:
    return OpenAIFormat(replace(profile, signer=signer("openai", url)))


FORMATS: dict[str, WireFormat] = {
    "claude": AnthropicFormat(signer=signer("anthropic", "https://api.anthropic.com")),
    "lookalike": AnthropicFormat(signer=signer("anthropic", "https://api.example.com/anthropic")),
    "gemini": compatible("https://generativelanguage.googleapis.com/v1beta/openai"),
    "router": compatible("https://openrouter.ai/api/v1"),
    "openai": compatible("https://api.openai.com/v1", OPENAI),
    "groq": compatible("https://api.groq.com/openai/v1", GROQ),
}

words = st.text("abc äß\n", min_size=1, max_size=9).filter(str.strip)
seals = st.text("ABCabc+/=", min_size=4, max_size=12).map("SEALED".__add__)


def thinking(text: str, signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


anthropic_blocks = st.one_of(
    st.builds(thinking, st.just("") | words, seals),
    st.builds(lambda data: {"type": "redacted_thinking", "data": data}, seals),
    st.builds(lambda text: {"type": "text", "text": text}, words),
    st.builds(lambda data: {"type": "web_search_tool_result", "encrypted_content": data}, seals),
    st.just({"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1}}),
)


def with_seal(message: dict[str, Any], seal: str | None) -> dict[str, Any]:
    return message | {"extra_content": {"google": {"thought_signature": seal}}} if seal else message


def details(pieces: list[tuple[str, str, bool]]) -> list[dict[str, Any]]:
    """OpenRouter's blocks: encrypted ones, and signed text."""
    return [
        {"type": "reasoning.encrypted", "data": seal, "index": index}
        if hidden
        else {"type": "reasoning.text", "text": text, "signature": seal, "index": index}
        for index, (text, seal, hidden) in enumerate(pieces)
    ]


openai_messages = st.builds(
    lambda text, text_seal, pieces, call_seals: with_seal(
        {
            "role": "assistant",
            "content": text,
            **({"reasoning_details": details(pieces)} if pieces else {}),
            "tool_calls": [
                with_seal(
                    {"id": f"call_{at}", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    seal,
                )
                for at, seal in enumerate(call_seals)
            ],
        },
        text_seal,
    ),
    words,
    st.none() | seals,
    st.lists(st.tuples(words, seals, st.booleans()), max_size=3),
    st.lists(st.none() | seals, min_size=1, max_size=3),
)


def call(request: v1.GenerateRequest | None = None) -> Call:
    return Call(request or v1.GenerateRequest(), MODEL, False, 5.0, Progress(), [])


def heard(maker: str, body: Any) -> v1.Message:
    """An answer in one piece, decoded and collected."""
    decoder = FORMATS[maker].decoder(call(), "application/json")
    events = [*decoder.feed(json.dumps(body).encode()), *decoder.finish()]
    collector = Collector()
    for event in events:
        collector.add(event)
    return collector.response.message


def asked(name: str, said: v1.Message) -> tuple[dict[str, Any], str, list[v1.Warning]]:
    """The assistant's turn that a provider is sent, the whole body, and the warnings."""
    question = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hello")])
    results = [
        v1.Part(tool_result=v1.ToolResult(tool_call_id=part.tool_call.id, parts=[v1.Part(text="done")]))
        for part in said.parts
        if part.HasField("tool_call")
    ]
    reply = v1.Message(role=v1.ROLE_TOOL, parts=results) if results else question
    attempt = call(v1.GenerateRequest(messages=[question, said, reply]))
    body = FORMATS[name].encode(attempt).body or b""
    turns = [turn for turn in json.loads(body)["messages"] if turn["role"] == "assistant"]
    return (turns or [{}])[0], body.decode(), attempt.warnings


def goes_nowhere_else(maker: str, said: v1.Message) -> None:
    """To every other provider all parts go, but for what is signed; a warning names each that loses any."""
    for name in FORMATS.keys() - {maker}:
        _, body, warnings = asked(name, said)
        assert "SEALED" not in body
        for part in said.parts:
            assert json.dumps(part.text, ensure_ascii=False)[1:-1] in body
            assert part.tool_call.id in body
        lost = {f"messages[1].parts[{at}]" for at, part in enumerate(said.parts) if part.signed_by}
        assert lost <= {warning.field.rpartition(".")[0] for warning in warnings}


@given(st.sampled_from(["claude", "lookalike"]), st.lists(anthropic_blocks, min_size=1, max_size=5))
def test_thinking(maker: str, content: list[dict[str, Any]]) -> None:
    """Row 32: thinking, hidden or not, and blocks of the provider's own tools."""
    ids = count()
    content = [
        block | {"id": f"toolu_{next(ids)}"} if block["type"] == "tool_use" else block for block in content
    ]
    said = heard(maker, {"content": content, "stop_reason": "tool_use", "usage": {}})
    turn, _, warnings = asked(maker, said)
    assert (turn["content"], warnings) == (content, [])
    goes_nowhere_else(maker, said)


@given(st.sampled_from(["gemini", "router"]), openai_messages)
def test_thought_signatures_and_reasoning_details(maker: str, message: dict[str, Any]) -> None:
    """Row 32: on text, on calls, and blocks of reasoning, signed or encrypted."""
    said = heard(maker, {"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    turn, _, warnings = asked(maker, said)
    assert (turn, warnings) == (message, [])
    goes_nowhere_else(maker, said)


@given(openai_messages)
def test_an_unknown_maker_is_everybody(message: dict[str, Any]) -> None:
    """Parts that name no maker, as older callers hand them back, are sent wherever their form is taken."""
    said = heard("gemini", {"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    for part in said.parts:
        part.signed_by = ""
    turn, _, warnings = asked("router", said)
    assert (turn, warnings) == (message, [])


def test_readable_reasoning_of_others_goes_without_its_signature() -> None:
    """As plain text where that is taken; Anthropic's format takes none that it has not signed."""
    reasoning = v1.Part(
        reasoning=v1.Reasoning(text="Hm."), signature=b"SEALED", signed_by=signer("anthropic", "https://x")
    )
    said = v1.Message(role=v1.ROLE_ASSISTANT, parts=[reasoning, v1.Part(text="4")])
    turn, _, _ = asked("router", said)
    assert turn == {"role": "assistant", "content": "4", "reasoning_content": "Hm."}
    turn, _, _ = asked("claude", said)
    assert turn["content"] == [{"type": "text", "text": "4"}]
