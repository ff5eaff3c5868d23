"""What Outrider asks of Anthropic's Messages API: the conversation, tools and the other calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.providers.anthropic_format import AnthropicFormat
from tests.providers.anthropic_answers import call, decode, delta, ending, head, sse, start, stop
from tests.providers.anthropic_requests import (
    BUDGET_MODEL,
    blocks,
    encode,
    refused,
    request,
    user,
)

POST_HEADERS = {"anthropic-version": "2023-06-01", "content-type": "application/json"}
PNG = b"\x89PNG\r\n"


def test_simple_request() -> None:
    """A request goes to v1/messages with the API's version, and holds only what was asked for."""
    attempt = call(request(""), streaming=True)
    sent = AnthropicFormat().encode(attempt)
    assert sent.path == "v1/messages"
    assert sent.headers == POST_HEADERS
    assert sent.connect_timeout == attempt.connect_timeout
    assert json.loads(sent.body or b"") == {
        "model": BUDGET_MODEL,
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
    }
    assert not attempt.warnings


def test_system_messages_stand_apart() -> None:
    """System text is hoisted; where it stood inside the conversation, a warning says so."""
    asked = request("""
        messages { role: ROLE_SYSTEM parts { text: "Be brief." } parts { text: "Be kind." } }
        messages { role: ROLE_USER parts { text: "Hi" } }
        messages { role: ROLE_SYSTEM parts { text: "Rhyme." } }
    """)
    body, warnings = encode(asked)
    assert [block["text"] for block in body["system"]] == ["Be brief.", "Be kind.", "Rhyme."]
    assert len(body["messages"]) == 1
    assert warnings == [("SETTING_ADJUSTED", "messages[2]")]


def test_results_of_parallel_calls_are_one_turn() -> None:
    """Consecutive tool messages, and what the user then says, become one user turn, results first."""
    asked = request("""
        messages { role: ROLE_USER parts { text: "Hi" } }
        messages { role: ROLE_ASSISTANT
            parts { tool_call { id: "a" name: "look" arguments_json: "{\\"q\\": 1.50}" } }
            parts { tool_call { id: "b" name: "look" } } }
        messages { role: ROLE_TOOL parts { tool_result { tool_call_id: "a" parts { text: "found" } } } }
        messages { role: ROLE_TOOL parts { tool_result { tool_call_id: "b" is_error: true } } }
        messages { role: ROLE_USER parts { text: "Go on" } }
    """)
    body, warnings = encode(asked)
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [
        {"type": "tool_use", "id": "a", "name": "look", "input": {"q": 1.5}},
        {"type": "tool_use", "id": "b", "name": "look", "input": {}},
    ]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "found"}]},
        {"type": "tool_result", "tool_use_id": "b", "is_error": True},
        {"type": "text", "text": "Go on"},
    ]
    assert not warnings


def test_images() -> None:
    """Images go by content or by URL, in messages and in tool results."""
    image = v1.Media(data=PNG, mime_type="image/png")
    linked = v1.Media(uri="https://example.com/a.png")
    by_content = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K"},
    }
    by_url = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    assert blocks(v1.Part(image=image), v1.Part(image=linked)) == [by_content, by_url]
    result = v1.ToolResult(tool_call_id="a", parts=[v1.Part(image=image)])
    assert blocks(v1.Part(tool_result=result), role=v1.ROLE_TOOL)[0]["content"] == [by_content]


@pytest.mark.parametrize(
    ("media", "source"),
    [
        (
            v1.Media(data=b"%PDF", mime_type="application/pdf"),
            {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
        ),
        (v1.Media(uri="https://example.com/a"), {"type": "url", "url": "https://example.com/a"}),
        (
            v1.Media(uri="https://example.com/a", mime_type="application/pdf"),
            {"type": "url", "url": "https://example.com/a"},
        ),
        (
            v1.Media(data="né".encode(), mime_type="text/markdown; charset=utf-8"),
            {"type": "text", "media_type": "text/plain", "data": "né"},
        ),
    ],
)
def test_documents(media: v1.Media, source: dict[str, str]) -> None:
    """PDF files go by content or by URL, text files by content; a file name becomes the title."""
    assert blocks(v1.Part(file=media)) == [{"type": "document", "source": source}]
    media.filename = "a.txt"
    assert blocks(v1.Part(file=media)) == [{"type": "document", "source": source, "title": "a.txt"}]


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (v1.Part(audio=v1.Media(data=b"a", mime_type="audio/wav")), ".audio"),
        (v1.Part(file=v1.Media(data=b"a", mime_type="application/zip")), ".file"),
        (v1.Part(file=v1.Media(uri="https://example.com/a", mime_type="text/plain")), ".file"),
        (v1.Part(file=v1.Media(data=b"\xff", mime_type="text/plain")), ".file.data"),
        (v1.Part(tool_call=v1.ToolCall(arguments_json="[1]")), ".tool_call.arguments_json"),
        (v1.Part(tool_call=v1.ToolCall(arguments_json='{"a":')), ".tool_call.arguments_json"),
        (v1.Part(opaque=v1.OpaquePart(format="anthropic", json='{"a"}')), ".opaque.json"),
        (v1.Part(opaque=v1.OpaquePart(format="anthropic", json='{"a":' + "[" * 10**5)), ".opaque.json"),
        (v1.Part(tool_result=v1.ToolResult(parts=[v1.Part(audio=v1.Media())])), ".tool_result.parts[0]"),
        (v1.Part(), ""),
    ],
)
def test_content_that_the_model_cannot_see_is_refused(part: v1.Part, field: str) -> None:
    """Content that has no form in the API, or is not what it says, is an error that names its place."""
    asked = v1.GenerateRequest(
        messages=[user("Hi"), v1.Message(role=v1.ROLE_USER, parts=[user("a").parts[0], part])]
    )
    assert refused(asked) == [f"messages[1].parts[1]{field}"]


