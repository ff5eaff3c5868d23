"""Settings as each Claude model takes them, and the warnings where it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider import v1
from outrider.providers.anthropic_format import AnthropicFormat
from tests.providers.anthropic_answers import call
from tests.providers.anthropic_requests import (
    ADAPTIVE_MODEL,
    BUDGET_MODEL,
    encode,
    request,
)


def test_models_that_cannot_be_forced_to_call_a_tool() -> None:
    """Where a model refuses a forced call, it decides by itself, and a warning says so."""
    body, warnings = encode('tools { name: "a" } tool_choice { mode: MODE_REQUIRED }', "claude-opus-5-5")
    assert "tool_choice" not in body
    assert warnings == [("SETTING_ADJUSTED", "tool_choice.mode")]


def sampled(
    settings: str, model: str = "claude-3-7-sonnet-latest", extra: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """The sampling settings that are sent, and the fields that are warned of."""
    body, warnings = encode(f"sampling {{ {settings} }} {extra}", model)
    names = ("temperature", "top_p", "top_k", "stop_sequences", "max_tokens")
    return {name: body[name] for name in names if name in body}, [field for _, field in warnings]


ALL = "temperature: 0.5 top_p: 0.9 top_k: 40 "


@pytest.mark.parametrize(
    ("settings", "model", "sent", "warned"),
    [
        (ALL, "claude-3-7-sonnet-latest", {"temperature": 0.5, "top_p": 0.9, "top_k": 40}, []),
        (ALL, "kimi-k2", {"temperature": 0.5, "top_p": 0.9, "top_k": 40}, []),
        (ALL, BUDGET_MODEL, {"temperature": 0.5, "top_k": 40}, ["top_p"]),
        ("top_p: 0.9", BUDGET_MODEL, {"top_p": 0.9}, []),
        (ALL, ADAPTIVE_MODEL, {}, ["temperature", "top_p", "top_k"]),
        (ALL, "claude-new-9", {}, ["temperature", "top_p", "top_k"]),
        ("temperature: 0", BUDGET_MODEL, {"temperature": 0}, []),
        ("temperature: 1", ADAPTIVE_MODEL, {}, []),
        ("temperature: 1.5", BUDGET_MODEL, {}, ["temperature"]),
        ("seed: 1", BUDGET_MODEL, {}, ["seed"]),
        ("frequency_penalty: 1", BUDGET_MODEL, {}, ["frequency_penalty"]),
        ("presence_penalty: -1", BUDGET_MODEL, {}, ["presence_penalty"]),
        ('stop: "END" stop: "\\n" stop: "X"', BUDGET_MODEL, {"stop_sequences": ["END", "X"]}, ["stop[1]"]),
    ],
)  # fmt: skip
def test_sampling(settings: str, model: str, sent: dict[str, Any], warned: list[str]) -> None:
    """Settings that the model takes are sent, and each of the others is warned of."""
    body, warnings = sampled(settings + " max_output_tokens: 100", model)
    assert body == {**sent, "max_tokens": 100}
    assert warnings == [f"sampling.{field}" for field in warned]


@pytest.mark.parametrize("model", [BUDGET_MODEL, "claude-sonnet-4-6"])
@pytest.mark.parametrize(
    ("settings", "sent", "warned"),
    [
        ("temperature: 0.5", {}, ["temperature"]),
        ("temperature: 1", {}, []),
        ("top_k: 40", {}, ["top_k"]),
        ("top_p: 0.9", {}, ["top_p"]),
        ("top_p: 0.95", {"top_p": 0.95}, []),
    ],
)
def test_sampling_while_thinking(model: str, settings: str, sent: dict[str, Any], warned: list[str]) -> None:
    """While a model thinks it takes no temperature and no top_k, and a top_p from 0.95."""
    body, warnings = sampled(settings, model, "reasoning { effort: EFFORT_LOW }")
    body.pop("max_tokens")
    assert body == sent
    assert warnings == [f"sampling.{field}" for field in warned]


def enabled(budget: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget}


ADAPTIVE = {"type": "adaptive", "display": "summarized"}
WARN = "SETTING_NOT_SUPPORTED"
ADJUST = "SETTING_ADJUSTED"
BUDGET_FIELD = "reasoning.budget_tokens"


@pytest.mark.parametrize(
    ("model", "options", "max_output", "thinking", "effort", "max_tokens", "warning"),
    [
        # Budgets: efforts have set ones, the answer keeps its room, and 1,024 is the least.
        ("claude-sonnet-4-5", "effort: EFFORT_MINIMAL", 0, enabled(1024), None, 9216, None),
        ("claude-sonnet-4-5", "effort: EFFORT_MAX", 0, enabled(32000), None, 40192, None),
        ("claude-sonnet-4-5", "budget_tokens: 60000", 0, enabled(60000), None, 64000, None),
        ("claude-opus-4-1", "budget_tokens: 60000", 0, enabled(25600), None, 32000, None),
        ("claude-sonnet-4-5", "effort: EFFORT_HIGH", 10000, enabled(8000), None, 10000, None),
        ("claude-sonnet-4-5", "budget_tokens: 9000", 10000, enabled(9000), None, 10000, None),
        ("claude-sonnet-4-5", "budget_tokens: 20000", 10000, enabled(8000), None, 10000, None),
        ("claude-sonnet-4-5", "budget_tokens: 500", 0, enabled(1024), None, 8692, (ADJUST, BUDGET_FIELD)),
        ("claude-sonnet-4-5", "effort: EFFORT_HIGH", 1100, enabled(1024), None, 1100, None),
        ("claude-sonnet-4-5", "effort: EFFORT_HIGH", 1024, None, None, 1024, (WARN, "reasoning")),
        ("claude-sonnet-4-5", "effort: EFFORT_LOW budget_tokens: 2000", 0, enabled(2000), None, 10192, None),
        # Both ways: the one that was asked for.
        ("claude-sonnet-4-6", "effort: EFFORT_MEDIUM", 0, ADAPTIVE, "medium", 16384, None),
        ("claude-opus-4-6", "budget_tokens: 2000", 0, enabled(2000), None, 10192, None),
        # Efforts only.
        ("claude-opus-4-7", "effort: EFFORT_MINIMAL", 0, ADAPTIVE, "low", 9216, None),
        ("claude-opus-5", "effort: EFFORT_HIGH", 0, ADAPTIVE, "high", 24576, None),
        ("claude-opus-5-5", "effort: EFFORT_MAX", 500, ADAPTIVE, "max", 500, None),
        ("claude-opus-4-7", "budget_tokens: 2000", 0, ADAPTIVE, None, 10192, (WARN, BUDGET_FIELD)),
        # Off, each in its way.
        ("claude-sonnet-4-5", "effort: EFFORT_NONE", 0, None, None, 8192, None),
        ("claude-sonnet-4-5", "budget_tokens: 0", 0, None, None, 8192, None),
        ("claude-opus-4-8", "effort: EFFORT_NONE", 0, None, None, 8192, None),
        ("claude-haiku-5-5", "effort: EFFORT_NONE", 0, {"type": "disabled"}, None, 8192, None),
        ("claude-sonnet-5-5", "effort: EFFORT_NONE", 0, {"type": "between_tools"}, None, 8192, None),
        ("claude-opus-5-5", "effort: EFFORT_NONE", 0, None, "low", 8192, (ADJUST, "reasoning.effort")),
        ("claude-3-haiku-20240307", "effort: EFFORT_NONE", 0, None, None, 4096, None),
        ("kimi-k2", "effort: EFFORT_NONE", 0, {"type": "disabled"}, None, 8192, None),
        # Not asked for: room where the model thinks unasked.
        ("claude-opus-4-8", "", 0, None, None, 8192, None),
        ("claude-opus-5-5", "", 0, None, None, 24576, None),
        # A model that cannot.
        ("claude-3-5-haiku-latest", "effort: EFFORT_LOW", 0, None, None, 8192, (WARN, "reasoning")),
    ],
)  # fmt: skip
def test_thinking(
    model: str,
    options: str,
    max_output: int,
    thinking: dict[str, Any] | None,
    effort: str | None,
    max_tokens: int,
    warning: tuple[str, str] | None,
) -> None:
    """Each model is asked to think in the form it takes, within `max_tokens`."""
    sampling = f"sampling {{ max_output_tokens: {max_output} }}" if max_output else ""
    body, warnings = encode(f"reasoning {{ {options} }} {sampling}", model)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert body["max_tokens"] == max_tokens
    assert warnings == ([warning] if warning else [])


@pytest.mark.parametrize("model", [BUDGET_MODEL, ADAPTIVE_MODEL, "claude-opus-5"])
def test_no_thinking_before_a_forced_call(model: str) -> None:
    """A forced tool call wins over thinking, which the API refuses with it."""
    forced = 'tools { name: "a" } tool_choice { mode: MODE_REQUIRED } reasoning { effort: EFFORT_LOW }'
    body, warnings = encode(forced, model)
    assert body["tool_choice"] == {"type": "any"}
    assert "thinking" not in body
    assert warnings == [(WARN, "reasoning")]


@pytest.mark.parametrize(
    ("model", "like"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("claude-opus-4-1@20250805", "claude-opus-4-1"),
        ("anthropic/claude-opus-4.7", "claude-opus-4-7"),
        ("claude-opus-4-20250514", "claude-opus-4-0"),
        ("claude-fable-5-3", "claude-fable-5-1"),
    ],
)
def test_models_are_known_by_all_their_names(model: str, like: str) -> None:
    """Names of Bedrock, Vertex and OpenRouter, dated names and later minor versions are the same model."""
    for options in ("EFFORT_NONE", "EFFORT_HIGH"):
        asked = f"reasoning {{ effort: {options} }} sampling {{ {ALL} }}"
        body, warnings = encode(asked, model)
        assert ({**body, "model": like}, warnings) == encode(asked, like)


SCHEMA = '{"type":"object","properties":{"n":{"const":1.50}}}'


def test_json_schema() -> None:
    """A schema is sent as it was written; its name and description become keywords unless it has its own."""
    form = v1.JsonSchemaFormat(json_schema=SCHEMA, name="answer", description="An answer.", strict=True)
    asked = request("reasoning { effort: EFFORT_LOW }")
    asked.response_format.json_schema.CopyFrom(form)
    sent = AnthropicFormat().encode(call(asked, ADAPTIVE_MODEL)).body or b""
    assert b'"properties":{"n":{"const":1.50}}' in sent
    assert json.loads(sent)["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {**json.loads(SCHEMA), "title": "answer", "description": "An answer."},
        },
        "effort": "low",
    }
    asked.response_format.json_schema.json_schema = '{"title":"mine"}'
    body, warnings = encode(asked)
    assert body["output_config"]["format"]["schema"]["title"] == "mine"
    assert not warnings


def test_json_forms_that_the_api_lacks_are_asked_for_in_words() -> None:
    """A JSON object, and a schema on old models, become an instruction and a warning."""
    body, warnings = encode("response_format { json_object {} }")
    assert "JSON object" in body["system"][0]["text"]
    assert "output_config" not in body
    assert warnings == [("SETTING_EMULATED", "response_format.json_object")]
    asked = request('messages { role: ROLE_SYSTEM parts { text: "Be brief." } }')
    asked.response_format.json_schema.json_schema = SCHEMA
    body, warnings = encode(asked, "claude-3-haiku-20240307")
    assert [SCHEMA in block["text"] for block in body["system"]] == [False, True]
    assert warnings == [("SETTING_EMULATED", "response_format.json_schema")]


def test_free_text_needs_no_form() -> None:
    """Free text is what the API gives unasked."""
    assert encode("response_format { text {} }") == encode("")
