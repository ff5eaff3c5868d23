"""What a provider must get back unchanged in the next turn: signatures, hidden reasoning, ids."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from outrider import v1
from tests.support.answers import json_body, sse, stream
from tests.support.sidecar import ask, provider, running
from tests.support.turns import collected, next_turn
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

ANTHROPIC: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Hm.\n", "signature": "ErUB+/aGk=="},
    {"type": "redacted_thinking", "data": "Eo4B+/Zz=="},
    {"type": "text", "text": "Let me look."},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "é 1.50"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [{"encrypted_content": "Eq+/"}],
    },
    {"type": "thinking", "thinking": "", "signature": "EsUC+/bHl=="},
    {"type": "tool_use", "id": "toolu_01A", "name": "look", "input": {"x": 1}},
    {"type": "tool_use", "id": "toolu_01B", "name": "look", "input": {}},
]
DETAILS = [
    {"type": "reasoning.summary", "summary": "Hm.", "format": "openai-responses-v1", "index": 0},
    {
        "type": "reasoning.text",
        "text": "So.",
        "signature": "Sig+/==",
        "format": "anthropic-claude-v1",
        "index": 1,
    },
    {
        "type": "reasoning.encrypted",
        "data": "gAAA+/==",
        "id": "rs_1",
        "format": "openai-responses-v1",
        "index": 2,
    },
]
OPENAI: dict[str, Any] = {
    "role": "assistant",
    "content": "Let me look.",
    "extra_content": {"google": {"thought_signature": "T0+/=="}},
    "reasoning_details": DETAILS,
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "look", "arguments": '{"x": 1}'},
            "extra_content": {"google": {"thought_signature": "T1+/=="}},
        },
        {"id": "call_2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
    ],
}


ANTHROPIC_MESSAGE = {"id": "m", "model": "x", "content": ANTHROPIC, "stop_reason": "tool_use", "usage": {}}
OPENAI_COMPLETION = {"choices": [{"message": OPENAI, "finish_reason": "tool_calls"}]}


def anthropic_events() -> list[bytes]:
    """Each block in as many deltas as it may have."""
    deltas = {"thinking": "thinking_delta", "signature": "signature_delta", "text": "text_delta"}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"id": "m", "usage": {}}}]
    for index, block in enumerate(ANTHROPIC):
        begun = {name: "" if name in deltas else value for name, value in block.items()}
        pieces = [{"type": deltas[name], name: value} for name, value in block.items() if name in deltas]
        if block["type"] in ("tool_use", "server_tool_use"):
            begun["input"] = {}
            pieces = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        events += [{"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces]
        events.append({"type": "content_block_stop", "index": index})
    events += [{"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"}]
    return sse(*events)


def openai_events() -> list[bytes]:
    """Each field in a delta of its own."""
    deltas: list[dict[str, Any]] = [{"reasoning_details": [detail]} for detail in DETAILS]
    deltas += [{"content": OPENAI["content"]}, {"extra_content": OPENAI["extra_content"]}]
    deltas += [{"tool_calls": [{**call, "index": index}]} for index, call in enumerate(OPENAI["tool_calls"])]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    return sse(*chunks, "[DONE]")


def anthropic_result(call_id: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": [{"type": "text", "text": "done"}]}


def openai_result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "done"}


ANSWERS = {
    "anthropic": (json_body(ANTHROPIC_MESSAGE), stream(anthropic_events())),
    "openai": (json_body(OPENAI_COMPLETION), stream(openai_events())),
}
NEXT_TURNS: dict[str, list[dict[str, Any]]] = {
    "anthropic": [
        {"role": "assistant", "content": ANTHROPIC},
        {"role": "user", "content": [anthropic_result("toolu_01A"), anthropic_result("toolu_01B")]},
    ],
    "openai": [OPENAI, openai_result("call_1"), openai_result("call_2")],
}


@pytest.mark.parametrize("format_", ANSWERS)
async def test_an_answer_goes_back_as_it_came(tmp_path: Path, format_: str) -> None:
    """Row 32: thinking, what is redacted, calls and blocks of the provider's own tools, byte for byte."""
    whole, streamed = ANSWERS[format_]
    async with (
        Upstream(whole, streamed, whole) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url, format_)}) as sidecar,
    ):
        answers = [
            await sidecar.generation.Complete(v1.CompleteRequest(request=ask("p/m"))),
            await collected(sidecar.generation.Generate(ask("p/m"))),
        ]
        for answer in answers:
            second = await sidecar.generation.Complete(next_turn("p/m", answer.message))
            assert upstream.requests[-1].json()["messages"][1:] == NEXT_TURNS[format_]
            assert not second.completed.warnings