def test_every_fault_is_told_at_once() -> None:
    """All fields that are wrong are told together."""
    assert refused("""
        messages { role: ROLE_SYSTEM parts { image { uri: "https://example.com/a" } } }
        messages { role: ROLE_USER parts { text: " \\n" } }
        tools { name: "a" parameters_json_schema: "[]" }
        tools { name: "b" parameters_json_schema: "{\\"type\\": nope}" }
        response_format { json_schema { json_schema: "" } }
    """) == [
        "messages[0].parts[0]",
        "messages[1]",
        "response_format.json_schema.json_schema",
        "tools[0].parameters_json_schema",
        "tools[1].parameters_json_schema",
    ]


def test_blank_text_is_left_out() -> None:
    """Blank text, which the API refuses though its models write it, and their empty turns are left out."""
    asked = request("""
        messages { role: ROLE_USER parts { text: "" } parts { text: "Hi" } parts { text: "\\n\\n" } }
        messages { role: ROLE_ASSISTANT parts { text: " " } }
        messages { role: ROLE_ASSISTANT }
        messages { role: ROLE_USER parts { text: "Well?" } }
    """)
    body, warnings = encode(asked)
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "Well?"}]}
    ]
    assert not warnings


def test_thinking_and_tool_calls_go_back_byte_for_byte() -> None:
    """Row 32: thinking, redacted thinking, opaque blocks and tool calls go back exactly as they came."""
    content: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "Hm \u2028 é", "signature": "EqQBCkYIARgCKkA/+=="},
        {"type": "thinking", "thinking": "", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3p=="},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "novelty", "n": [1.5, None, "é"]},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"b": 1, "a": [True]}},
    ]
    streamed: list[dict[str, Any]] = []
    for index, block in enumerate(content):
        match block["type"]:
            case "thinking":
                streamed.append(start(index, type="thinking", thinking="", signature=""))
                streamed.append(delta(index, type="thinking_delta", thinking=block["thinking"]))
                streamed.append(delta(index, type="signature_delta", signature=block["signature"]))
            case "server_tool_use" | "tool_use":
                streamed.append(start(index, **{**block, "input": {}}))
                streamed.append(
                    delta(index, type="input_json_delta", partial_json=json.dumps(block["input"]))
                )
            case _:
                streamed.append(start(index, **block))
        streamed.append(stop(index))
    parts = decode([sse(head(), *streamed, *ending("tool_use"))]).parts
    assert blocks(*parts, role=v1.ROLE_ASSISTANT) == content


def test_opaque_parts_go_back_verbatim() -> None:
    """An opaque part of this format is sent as the bytes it came as."""
    written = '{"type": "novelty",  "n": 1.50, "s": "\\u00e9"}'
    part = v1.Part(opaque=v1.OpaquePart(format="anthropic", type="novelty", json=written))
    sent = AnthropicFormat().encode(
        call(v1.GenerateRequest(messages=[v1.Message(role=v1.ROLE_ASSISTANT, parts=[part])]))
    )
    assert written.encode() in (sent.body or b"")


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (v1.Part(opaque=v1.OpaquePart(format="gemini", type="x", json="{}")), "opaque"),
        (v1.Part(reasoning=v1.Reasoning(text="Hm")), "reasoning"),
        (v1.Part(reasoning=v1.Reasoning(text="Hm"), signature=b"\xff\x00"), "reasoning"),
        (v1.Part(reasoning=v1.Reasoning(redacted=b"\xff")), "reasoning"),
    ],
)
def test_parts_of_other_providers_are_left_out(part: v1.Part, field: str) -> None:
    """What only another provider understands is left out with a warning."""
    assistant = v1.Message(role=v1.ROLE_ASSISTANT, parts=[part, v1.Part(text="Well.")])
    body, warnings = encode(v1.GenerateRequest(messages=[user("Hi"), assistant]))
    assert body["messages"][1]["content"] == [{"type": "text", "text": "Well."}]
    assert warnings == [("SETTING_NOT_SUPPORTED", f"messages[1].parts[0].{field}")]


