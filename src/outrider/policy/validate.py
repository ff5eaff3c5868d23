"""What every request must satisfy, whichever provider answers it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from outrider import v1
from outrider.core.errors import GenerationError, Reason, Violation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Handler

_MAX_BYTES = 256  # of identifiers and attribution
_MAX_LABELS = 16
_MAX_STOPS = 16
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

_ONLY_FROM = {
    "tool_call": v1.ROLE_ASSISTANT,
    "reasoning": v1.ROLE_ASSISTANT,
    "opaque": v1.ROLE_ASSISTANT,
    "tool_result": v1.ROLE_TOOL,
}
_RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
}


def validate(inner: Handler) -> Handler:
    """The stage that refuses requests which no provider could answer."""

    def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
        check_request(context.request)
        return inner(context)

    return handle


def check_request(request: v1.GenerateRequest) -> None:
    """Raise GenerationError INVALID_REQUEST that names every field that is wrong."""
    violations = [*_messages(request)]
    # Most requests have none of these: asking is cheaper than looking.
    if request.tools or request.HasField("tool_choice"):
        violations += _tools(request)
    if request.HasField("sampling"):
        violations += _sampling(request.sampling)
    if request.HasField("response_format"):
        violations += _response_format(request.response_format)
    if request.HasField("attribution"):
        violations += _attribution(request.attribution)
    if _too_long(request.idempotency_key):
        violations.append(Violation("idempotency_key", f"at most {_MAX_BYTES} bytes"))
    if violations:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        message = f"{first.field}: {first.description}{more}"
        raise GenerationError(Reason.INVALID_REQUEST, message, violations=violations)


def _messages(request: v1.GenerateRequest) -> Iterator[Violation]:
    if not request.messages:
        yield Violation("messages", "at least one message is needed")
        return
    for index, message in enumerate(request.messages):
        path = f"messages[{index}]"
        role = message.role
        if role not in _ROLES:
            yield Violation(f"{path}.role", "set one of ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL")
            continue
        if not message.parts and role != v1.ROLE_ASSISTANT:
            yield Violation(f"{path}.parts", "at least one part is needed")
        for position, part in enumerate(message.parts):
            kind = part.WhichOneof("content")
            if kind != "text" or role == v1.ROLE_TOOL:
                yield from _part(part, kind, role, f"{path}.parts[{position}]")
    if all(message.role == v1.ROLE_SYSTEM for message in request.messages):
        yield Violation("messages", "a message other than ROLE_SYSTEM is needed")


def _part(part: v1.Part, kind: str | None, role: v1.Role, path: str) -> Iterator[Violation]:
    if kind is None:
        yield Violation(path, "set exactly one kind of content")
        return
    needed = _ONLY_FROM.get(kind, role)
    if needed != role or (role == v1.ROLE_TOOL and kind != "tool_result"):
        expected = v1.Role.Name(needed if needed != role else v1.ROLE_USER)
        yield Violation(f"{path}.{kind}", f"belongs in a message of {expected}")
    elif kind in ("image", "audio", "file"):
        media: v1.Media = getattr(part, kind)
        if media.WhichOneof("source") is None:
            yield Violation(f"{path}.{kind}", "set `data` or `uri`")
        elif media.HasField("data") and "/" not in media.mime_type:
            yield Violation(f"{path}.{kind}.mime_type", "needed with `data`, such as 'image/png'")
    elif kind == "tool_call":
        if not part.tool_call.name or not part.tool_call.id:
            yield Violation(f"{path}.tool_call", "`id` and `name` are needed")
        elif not _is_object(part.tool_call.arguments_json or "{}"):
            yield Violation(f"{path}.tool_call.arguments_json", "must be a JSON object")
    elif kind == "tool_result" and not part.tool_result.tool_call_id:
        yield Violation(f"{path}.tool_result.tool_call_id", "names the call that it answers")


def _tools(request: v1.GenerateRequest) -> Iterator[Violation]:
    names: set[str] = set()
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        if not _NAME.fullmatch(tool.name):
            yield Violation(f"{path}.name", "letters, digits, '_' and '-', at most 64")
        if tool.name in names:
            yield Violation(f"{path}.name", "is used twice")
        names.add(tool.name)
        if tool.parameters_json_schema and not _is_object(tool.parameters_json_schema):
            yield Violation(f"{path}.parameters_json_schema", "must be a JSON Schema, a JSON object")
    choice = request.tool_choice
    if choice.mode == v1.ToolChoice.MODE_NAMED and choice.name not in names:
        yield Violation("tool_choice.name", "must be the name of one of `tools`")
    if choice.mode == v1.ToolChoice.MODE_REQUIRED and not names:
        yield Violation("tool_choice.mode", "MODE_REQUIRED needs `tools`")


def _sampling(sampling: v1.Sampling) -> Iterator[Violation]:
    for field, value in sampling.ListFields():
        bounds = _RANGES.get(field.name)
        # Written so that NaN is out of bounds.
        if bounds is not None and not bounds[0] <= value <= bounds[1]:
            yield Violation(f"sampling.{field.name}", f"must be from {bounds[0]:g} to {bounds[1]:g}")
    if sampling.HasField("top_p") and sampling.top_p == 0:
        yield Violation("sampling.top_p", "must be above 0")
    for name in ("top_k", "max_output_tokens"):
        if sampling.HasField(name) and getattr(sampling, name) == 0:
            yield Violation(f"sampling.{name}", "must be at least 1")
    if len(sampling.stop) > _MAX_STOPS or not all(sampling.stop):
        yield Violation("sampling.stop", f"at most {_MAX_STOPS}, none empty")


def _response_format(response_format: v1.ResponseFormat) -> Iterator[Violation]:
    if response_format.WhichOneof("format") != "json_schema":
        return
    schema = response_format.json_schema
    if schema.name and not _NAME.fullmatch(schema.name):
        yield Violation("response_format.json_schema.name", "letters, digits, '_' and '-', at most 64")
    if not _is_object(schema.json_schema):
        yield Violation("response_format.json_schema.json_schema", "must be a JSON Schema, a JSON object")


def _attribution(attribution: v1.Attribution) -> Iterator[Violation]:
    values = {name: getattr(attribution, name) for name in ("tenant", "project", "agent", "user")}
    for name, value in values.items():
        if _too_long(value):
            yield Violation(f"attribution.{name}", f"at most {_MAX_BYTES} bytes")
    labels = attribution.labels
    if len(labels) > _MAX_LABELS or any(_too_long(k) or _too_long(v) for k, v in labels.items()):
        yield Violation("attribution.labels", f"at most {_MAX_LABELS}, each at most {_MAX_BYTES} bytes")


_ROLES = frozenset({v1.ROLE_SYSTEM, v1.ROLE_USER, v1.ROLE_ASSISTANT, v1.ROLE_TOOL})


def _too_long(text: str) -> bool:
    return len(text.encode()) > _MAX_BYTES


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False
