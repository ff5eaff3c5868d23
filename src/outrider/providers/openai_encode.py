"""A `GenerateRequest` as the body of Chat Completions.

https://developers.openai.com/api/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.providers.openai_content import encode_messages
from outrider.providers.openai_findings import Findings
from outrider.providers.openai_models import family, nearest_effort

if TYPE_CHECKING:
    from outrider.core.ports import Call
    from outrider.providers.openai_content import Json
    from outrider.providers.openai_models import Family
    from outrider.providers.profiles import Profile

_TOOL_CHOICES: Final = {
    v1.ToolChoice.MODE_AUTO: "auto",
    v1.ToolChoice.MODE_NONE: "none",
    v1.ToolChoice.MODE_REQUIRED: "required",
}
_PENALTIES: Final = ("frequency_penalty", "presence_penalty")


def encode_generate(call: Call, profile: Profile) -> bytes:
    """The body that asks for an answer; warns of what is left out.

    Raises GenerationError with INVALID_REQUEST, naming every field that cannot be sent.
    """
    request = call.request
    findings = Findings(call.warnings)
    body: Json = {
        "model": call.model,
        "messages": encode_messages(request.messages, profile, findings),
    }
    _add_tools(body, request, findings)
    _add_response_format(body, request.response_format, findings)
    model_family = family(profile.families, call.model)
    _add_effort(body, request, model_family, findings)
    _add_sampling(body, request.sampling, profile, model_family, findings)
    if call.streaming:
        body["stream"] = True
        if profile.asks_for_stream_usage:
            body["stream_options"] = {"include_usage": True}
    if findings.violations:
        raise GenerationError(
            Reason.INVALID_REQUEST,
            "the request cannot be put into the form of Chat Completions",
            violations=findings.violations,
        )
    return msgspec.json.encode(body)


def _add_tools(body: Json, request: v1.GenerateRequest, findings: Findings) -> None:
    choice = request.tool_choice
    if not request.tools:
        if choice.mode in (v1.ToolChoice.MODE_REQUIRED, v1.ToolChoice.MODE_NAMED):
            findings.refuse("tool_choice.mode", "asks for a tool call, but there are no tools")
        return
    body["tools"] = [
        {"type": "function", "function": _function(tool, f"tools[{index}]", findings)}
        for index, tool in enumerate(request.tools)
    ]
    if choice.mode == v1.ToolChoice.MODE_NAMED:
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice.mode in _TOOL_CHOICES:
        body["tool_choice"] = _TOOL_CHOICES[choice.mode]
    if choice.disable_parallel:
        body["parallel_tool_calls"] = False


def _function(tool: v1.Tool, field: str, findings: Findings) -> Json:
    function: Json = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters_json_schema:
        function["parameters"] = findings.json_object(
            tool.parameters_json_schema, f"{field}.parameters_json_schema"
        )
    if tool.strict:
        function["strict"] = True
    return function


def _add_response_format(body: Json, form: v1.ResponseFormat, findings: Findings) -> None:
    match form.WhichOneof("format"):
        case "json_object":
            body["response_format"] = {"type": "json_object"}
        case "json_schema":
            asked = form.json_schema
            schema: Json = {
                "name": asked.name or "answer",
                "schema": findings.json_object(asked.json_schema, "response_format.json_schema.json_schema"),
            }
            if asked.description:
                schema["description"] = asked.description
            if asked.strict:
                schema["strict"] = True
            body["response_format"] = {"type": "json_schema", "json_schema": schema}


def _add_effort(
    body: Json, request: v1.GenerateRequest, model_family: Family | None, findings: Findings
) -> None:
    asked = request.reasoning
    if asked.HasField("budget_tokens"):
        findings.warn("reasoning.budget_tokens", "Chat Completions has efforts only")
    if model_family is None:
        if asked.effort > v1.ReasoningOptions.EFFORT_NONE:
            findings.warn("reasoning.effort", "this model is not known to reason")
        return
    if asked.effort:
        body["reasoning_effort"] = nearest_effort(model_family, asked.effort)
    if request.tools and not model_family.tools_while_reasoning and _reasons(body, model_family):
        body["reasoning_effort"] = "none"
        findings.warn(
            "reasoning.effort", "this model takes tools in Chat Completions only with its reasoning off"
        )


def _reasons(body: Json, model_family: Family) -> bool:
    """Whether the model will reason with the effort that the body has, or with none."""
    effort = body.get("reasoning_effort")
    return effort != "none" and (effort is not None or model_family.reasons_unasked)


def _add_sampling(
    body: Json,
    sampling: v1.Sampling,
    profile: Profile,
    model_family: Family | None,
    findings: Findings,
) -> None:
    refusals: dict[str, str] = {}
    if not profile.top_k:
        refusals["top_k"] = "the provider has no such setting"
    if not profile.penalties:
        refusals |= dict.fromkeys(_PENALTIES, "the provider has no such setting")
    if model_family and not _takes_sampling(body, model_family):
        refusals |= dict.fromkeys(
            ("temperature", "top_p", "stop", *_PENALTIES), "refused by reasoning models"
        )
    names = {"max_output_tokens": profile.max_tokens_field}
    for field, value in sampling.ListFields():
        if refusal := refusals.get(field.name):
            findings.warn(f"sampling.{field.name}", refusal)
        else:
            body[names.get(field.name, field.name)] = list(value) if field.name == "stop" else value


def _takes_sampling(body: Json, model_family: Family) -> bool:
    if model_family.sampling == "without_reasoning":
        return not _reasons(body, model_family)
    return model_family.sampling == "always"
