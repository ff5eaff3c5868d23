"""Requests in short, and what is sent to Anthropic for them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import text_format

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.providers.anthropic_format import AnthropicFormat
from tests.providers.anthropic_answers import call

BUDGET_MODEL = "claude-sonnet-4-5"
ADAPTIVE_MODEL = "claude-opus-4-8"


def request(text: str) -> v1.GenerateRequest:
    """A request in protobuf's text form; without messages, a user says "Hi"."""
    parsed = text_format.Parse(text, v1.GenerateRequest())
    if not parsed.messages:
        parsed.messages.append(user("Hi"))
    return parsed


def user(text: str) -> v1.Message:
    return v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=text)])


def encode(
    asked: v1.GenerateRequest | str, model: str = BUDGET_MODEL, *, streaming: bool = False
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The body that is sent, and code and field of each warning."""
    attempt = call(request(asked) if isinstance(asked, str) else asked, model, streaming=streaming)
    sent = AnthropicFormat().encode(attempt)
    assert sent.body is not None
    return json.loads(sent.body), [(warning.code, warning.field) for warning in attempt.warnings]


def refused(asked: v1.GenerateRequest | str) -> list[str]:
    """The fields that are wrong."""
    with pytest.raises(GenerationError) as raised:
        encode(asked)
    assert raised.value.reason == Reason.INVALID_REQUEST
    violations = raised.value.fact.violations
    assert all(violation.description for violation in violations)
    return [violation.field for violation in violations]


def blocks(*parts: v1.Part, role: v1.Role = v1.ROLE_USER) -> list[dict[str, Any]]:
    """The content blocks of one message."""
    body, warnings = encode(v1.GenerateRequest(messages=[v1.Message(role=role, parts=parts)]))
    assert not warnings
    [turn] = body["messages"]
    return list(turn["content"])
