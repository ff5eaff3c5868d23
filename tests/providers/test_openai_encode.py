"""Tools, formats and settings as they go into the body of Chat Completions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from outrider import v1
from outrider.core.errors import GenerationError
from outrider.providers.openai_format import OpenAIFormat
from outrider.providers.profiles import COMPATIBLE, GROQ, OPENAI
from tests.providers.openai_answers import call
from tests.providers.openai_requests import encode, refused, unsupported

if TYPE_CHECKING:
    from outrider.providers.profiles import Profile


SCHEMA = '{"type":"object","properties":{"n":{"type":"integer","maximum":9007199254740993}}}'


def settings(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("model", "messages", "tools")}


def test_tools() -> None:
    """Schemas are sent as they were written, integers beyond a double included."""
    request = v1.GenerateRequest(
        tools=[
            v1.Tool(name="look", description="Looks.", parameters_json_schema=SCHEMA, strict=True),
            v1.Tool(name="see"),
        ]
    )
    body, _ = encode(request)
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "look",
                "description": "Looks.",
                "parameters": json.loads(SCHEMA),
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "see"}},
    ]
    wire = OpenAIFormat().encode(call(request))
    assert wire.body is not None
    assert SCHEMA.encode() in wire.body


NAMED = {"type": "function", "function": {"name": "look"}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (v1.ToolChoice(), {}),
        (v1.ToolChoice(mode=v1.ToolChoice.MODE_AUTO), {"tool_choice": "auto"}),
        (v1.ToolChoice(mode=v1.ToolChoice.MODE_NONE), {"tool_choice": "none"}),
        (v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED), {"tool_choice": "required"}),
        (v1.ToolChoice(mode=v1.ToolChoice.MODE_NAMED, name="look"), {"tool_choice": NAMED}),
        (v1.ToolChoice(disable_parallel=True), {"parallel_tool_calls": False}),
    ],
)
def test_tool_choice(choice: v1.ToolChoice, expected: dict[str, Any]) -> None:
    """Each choice has its form."""
    body, warnings = encode(v1.GenerateRequest(tools=[v1.Tool(name="look")], tool_choice=choice))
    assert settings(body) == expected
    assert warnings == []


def test_tool_choice_without_tools() -> None:
    """Where there are no tools, none is chosen; asking for a call is the caller's error."""
    none = v1.ToolChoice(mode=v1.ToolChoice.MODE_NONE, disable_parallel=True)
    assert encode(v1.GenerateRequest(tool_choice=none))[0] == {"model": "gpt-4o", "messages": []}
    required = v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED)
    assert refused(v1.GenerateRequest(tool_choice=required)) == ["tool_choice.mode"]


def test_response_formats() -> None:
    """Free text is not asked for; JSON is, with or without a schema."""
    schema = v1.JsonSchemaFormat(json_schema=SCHEMA, description="A number.", strict=True)
    plain = v1.JsonSchemaFormat(json_schema="{}", name="thing")
    forms = [
        v1.ResponseFormat(text=v1.TextFormat()),
        v1.ResponseFormat(json_object=v1.JsonObjectFormat()),
        v1.ResponseFormat(json_schema=schema),
        v1.ResponseFormat(json_schema=plain),
    ]
    bodies = [encode(v1.GenerateRequest(response_format=form))[0].get("response_format") for form in forms]
    named = {"name": "answer", "schema": json.loads(SCHEMA), "description": "A number.", "strict": True}
    assert bodies == [
        None,
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": named},
        {"type": "json_schema", "json_schema": {"name": "thing", "schema": {}}},
    ]


EVERYTHING = v1.Sampling(
    temperature=0,
    top_p=0.5,
    top_k=7,
    max_output_tokens=100,
    stop=["a", "b"],
    seed=-3,
    frequency_penalty=0.25,
    presence_penalty=-1,
)
SAMPLED: dict[str, Any] = {"temperature": 0, "top_p": 0.5, "stop": ["a", "b"]}
PENALTIES = {"frequency_penalty": 0.25, "presence_penalty": -1}
REFUSED_WHILE_REASONING = ("temperature", "top_p", "stop", "frequency_penalty", "presence_penalty")


@pytest.mark.parametrize(
    ("profile", "expected", "left_out"),
    [
        (OPENAI, {**SAMPLED, **PENALTIES, "seed": -3, "max_completion_tokens": 100}, ["top_k"]),
        (
            GROQ,
            {**SAMPLED, "seed": -3, "max_completion_tokens": 100},
            ["top_k", "frequency_penalty", "presence_penalty"],
        ),
        (COMPATIBLE, {**SAMPLED, **PENALTIES, "seed": -3, "max_tokens": 100, "top_k": 7}, []),
    ],
    ids=["openai", "groq", "compatible"],
)
def test_sampling(profile: Profile, expected: dict[str, Any], left_out: list[str]) -> None:
    """Each vendor gets what it takes, zeros included, and every setting left out is warned of."""
    body, warnings = encode(v1.GenerateRequest(sampling=EVERYTHING), profile)
    assert settings(body) == expected
    assert warnings == unsupported(*(f"sampling.{name}" for name in left_out))


