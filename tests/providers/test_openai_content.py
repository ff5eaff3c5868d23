"""Conversations as messages of Chat Completions."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from outrider import v1
from outrider.core.errors import GenerationError
from outrider.providers.openai_format import OpenAIFormat
from outrider.providers.profiles import COMPATIBLE, GROQ, OPENAI
from tests.providers.openai_answers import call, completion, decode_completion
from tests.providers.openai_requests import encode, refused, unsupported

if TYPE_CHECKING:
    from outrider.providers.profiles import Profile


def user(*parts: v1.Part) -> v1.Message:
    return v1.Message(role=v1.ROLE_USER, parts=parts)


def assistant(*parts: v1.Part) -> v1.Message:
    return v1.Message(role=v1.ROLE_ASSISTANT, parts=parts)


def text(value: str) -> v1.Part:
    return v1.Part(text=value)


def result(call_id: str, *parts: v1.Part, is_error: bool = False) -> v1.Part:
    return v1.Part(tool_result=v1.ToolResult(tool_call_id=call_id, parts=parts, is_error=is_error))


def messages(*conversation: v1.Message, profile: Profile = OPENAI) -> list[dict[str, Any]]:
    """Encoded messages, none of which may bring a warning."""
    body, warnings = encode(v1.GenerateRequest(messages=conversation), profile)
    assert warnings == []
    encoded: list[dict[str, Any]] = body["messages"]
    return encoded


def test_text() -> None:
    """One text is a string, several are a list, and nothing is sent that was not set."""
    request = v1.GenerateRequest(
        messages=[
            v1.Message(role=v1.ROLE_SYSTEM, parts=[text("Be brief.")]),
            user(text("Hi"), text("🐎")),
            assistant(text("Hello. "), text("Well?")),
            user(text("")),
        ]
    )
    assert encode(request) == (
        {
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "🐎"}],
                },
                {"role": "assistant", "content": "Hello. Well?"},
                {"role": "user", "content": ""},
            ],
        },
        [],
    )


def test_media() -> None:
    """Bytes go as data URIs, addresses as they are, sound by its format, files by name."""
    data = b"\x00\xff\x10"
    encoded = base64.b64encode(data).decode()
    [message] = messages(
        user(
            v1.Part(image=v1.Media(data=data, mime_type="image/png")),
            v1.Part(image=v1.Media(uri="https://example.com/a.png")),
            v1.Part(audio=v1.Media(data=data, mime_type="audio/mpeg")),
            v1.Part(audio=v1.Media(data=data, mime_type="audio/x-wav; codecs=1")),
            v1.Part(file=v1.Media(data=data, mime_type="application/pdf", filename='a"b.pdf')),
            v1.Part(file=v1.Media(data=data, mime_type="application/pdf")),
            v1.Part(file=v1.Media(uri="file-abc")),
            v1.Part(file=v1.Media(uri="https://example.com/a.pdf")),
        )
    )
    pdf = f"data:application/pdf;base64,{encoded}"
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": encoded, "format": "mp3"}},
        {"type": "input_audio", "input_audio": {"data": encoded, "format": "wav"}},
        {"type": "file", "file": {"file_data": pdf, "filename": 'a"b.pdf'}},
        {"type": "file", "file": {"file_data": pdf, "filename": "file.pdf"}},
        {"type": "file", "file": {"file_id": "file-abc"}},
        {"type": "file", "file": {"file_data": "https://example.com/a.pdf"}},
    ]


def test_a_mime_type_cannot_break_out() -> None:
    """A caller's text is never JSON of its own, wherever it stands beside media."""
    media = v1.Media(data=b"x", mime_type='image/png","detail":"high')
    [message] = messages(user(v1.Part(image=media)))
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": 'data:image/png","detail":"high;base64,eA=='}}
    ]


def test_tool_calls_and_results() -> None:
    """Each result is a message behind its call; a failure says so in words."""
    calls = assistant(
        text("Let me see."),
        v1.Part(tool_call=v1.ToolCall(id="a", name="look", arguments_json='{"x": 1}')),
        v1.Part(tool_call=v1.ToolCall(id="b", name="see")),
    )
    results = v1.Message(
        role=v1.ROLE_TOOL,
        parts=[
            result("a", text("one"), text("two")),
            result("b", text("no such file"), is_error=True),
            result("c"),
        ],
    )
    assert messages(calls, results) == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}},
                {"id": "b", "type": "function", "function": {"name": "see", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "one\ntwo"},
        {"role": "tool", "tool_call_id": "b", "content": "Error: no such file"},
        {"role": "tool", "tool_call_id": "c", "content": ""},
    ]


def test_empty_turns() -> None:
    """A turn of calls alone has no content, a turn of nothing an empty one."""
    calls = assistant(v1.Part(tool_call=v1.ToolCall(id="a", name="look")))
    assert [message["content"] for message in messages(calls, assistant())] == [None, ""]


def test_media_in_tool_results() -> None:
    """Media of results follow behind the last result, as tool messages hold only text."""
    image = v1.Part(image=v1.Media(uri="https://example.com/a.png"))
    block = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    encoded = messages(
        v1.Message(role=v1.ROLE_TOOL, parts=[result("a", text("Shot:"), image)]),
        v1.Message(role=v1.ROLE_TOOL, parts=[result("b", image)]),
        user(text("Well?")),
    )
    assert encoded == [
        {"role": "tool", "tool_call_id": "a", "content": "Shot:"},
        {"role": "tool", "tool_call_id": "b", "content": "See attachment."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Attached to the result of a:"},
                block,
                {"type": "text", "text": "Attached to the result of b:"},
                block,
            ],
        },
        {"role": "user", "content": "Well?"},
    ]


