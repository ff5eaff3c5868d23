"""Counting a request: everything that a model reads has its share."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from outrider import v1
from outrider.core.token_estimate import estimate
from outrider.core.tokens import LocalTokenCounter

DEFAULT_FOLDER = Path(__file__).parents[3] / "shared" / "recorded"
RECORDED = Path(os.environ.get("OUTRIDER_RECORDED", DEFAULT_FOLDER)) / "provider-traffic.jsonl"

PROSE = "The lighthouse had been empty for eleven years when the letter arrived."
SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'


def words(text: str) -> int:
    return len(text.split())


ESTIMATING = LocalTokenCounter({})
COUNTING = LocalTokenCounter({"o200k_base": words})


def request(*parts: v1.Part, **others: Any) -> v1.GenerateRequest:
    said = parts or (v1.Part(text=PROSE),)
    return v1.GenerateRequest(messages=[v1.Message(role=v1.ROLE_USER, parts=said)], **others)


def media(size: int, mime_type: str) -> v1.Media:
    return v1.Media(data=b"x" * size, mime_type=mime_type)


def test_a_conversation() -> None:
    """Each message costs four tokens beside its text, a name one more, and the answer's beginning three."""
    asked = v1.GenerateRequest(
        messages=[
            v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(text="be brief")]),
            v1.Message(role=v1.ROLE_USER, name="ada", parts=[v1.Part(text="one two"), v1.Part(text="three")]),
        ]
    )
    assert COUNTING.count_input(asked, "gpt-4o") == (3 + (4 + 2) + (4 + 1 + 1 + 3), True)


def test_an_empty_request() -> None:
    """A request with nothing in it is its frame."""
    assert ESTIMATING.count_input(v1.GenerateRequest(), "gpt-4o") == (3, False)


RESULT = v1.ToolResult(tool_call_id="1", parts=[v1.Part(text=PROSE)])
JSON_SCHEMA = v1.JsonSchemaFormat(name="weather", json_schema=SCHEMA)

PARTS = {
    "tool call": v1.Part(tool_call=v1.ToolCall(id="1", name="weather", arguments_json='{"city":"Lyon"}')),
    "tool result": v1.Part(tool_result=RESULT),
    "reasoning": v1.Part(reasoning=v1.Reasoning(text=PROSE)),
    "hidden reasoning": v1.Part(reasoning=v1.Reasoning(redacted=b"x" * 400)),
    "opaque part": v1.Part(opaque=v1.OpaquePart(format="anthropic", type="new", json=SCHEMA)),
    "image": v1.Part(image=media(10, "image/png")),
    "image elsewhere": v1.Part(image=v1.Media(uri="https://example.com/a.png")),
    "sound": v1.Part(audio=media(64_000, "audio/mpeg")),
    "document": v1.Part(file=media(64_000, "application/pdf")),
    "document elsewhere": v1.Part(file=v1.Media(uri="https://example.com/a.pdf")),
    "text file": v1.Part(file=media(64, "text/plain")),
}


@pytest.mark.parametrize("counter", [ESTIMATING, COUNTING], ids=["estimated", "counted"])
@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-5-5", "unheard-of"])
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_every_part_has_its_share(counter: LocalTokenCounter, model: str, part: v1.Part) -> None:
    """Whatever a message holds adds to the count, which then is no exact one."""
    plain, _ = counter.count_input(request(v1.Part(text=PROSE)), model)
    more, exact = counter.count_input(request(v1.Part(text=PROSE), part), model)
    assert more > plain
    assert not exact


ADDITIONS: dict[str, dict[str, Any]] = {
    "tool": {"tools": [v1.Tool(name="weather")]},
    "format": {"response_format": v1.ResponseFormat(json_schema=JSON_SCHEMA)},
}


@pytest.mark.parametrize("counter", [ESTIMATING, COUNTING], ids=["estimated", "counted"])
@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-5-5", "unheard-of"])
@pytest.mark.parametrize("addition", ADDITIONS.values(), ids=ADDITIONS)
def test_tools_and_formats_are_read_too(
    counter: LocalTokenCounter, model: str, addition: dict[str, Any]
) -> None:
    """Tools and the schema of the answer are a part of the prompt."""
    plain, _ = counter.count_input(request(), model)
    more, exact = counter.count_input(request(**addition), model)
    assert more > plain
    assert not exact


def test_a_tool_is_its_name_description_and_schema() -> None:
    """Each of the three adds to what a tool costs."""
    counts = [
        ESTIMATING.count_input(request(tools=[tool]), "gpt-4o")[0]
        for tool in (
            v1.Tool(name="weather"),
            v1.Tool(name="weather", description=PROSE),
            v1.Tool(name="weather", description=PROSE, parameters_json_schema=SCHEMA),
        )
    ]
    assert counts == sorted(set(counts))


