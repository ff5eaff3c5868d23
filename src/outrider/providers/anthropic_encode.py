"""A `GenerateRequest` as the body of Anthropic's Messages API and of its token counting.

https://platform.claude.com/docs/en/api/messages/create
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.providers.anthropic_content import ADJUSTED, EMULATED, Conversation
from outrider.providers.anthropic_models import profile
from outrider.providers.anthropic_thinking import plan_thinking

if TYPE_CHECKING:
    from outrider.core.ports import Call
    from outrider.providers.anthropic_content import Json
    from outrider.providers.anthropic_models import Profile

_TOOL_CHOICES: Final = {
    v1.ToolChoice.MODE_NONE: "none",
    v1.ToolChoice.MODE_REQUIRED: "any",
    v1.ToolChoice.MODE_NAMED: "tool",
}
_FORCED: Final = ("any", "tool")
_LEAST_TOP_P_WHILE_THINKING: Final = 0.95


def encode_generate(call: Call, default_max_tokens: int, signer: str) -> bytes:
    """The body that asks for an answer. Raises GenerationError with INVALID_REQUEST."""
    accepts = profile(call.model)
    conversation = Conversation(call.warnings, signer)
    body = _prompt(call.request, call.model, accepts, conversation, default_max_tokens)
    _add_sampling(body, call.request.sampling, accepts, conversation)
    if call.streaming:
        body["stream"] = True
    return msgspec.json.encode(body)


def encode_count(request: v1.GenerateRequest, model: str, default_max_tokens: int, signer: str) -> bytes:
    """The body that asks how many input tokens a request has. Raises GenerationError with INVALID_REQUEST."""
    body = _prompt(request, model, profile(model), Conversation([], signer), default_max_tokens)
    del body["max_tokens"]
    return msgspec.json.encode(body)


def _prompt(
    request: v1.GenerateRequest,
    model: str,
    accepts: Profile,
    conversation: Conversation,
    default_max_tokens: int,
) -> Json:
    """Everything that the model reads, and how much it may think and write."""
    for index, message in enumerate(request.messages):
        conversation.add(message, f"messages[{index}]")
    tool_choice = _tool_choice(request, accepts, conversation)
    thinking = plan_thinking(
        request,
        accepts,
        conversation,
        default_max_tokens=default_max_tokens,
        forced_tool=tool_choice is not None and tool_choice["type"] in _FORCED,
    )
    output_config = _output_config(request.response_format, accepts, conversation)
    if thinking.effort:
        output_config["effort"] = thinking.effort
    body: Json = {
        "model": model,
        "max_tokens": thinking.max_tokens,
        "messages": conversation.turns,
        "system": conversation.system,
        "tools": _tools(request, conversation),
        "tool_choice": tool_choice,
        "thinking": thinking.config,
        "output_config": output_config,
    }
    if conversation.violations:
        raise GenerationError(
            Reason.INVALID_REQUEST,
            "the request cannot be put into Anthropic's form",
            violations=conversation.violations,
        )
    return {name: value for name, value in body.items() if value or name == "messages"}


def _tools(request: v1.GenerateRequest, conversation: Conversation) -> list[Json]:
    tools = []
    for index, tool in enumerate(request.tools):
        schema = tool.parameters_json_schema or '{"type":"object"}'
        encoded: Json = {
            "name": tool.name,
            "input_schema": conversation.json_object(schema, f"tools[{index}].parameters_json_schema"),
        }
        if tool.description:
            encoded["description"] = tool.description
        if tool.strict:
            encoded["strict"] = True
        tools.append(encoded)
    return tools


def _tool_choice(request: v1.GenerateRequest, accepts: Profile, conversation: Conversation) -> Json | None:
    choice = request.tool_choice
    kind = _TOOL_CHOICES.get(choice.mode, "auto")
    if kind in _FORCED and not accepts.forced_tools:
        conversation.warn(
            "tool_choice.mode", "this model cannot be made to call a tool; it decides by itself", ADJUSTED
        )
        kind = "auto"
    if kind not in _FORCED and not request.tools:
        return None  # refused where there are no tools
    if kind == "none":
        return {"type": "none"}
    encoded: Json = {"type": kind}
    if kind == "tool":
        encoded["name"] = choice.name
    if choice.disable_parallel:
        encoded["disable_parallel_tool_use"] = True
    elif kind == "auto":
        return None
    return encoded


def _output_config(form: v1.ResponseFormat, accepts: Profile, conversation: Conversation) -> Json:
    match form.WhichOneof("format"):
        case "json_schema":
            return _json_schema(form.json_schema, accepts, conversation)
        case "json_object":
            instruction = "Answer with one JSON object and nothing else."
            _emulate(conversation, "response_format.json_object", instruction)
    return {}


def _json_schema(form: v1.JsonSchemaFormat, accepts: Profile, conversation: Conversation) -> Json:
    schema = conversation.json_object(form.json_schema, "response_format.json_schema.json_schema")
    # The API has no fields for them, but the model reads the schema.
    for keyword, value in (("title", form.name), ("description", form.description)):
        if value:
            schema.setdefault(keyword, msgspec.Raw(msgspec.json.encode(value)))
    if accepts.json_schema:
        return {"format": {"type": "json_schema", "schema": schema}}
    written = msgspec.json.encode(schema).decode()
    instruction = f"Answer with JSON that follows this JSON Schema, and nothing else:\n{written}"
    _emulate(conversation, "response_format.json_schema", instruction)
    return {}


def _emulate(conversation: Conversation, field: str, instruction: str) -> None:
    conversation.system.append({"type": "text", "text": instruction})
    conversation.warn(field, "the model is asked for this form, but not held to it", EMULATED)


def _add_sampling(body: Json, sampling: v1.Sampling, accepts: Profile, conversation: Conversation) -> None:
    thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    for name in ("temperature", "top_p", "top_k"):
        if not sampling.HasField(name):
            continue
        value = getattr(sampling, name)
        if name == "temperature" and value > 1:
            conversation.warn("sampling.temperature", "1 is the most that Anthropic takes", ADJUSTED)
            value = 1
        if name == "temperature" and value == 1:
            continue  # the default, also of models that take no other
        if refusal := _why_not(name, value, body, accepts, thinks=thinks):
            conversation.warn(f"sampling.{name}", refusal)
        else:
            body[name] = value
    _add_stop_sequences(body, sampling, conversation)
    for name in ("seed", "frequency_penalty", "presence_penalty"):
        if sampling.HasField(name):
            conversation.warn(f"sampling.{name}", "Anthropic has no such setting")


def _why_not(name: str, value: float, body: Json, accepts: Profile, *, thinks: bool) -> str:
    """Why a sampling setting cannot be sent; empty where it can."""
    if accepts.sampling == "none":
        return "this model takes no sampling settings"
    if name == "top_p" and accepts.sampling == "one" and "temperature" in body:
        return "this model takes temperature or top_p, not both"
    if name == "top_p" and thinks and value < _LEAST_TOP_P_WHILE_THINKING:
        return f"not below {_LEAST_TOP_P_WHILE_THINKING} while the model thinks"
    if name != "top_p" and thinks:
        return "not possible while the model thinks"
    return ""


def _add_stop_sequences(body: Json, sampling: v1.Sampling, conversation: Conversation) -> None:
    stops = []
    for index, stop in enumerate(sampling.stop):
        if stop.isspace():
            conversation.warn(f"sampling.stop[{index}]", "Anthropic takes no blank stop sequence")
        else:
            stops.append(stop)
    if stops:
        body["stop_sequences"] = stops