def test_ids_of_other_providers_are_made_acceptable() -> None:
    """Call ids with characters that the API refuses are changed, alike in the call and in its result."""
    tool_call = v1.Part(tool_call=v1.ToolCall(id="functions.look:0/ü", name="look"))
    result = v1.Part(tool_result=v1.ToolResult(tool_call_id="functions.look:0/ü"))
    assert blocks(tool_call, role=v1.ROLE_ASSISTANT)[0]["id"] == "functions_look_0__"
    assert blocks(result, role=v1.ROLE_TOOL)[0]["tool_use_id"] == "functions_look_0__"


def test_names_of_participants_are_warned_of() -> None:
    """The API knows no names of participants."""
    _, warnings = encode('messages { role: ROLE_USER name: "ann" parts { text: "Hi" } }')
    assert warnings == [("SETTING_NOT_SUPPORTED", "messages[0].name")]


def test_tools() -> None:
    """A tool's schema goes out as it was written; a tool without one takes an empty object."""
    body, warnings = encode("""
        tools { name: "look" description: "Looks." strict: true
            parameters_json_schema: "{\\"type\\":\\"object\\",\\"maxProperties\\":1.0}" }
        tools { name: "wait" }
    """)
    assert body["tools"] == [
        {
            "name": "look",
            "description": "Looks.",
            "strict": True,
            "input_schema": {"type": "object", "maxProperties": 1.0},
        },
        {"name": "wait", "input_schema": {"type": "object"}},
    ]
    assert "tool_choice" not in body
    assert not warnings


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("mode: MODE_AUTO", None),
        ("disable_parallel: true", {"type": "auto", "disable_parallel_tool_use": True}),
        ("mode: MODE_NONE disable_parallel: true", {"type": "none"}),
        ("mode: MODE_REQUIRED", {"type": "any"}),
        (
            'mode: MODE_NAMED name: "look" disable_parallel: true',
            {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_tool_choice(choice: str, expected: dict[str, Any] | None) -> None:
    """Each choice has its form; without tools, only one that forces a call is sent, to be refused."""
    body, warnings = encode(f'tools {{ name: "look" }} tool_choice {{ {choice} }}')
    assert body.get("tool_choice") == expected
    body, _ = encode(f"tool_choice {{ {choice} }}")
    assert body.get("tool_choice") == (expected if expected and expected["type"] in ("any", "tool") else None)
    assert not warnings


def test_count() -> None:
    """Counting sends what the model reads, and nothing else."""
    asked = request("""
        messages { role: ROLE_SYSTEM parts { text: "Be brief." } }
        messages { role: ROLE_USER parts { text: "Hi" } }
        tools { name: "look" }
        sampling { max_output_tokens: 5000 temperature: 0.5 stop: "END" seed: 1 }
        reasoning { effort: EFFORT_LOW }
    """)
    sent = AnthropicFormat().encode_count(asked, BUDGET_MODEL)
    assert sent is not None
    assert (sent.path, sent.headers) == ("v1/messages/count_tokens", POST_HEADERS)
    body, _ = encode(asked)
    for name in ("max_tokens", "stop_sequences"):
        del body[name]
    assert json.loads(sent.body or b"") == body


def test_count_is_read() -> None:
    """The answer to a count is a number, and anything else is the provider's error."""
    assert AnthropicFormat().decode_count(b'{"input_tokens": 2095, "more": 1}') == 2095
    for body in (b"{}", b"<html>", b'{"input_tokens": -1}', b'{"type":"error","error":{"type":"api_error"}}'):
        with pytest.raises(GenerationError) as raised:
            AnthropicFormat().decode_count(body)
        assert raised.value.reason == Reason.PROVIDER_PROTOCOL_ERROR


def test_check_costs_no_tokens() -> None:
    """Whether the provider accepts the key is asked by listing one model."""
    sent = AnthropicFormat().encode_check()
    assert (sent.path, sent.body) == ("v1/models?limit=1", None)
    assert sent.headers == {"anthropic-version": "2023-06-01"}


def test_other_statuses_are_classified() -> None:
    """An answer with an error status is read as Anthropic's error."""
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    error = AnthropicFormat().classify(529, {"retry-after": "7"}, body)
    assert (error.reason, error.fact.retry_after) == (Reason.PROVIDER_OVERLOADED, 7)