def test_text_files_are_read_as_text() -> None:
    """A text that is attached counts as if it had been said, whatever its bytes are."""
    attached = v1.Part(file=v1.Media(data=PROSE.encode() + b" \xff", mime_type="text/markdown"))
    said = v1.Part(text=PROSE + " \ufffd")
    assert ESTIMATING.count_input(request(attached), "m")[0] == ESTIMATING.count_input(request(said), "m")[0]


@pytest.mark.parametrize(
    ("model", "exact"),
    [
        ("gpt-4o", True),
        ("gpt-4.1-mini-2025-04-14", True),
        ("o3-mini", True),
        ("gpt-5-nano", True),
        ("openai/gpt-oss-120b", True),
        ("gpt-4", False),  # its vocabulary is another
        ("gpt-3.5-turbo", False),
        ("gpt-6-luna", False),  # not known to tiktoken
        ("claude-haiku-4-5", False),
        ("llama-3.3-70b-versatile", False),
        ("", False),
    ],
)
def test_only_its_own_vocabulary_counts_for_a_model(model: str, exact: bool) -> None:
    """A vocabulary is used for the models that are known to have it, and for no other."""
    assert COUNTING.count_input(request(), model)[1] is exact


def test_very_long_requests_are_estimated() -> None:
    """Above a million characters even a model whose vocabulary is at hand gets an estimate."""
    assert COUNTING.count_input(request(v1.Part(text="x " * 499_999)), "gpt-4o")[1]
    assert not COUNTING.count_input(request(v1.Part(text="x " * 500_001)), "gpt-4o")[1]


@pytest.mark.parametrize(
    ("model", "factor"),
    [
        ("claude-3-5-haiku-20241022", 1.15),
        ("claude-sonnet-4-5", 1.15),
        ("anthropic/claude-sonnet-4.6", 1.15),
        ("claude-opus-4-6", 1.15),
        ("claude-opus-4-7", 1.5),
        ("claude-opus-4.8", 1.5),
        ("claude-haiku-5-5", 1.5),
        ("claude-fable-9", 1.5),
    ],
)
def test_claude(model: str, factor: float) -> None:
    """Claude makes more tokens of the same text, and since 4.7 about 30 % more than before."""
    text = PROSE * 200
    tokens, _ = ESTIMATING.count_input(request(v1.Part(text=text)), model)
    assert tokens == pytest.approx(estimate(text) * factor, rel=0.01)


@pytest.mark.parametrize(("chars", "tokens"), [(-5, 0), (0, 0), (1, 1), (400, 100), (401, 101)])
def test_output(chars: int, tokens: int) -> None:
    """An answer of which only the length is known has a token for every four characters begun."""
    assert ESTIMATING.count_output(chars, "gpt-4o") == tokens


def test_output_of_claude() -> None:
    """Claude's factor holds for its answers too."""
    assert ESTIMATING.count_output(400, "claude-opus-5-5") == 150


@pytest.mark.skipif(not RECORDED.exists(), reason=f"there is no recorded traffic at {RECORDED}")
@pytest.mark.parametrize("host", ["api.openai.com", "api.anthropic.com"])
def test_recorded_prompts(host: str) -> None:
    """What providers counted in recorded conversations of text is met within 30 %, or five tokens."""
    compared = 0
    for exchange in map(json.loads, RECORDED.read_text().splitlines()):
        asked = exchange["request"]
        if exchange["host"] != host or not _is_plain(asked):
            continue
        if (counted := _input_tokens(exchange["body"])) is None:
            continue
        tokens, _ = ESTIMATING.count_input(_request(asked), asked["model"])
        assert tokens == pytest.approx(counted, rel=0.3, abs=5), (exchange["id"], asked["model"])
        compared += 1
    assert compared >= 5


def _is_plain(asked: dict[str, Any]) -> bool:
    """Whether nothing but text is asked: a provider adds prompts of its own to tools and to thinking."""
    added = {"tools", "thinking", "response_format", "output_config", "output_format", "functions"}
    return "messages" in asked and not added & asked.keys() and all(map(_texts, asked["messages"]))


def _texts(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    if message.get("tool_calls") or message["role"] == "tool":
        return []
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or [] if part.get("type") == "text"]


def _request(asked: dict[str, Any]) -> v1.GenerateRequest:
    system = [{"content": asked["system"]}] if asked.get("system") else []
    return v1.GenerateRequest(
        messages=[
            v1.Message(parts=[v1.Part(text=text) for text in _texts({"role": "", **message})])
            for message in (*system, *asked["messages"])
        ]
    )


def _input_tokens(body: str) -> int | None:
    """The largest sum of input tokens in a body: fresh, cached and cache-written ones."""
    names = ("prompt_tokens", "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    found = [[int(n) for n in re.findall(rf'"{name}":\s*(\d+)', body)] for name in names]
    return sum(max(numbers, default=0) for numbers in found) or None
