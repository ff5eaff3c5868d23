"""The models of the simulated provider: each is a way to make a script out of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.providers.simulated_failures import FAILURES
from outrider.providers.simulated_json import sample
from outrider.providers.simulated_script import CallTool, Fail, Finish, Say, Step, Think, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

STALL_SECONDS: Final = 3600.0
"""How long a stalled answer is silent; every timeout is shorter."""

MIDWAY: Final = "_midway"
"""Appended to a kind of failure: it happens after half of the answer."""

FLAKY: Final = "flaky"
"""A model that is overloaded at every other try."""

_FORCED: Final = (v1.ToolChoice.MODE_REQUIRED, v1.ToolChoice.MODE_NAMED)

# The failures that are no errors of the provider's, but scripts.
_OTHER_FAILURES: Final[dict[str, tuple[Step, ...]]] = {
    "stalled": (Wait(STALL_SECONDS), Fail("truncated")),
    "content_filter": (Finish("content_filter"),),
}
FAILURE_KINDS: Final = (*FAILURES, *_OTHER_FAILURES)
"""Every kind of failure."""


def _echo(request: v1.GenerateRequest) -> tuple[Step, ...]:
    kind = request.response_format.WhichOneof("format")
    if request.tool_choice.mode in _FORCED:
        return _tool(request)
    if kind == "json_schema":
        return (Say(sample(request.response_format.json_schema.json_schema)),)
    text = _last_text(request)
    return (Say(msgspec.json.encode({"echo": text}).decode() if kind == "json_object" else text),)


def _reason(request: v1.GenerateRequest) -> tuple[Step, ...]:
    return (Think("The caller wants to hear the last message again."), *_echo(request))


def _slow(request: v1.GenerateRequest) -> list[Step]:
    first, *others = _last_text(request).split(" ")
    steps: list[Step] = [Wait(2.0), Say(first)]
    for word in others:
        steps += (Wait(0.2), Say(f" {word}"))
    return steps


def _tool(request: v1.GenerateRequest) -> tuple[Step, ...]:
    """Call the tool that is chosen, or the first one; answer in words once its result is there."""
    is_answered = bool(request.messages) and request.messages[-1].role == v1.ROLE_TOOL
    if not request.tools or is_answered:
        return (Say(_last_text(request)),)
    named = {tool.name: tool for tool in request.tools}
    tool = named.get(request.tool_choice.name, request.tools[0])
    return (CallTool(tool.name, sample(tool.parameters_json_schema)),)


def _last_text(request: v1.GenerateRequest) -> str:
    return _text(request.messages[-1].parts) if request.messages else ""


def _text(parts: Iterable[v1.Part]) -> str:
    return "".join(part.text or _text(part.tool_result.parts) for part in parts)


MODELS: Final[dict[str, Callable[[v1.GenerateRequest], Sequence[Step]]]] = {
    "echo": _echo,
    "reason": _reason,
    "tool": _tool,
    "slow": _slow,
}


def plan(model: str, request: v1.GenerateRequest) -> Sequence[Step]:
    """The script with which a model answers. Raises GenerationError, MODEL_UNKNOWN among others."""
    name = model.replace("-", "_")
    answer = MODELS.get(name)
    steps = _failure(name, request) if answer is None else answer(request)
    if steps is None:
        known = ", ".join((*MODELS, FLAKY, *FAILURE_KINDS))
        raise GenerationError(Reason.MODEL_UNKNOWN, f"simulated: no model {model!r}; there are: {known}")
    return steps


def _failure(kind: str, request: v1.GenerateRequest) -> tuple[Step, ...] | None:
    """The script of a failure; None for a kind that is not known."""
    name = kind.removesuffix(MIDWAY)
    steps = (Fail(name),) if name in FAILURES else _OTHER_FAILURES.get(name)
    if steps is None or name == kind:
        return steps
    text = _last_text(request)
    return (Say(text[: (len(text) + 1) // 2]), *steps)
