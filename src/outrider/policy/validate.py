"""What every request must satisfy, whichever provider answers it."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from outrider import v1
from outrider.core.errors import GenerationError, Reason, Violation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Handler

_MAX_BYTES = 256  # of names, identifiers and attribution
_MAX_LABELS = 16
_MAX_STOPS = 16
_MAX_FALLBACKS = 16
_MAX_TOOLS = 10_000
# Of messages and parts together. A message may take two bytes, so that 64 MB of them would hold the loop for
# a minute. Anthropic takes as many: https://platform.claude.com/docs/en/api/messages/create, `messages`.
_MAX_PARTS = 100_000
_TOO_MANY = Violation("messages", f"at most {_MAX_PARTS}, their parts included")
_MAX_VIOLATIONS = 100
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

_ONLY_FROM = {
    "tool_call": v1.ROLE_ASSISTANT,
    "reasoning": v1.ROLE_ASSISTANT,
    "opaque": v1.ROLE_ASSISTANT,
    "tool_result": v1.ROLE_TOOL,
}
_MEDIA = ("image", "audio", "file")
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
    """Raise GenerationError INVALID_REQUEST that names the fields that are wrong, up to 100 of them."""
    _refuse(_violations(request))


def check_attribution(attribution: v1.Attribution) -> None:
    """Raise GenerationError INVALID_REQUEST that names the fields of an attribution that are wrong."""
    _refuse(_attribution(attribution))


def _refuse(found: Iterator[Violation]) -> None:
    violations = list(islice(found, _MAX_VIOLATIONS))
    if violations:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        message = f"{first.field}: {first.description}{more}"
        raise GenerationError(Reason.INVALID_REQUEST, message, violations=violations)


def _violations(request: v1.GenerateRequest) -> Iterator[Violation]:
    yield from _messages(request)
    # Most requests have none of these: asking is cheaper than looking.
    if request.tools or request.HasField("tool_choice"):
        yield from _tools(request)
    if request.HasField("sampling"):
        yield from _sampling(request.sampling)
    if request.HasField("response_format"):
        yield from _response_format(request.response_format)
    if request.HasField("attribution"):
        yield from _attribution(request.attribution)
    if request.HasField("fallback"):
        yield from _fallback(request.fallback)
    if _too_long(request.model):
        yield Violation("model", f"at most {_MAX_BYTES} bytes")
    if _too_long(request.idempotency_key):
        yield Violation("idempotency_key", f"at most {_MAX_BYTES} bytes")
    if _too_long(request.sticky_key):
        yield Violation("sticky_key", f"at most {_MAX_BYTES} bytes")


def _messages(request: v1.GenerateRequest) -> Iterator[Violation]:
    if not request.messages:
        yield Violation("messages", "at least one message is needed")
        return
    room = _MAX_PARTS - len(request.messages)
    for index, message in enumerate(request.messages):
        path = f"messages[{index}]"
        room -= len(message.parts)
        if room < 0:
            yield _TOO_MANY
            return
        role = message.role
        if role not in _ROLES:
            yield Violation(f"{path}.role", "set one of ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL")
            continue
        if not message.parts and role != v1.ROLE_ASSISTANT:
            yield Violation(f"{path}.parts", "at least one part is needed")
        for position, part in enumerate(message.parts):
            kind = part.WhichOneof("content")
            if kind == "tool_result":
                room -= len(part.tool_result.parts)
                if room < 0:
                    yield _TOO_MANY
                    return
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
    elif kind in _MEDIA:
        yield from _media(getattr(part, kind), f"{path}.{kind}")
    elif kind == "tool_call":
        if not part.tool_call.name or not part.tool_call.id:
            yield Violation(f"{path}.tool_call", "`id` and `name` are needed")
        elif not _is_object(part.tool_call.arguments_json or "{}"):
            yield Violation(f"{path}.tool_call.arguments_json", "must be a JSON object")
    elif kind == "tool_result":
        yield from _tool_result(part.tool_result, f"{path}.tool_result")


def _media(media: v1.Media, path: str) -> Iterator[Violation]:
    if media.WhichOneof("source") is None:
        yield Violation(path, "set `data` or `uri`")
    elif media.HasField("data") and "/" not in media.mime_type:
        yield Violation(f"{path}.mime_type", "needed with `data`, such as 'image/png'")


def _tool_result(result: v1.ToolResult, path: str) -> Iterator[Violation]:
    if not result.tool_call_id:
        yield Violation(f"{path}.tool_call_id", "names the call that it answers")
    for index, part in enumerate(result.parts):
        kind = part.WhichOneof("content")
        if kind in _MEDIA:
            yield from _media(getattr(part, kind), f"{path}.parts[{index}].{kind}")
        elif kind != "text":
            yield Violation(f"{path}.parts[{index}]", "must be text, an image, a sound or a file")


def _tools(request: v1.GenerateRequest) -> Iterator[Violation]:
    if len(request.tools) > _MAX_TOOLS:
        yield Violation("tools", f"at most {_MAX_TOOLS}")
        return
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


def _fallback(fallback: v1.FallbackOptions) -> Iterator[Violation]:
    if len(fallback.models) > _MAX_FALLBACKS or any(map(_too_long, fallback.models)):
        yield Violation("fallback.models", f"at most {_MAX_FALLBACKS}, each at most {_MAX_BYTES} bytes")


_ROLES = frozenset({v1.ROLE_SYSTEM, v1.ROLE_USER, v1.ROLE_ASSISTANT, v1.ROLE_TOOL})


def _too_long(text: str) -> bool:
    return 4 * len(text) > _MAX_BYTES and len(text.encode()) > _MAX_BYTES


class _Object(msgspec.Struct):
    """Any JSON object: what it holds is checked and skipped, never built."""


_OBJECT = msgspec.json.Decoder(_Object)


def _is_object(text: str) -> bool:
    try:
        _OBJECT.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