def test_names_of_participants() -> None:
    """Names are sent where they are accepted; Groq answers 400 to them."""
    request = v1.GenerateRequest(messages=[v1.Message(role=v1.ROLE_USER, name="ann", parts=[text("Hi")])])
    assert encode(request)[0]["messages"][0]["name"] == "ann"
    body, warnings = encode(request, GROQ)
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    assert warnings == unsupported("messages[0].name")


REASONING = v1.Part(reasoning=v1.Reasoning(text="Hm."))
SIGNED = v1.Part(reasoning=v1.Reasoning(text="Hm."), signature=b"Sig+/=")


@pytest.mark.parametrize(("profile", "field"), [(GROQ, "reasoning"), (COMPATIBLE, "reasoning_content")])
def test_reasoning_goes_back(profile: Profile, field: str) -> None:
    """Row 32: reasoning goes back under the name that the vendor reads."""
    [message] = messages(assistant(REASONING, text("4")), profile=profile)
    assert message == {"role": "assistant", "content": "4", field: "Hm."}


def test_reasoning_that_openai_does_not_take() -> None:
    """Row 32: OpenAI takes no reasoning back, and says so by a warning."""
    body, warnings = encode(v1.GenerateRequest(messages=[assistant(SIGNED, text("4"))]))
    assert body["messages"] == [{"role": "assistant", "content": "4"}]
    assert warnings == unsupported("messages[0].parts[0].reasoning")


def test_signatures_go_back() -> None:
    """Row 32: signatures and encrypted reasoning go back byte for byte, as blocks."""
    hidden = v1.Part(reasoning=v1.Reasoning(redacted=b"gAAA=="))
    [message] = messages(assistant(SIGNED, hidden, text("4")), profile=COMPATIBLE)
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm.", "signature": "Sig+/="},
        {"type": "reasoning.encrypted", "data": "gAAA=="},
    ]
    assert "reasoning_content" not in message


def test_round_trip() -> None:
    """Row 32: blocks and thought signatures of an answer go into the next turn as they came."""
    blocks = [
        {"type": "reasoning.summary", "summary": "Hm.", "format": "openai-responses-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "gAAA==", "id": "rs_1", "index": 0},
        {"type": "reasoning.text", "text": "Two.", "signature": "Sig+/=", "index": 1},
    ]
    call_in = {
        "id": "a",
        "type": "function",
        "function": {"name": "look", "arguments": "{ }"},
        "extra_content": {"google": {"thought_signature": "T+/="}},
    }
    answer = decode_completion(
        completion("tool_calls", content="Let me see.", reasoning_details=blocks, tool_calls=[call_in])
    )
    [message] = messages(assistant(*answer.parts), profile=COMPATIBLE)
    assert message["reasoning_details"] == blocks
    assert message["tool_calls"] == [call_in]
    assert message["content"] == "Let me see."


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (v1.Part(opaque=v1.OpaquePart(format="anthropic", type="x", json="{}")), "opaque"),
        (v1.Part(reasoning=v1.Reasoning(text="Hm."), signature=b"\xff"), "reasoning"),
        (v1.Part(reasoning=v1.Reasoning(redacted=b"\xff")), "reasoning"),
        (v1.Part(tool_call=v1.ToolCall(id="a", name="look"), signature=b"\xff"), "tool_call"),
    ],
)
def test_other_providers_parts(part: v1.Part, field: str) -> None:
    """What only another provider understands is left out with a warning, and the rest is sent."""
    body, warnings = encode(v1.GenerateRequest(messages=[assistant(part, text("4"))]), COMPATIBLE)
    assert warnings == unsupported(f"messages[0].parts[0].{field}")
    assert body["messages"][0]["content"] == "4"
    assert "\ufffd" not in json.dumps(body, ensure_ascii=False)


def test_signatures_where_none_are_taken() -> None:
    """Row 32: a signature that the vendor would refuse is left out with a warning."""
    signed_call = v1.Part(tool_call=v1.ToolCall(id="a", name="look"), signature=b"S")
    body, warnings = encode(v1.GenerateRequest(messages=[assistant(SIGNED, signed_call)]), GROQ)
    assert body["messages"][0]["reasoning"] == "Hm."
    assert "extra_content" not in body["messages"][0]["tool_calls"][0]
    assert warnings == unsupported("messages[0].parts[0].reasoning", "messages[0].parts[1].tool_call")


def test_everything_wrong_is_named() -> None:
    """All fields that cannot be sent are told at once, each by its path."""
    request = v1.GenerateRequest(
        messages=[
            user(v1.Part(audio=v1.Media(uri="https://example.com/a.wav")), v1.Part()),
            assistant(v1.Part(image=v1.Media(data=b"x"))),
            v1.Message(role=v1.ROLE_TOOL, parts=[text("x")]),
        ],
        tools=[v1.Tool(name="look", parameters_json_schema='{"type":')],
        response_format=v1.ResponseFormat(json_schema=v1.JsonSchemaFormat(json_schema="[]")),
    )
    assert refused(request) == [
        "messages[0].parts[0].audio.uri",
        "messages[0].parts[1]",
        "messages[1].parts[0]",
        "messages[2].parts[0]",
        "tools[0].parameters_json_schema",
        "response_format.json_schema.json_schema",
    ]


def test_blocks_that_are_no_json() -> None:
    """A part handed back broken is the caller's error, and cannot break the body."""
    broken = v1.Part(opaque=v1.OpaquePart(format="openai", type="reasoning_details", json='[],"model":"x"'))
    attempt = call(v1.GenerateRequest(messages=[assistant(broken)]))
    with pytest.raises(GenerationError) as raised:
        OpenAIFormat(COMPATIBLE).encode(attempt)
    assert raised.value.fact.violations[0].field == "messages[0].parts[0].opaque.json"