@pytest.mark.parametrize("model", ["o3", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-6-astra", "gpt-6.1-sol"])
def test_sampling_of_reasoning_models(model: str) -> None:
    """Models that always reason refuse most sampling settings; these are left out with a warning."""
    sampling = v1.Sampling()
    sampling.CopyFrom(EVERYTHING)
    sampling.ClearField("top_k")
    body, warnings = encode(v1.GenerateRequest(sampling=sampling), model=model)
    assert settings(body) == {"seed": -3, "max_completion_tokens": 100}
    assert sorted(warnings) == unsupported(*sorted(f"sampling.{name}" for name in REFUSED_WHILE_REASONING))


Effort = v1.ReasoningOptions


@pytest.mark.parametrize(
    ("model", "effort", "sampled"),
    [
        ("gpt-5.1", Effort.EFFORT_UNSPECIFIED, True),
        ("gpt-5.4-mini", Effort.EFFORT_NONE, True),
        ("gpt-5.2", Effort.EFFORT_LOW, False),
        ("gpt-5.6-sol", Effort.EFFORT_UNSPECIFIED, False),
        ("gpt-5.6-sol", Effort.EFFORT_NONE, True),
    ],
)
def test_sampling_where_reasoning_is_off(model: str, effort: Effort.Effort, sampled: bool) -> None:
    """Models whose reasoning can be off take sampling settings while it is."""
    request = v1.GenerateRequest(
        sampling=v1.Sampling(temperature=0.5), reasoning=v1.ReasoningOptions(effort=effort)
    )
    body, warnings = encode(request, model=model)
    assert ("temperature" in body) is sampled
    assert warnings == ([] if sampled else unsupported("sampling.temperature"))


@pytest.mark.parametrize(
    ("profile", "model", "efforts"),
    [
        # none, minimal, low, medium, high, max
        (OPENAI, "o3-mini", "low low low medium high high"),
        (OPENAI, "gpt-5-nano", "minimal minimal low medium high high"),
        (OPENAI, "gpt-5.1", "none low low medium high high"),
        (OPENAI, "gpt-5.2", "none low low medium high xhigh"),
        (OPENAI, "gpt-5.5", "none low low medium high xhigh"),
        (OPENAI, "gpt-6-luna", "none low low medium high xhigh"),
        (OPENAI, "gpt-6.2-astra", "low low low medium high xhigh"),
        (GROQ, "openai/gpt-oss-20b", "low low low medium high high"),
        (GROQ, "qwen/qwen3-32b", "none default default default default default"),
        (GROQ, "qwen/qwen3.8-27b", "none low low medium high high"),
        (COMPATIBLE, "anything", "none minimal low medium high high"),
    ],
)
def test_efforts(profile: Profile, model: str, efforts: str) -> None:
    """Every level becomes the nearest that the model knows; only NONE turns reasoning off."""
    sent = []
    for effort in range(Effort.EFFORT_NONE, Effort.EFFORT_MAX + 1):
        body, warnings = encode(v1.GenerateRequest(reasoning={"effort": effort}), profile, model)
        sent.append(body["reasoning_effort"])
        assert warnings == []
    assert " ".join(sent) == efforts


def test_efforts_of_models_that_do_not_reason() -> None:
    """A model that does not reason is not asked to; that it shall not reason needs no word."""
    high = v1.GenerateRequest(reasoning=v1.ReasoningOptions(effort=Effort.EFFORT_HIGH))
    none = v1.GenerateRequest(reasoning=v1.ReasoningOptions(effort=Effort.EFFORT_NONE))
    assert encode(high)[1] == unsupported("reasoning.effort")
    assert encode(none)[1] == []
    assert settings(encode(high)[0]) == settings(encode(none)[0]) == {}


def test_budgets() -> None:
    """A budget of reasoning tokens cannot be sent, and is warned of."""
    body, warnings = encode(v1.GenerateRequest(reasoning=v1.ReasoningOptions(budget_tokens=1000)), COMPATIBLE)
    assert settings(body) == {}
    assert warnings == unsupported("reasoning.budget_tokens")


@pytest.mark.parametrize(
    ("model", "effort", "sent", "warned"),
    [
        ("gpt-5.2", Effort.EFFORT_HIGH, "high", False),
        ("gpt-5.4", Effort.EFFORT_UNSPECIFIED, None, False),
        ("gpt-5.4", Effort.EFFORT_HIGH, "none", True),
        ("gpt-5.6-luna", Effort.EFFORT_UNSPECIFIED, "none", True),
        ("gpt-6-luna", Effort.EFFORT_NONE, "none", False),
    ],
)
def test_tools_while_reasoning(model: str, effort: Effort.Effort, sent: str | None, warned: bool) -> None:
    """Models that refuse tools while they reason are told not to, with a warning."""
    request = v1.GenerateRequest(tools=[v1.Tool(name="look")], reasoning=v1.ReasoningOptions(effort=effort))
    body, warnings = encode(request, model=model)
    assert body.get("reasoning_effort") == sent
    assert warnings == (unsupported("reasoning.effort") if warned else [])


def test_streaming() -> None:
    """A stream is asked for with its usage, where the vendor wants to be asked."""
    request = v1.GenerateRequest()
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert settings(encode(request, OPENAI, streaming=True)[0]) == asked
    assert settings(encode(request, COMPATIBLE, streaming=True)[0]) == asked
    assert settings(encode(request, GROQ, streaming=True)[0]) == {"stream": True}
    assert settings(encode(request, OPENAI)[0]) == {}


def test_other_calls() -> None:
    """The key is checked by the list of models; there is no call that counts tokens."""
    wire = OpenAIFormat()
    check = wire.encode_check()
    assert (check.path, check.body) == ("models", None)
    assert wire.encode_count(v1.GenerateRequest(), "gpt-4o") is None
    with pytest.raises(GenerationError):
        wire.decode_count(b"{}")
    assert wire.classify(429, {"retry-after": "3"}, b"{}").fact.retry_after == 3
