"""Answers full of what only their maker understands, and what of them must come back in the next turn."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.answers import json_body, sse, stream

if TYPE_CHECKING:
    from tests.support.upstream import Answer

_ANTHROPIC: list[dict[str, Any]] = [
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
_DETAILS = [
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
_OPENAI: dict[str, Any] = {
    "role": "assistant",
    "content": "Let me look.",
    "extra_content": {"google": {"thought_signature": "T0+/=="}},
    "reasoning_details": _DETAILS,
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


@dataclass(frozen=True)
class Signed:
    """An answer, whole and as a stream, and the messages that it and the results of its calls must become."""

    whole: Answer
    streamed: Answer
    next_turn: list[dict[str, Any]]


def signed(format_: str, mark: str = "") -> Signed:
    """An answer in a wire format; everything opaque in it holds "+", the mark, and "/"."""
    if format_ == "anthropic":
        return _anthropic(_marked(_ANTHROPIC, mark))
    return _openai(_marked(_OPENAI, mark))


def _marked(value: Any, mark: str) -> Any:
    return json.loads(json.dumps(value).replace("+/", f"+{mark}/"))


def _anthropic(content: list[dict[str, Any]]) -> Signed:
    message = {"id": "m", "model": "x", "content": content, "stop_reason": "tool_use", "usage": {}}
    results = [
        {"type": "tool_result", "tool_use_id": call_id, "content": [{"type": "text", "text": "done"}]}
        for call_id in ("toolu_01A", "toolu_01B")
    ]
    return Signed(
        json_body(message),
        stream(_anthropic_events(content)),
        [{"role": "assistant", "content": content}, {"role": "user", "content": results}],
    )


def _anthropic_events(content: list[dict[str, Any]]) -> list[bytes]:
    """Each block in as many deltas as it may have."""
    deltas = {"thinking": "thinking_delta", "signature": "signature_delta", "text": "text_delta"}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"id": "m", "usage": {}}}]
    for index, block in enumerate(content):
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


def _openai(message: dict[str, Any]) -> Signed:
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in message["tool_calls"]
    ]
    return Signed(
        json_body({"choices": [{"message": message, "finish_reason": "tool_calls"}]}),
        stream(_openai_events(message)),
        [message, *results],
    )


def _openai_events(message: dict[str, Any]) -> list[bytes]:
    """Each field in a delta of its own."""
    deltas: list[dict[str, Any]] = [{"reasoning_details": [each]} for each in message["reasoning_details"]]
    deltas += [{"content": message["content"]}, {"extra_content": message["extra_content"]}]
    deltas += [{"tool_calls": [{**call, "index": at}]} for at, call in enumerate(message["tool_calls"])]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    return sse(*chunks, "[DONE]")
