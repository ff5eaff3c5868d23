"""Requests, and the bodies of Chat Completions that they become."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from outrider.core.errors import GenerationError, Reason
from outrider.providers.openai_format import OpenAIFormat
from outrider.providers.profiles import OPENAI
from tests.providers.openai_answers import call

if TYPE_CHECKING:
    from outrider import v1
    from outrider.providers.profiles import Profile


def encode(
    request: v1.GenerateRequest, profile: Profile = OPENAI, model: str = "gpt-4o", *, streaming: bool = False
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The body, and the code and field of each warning."""
    attempt = call(request, model, streaming=streaming)
    wire = OpenAIFormat(profile).encode(attempt)
    assert wire.path == "chat/completions"
    assert wire.headers["content-type"] == "application/json"
    assert wire.body is not None
    return json.loads(wire.body), [(warning.code, warning.field) for warning in attempt.warnings]


def refused(request: v1.GenerateRequest) -> list[str]:
    """The fields that a request is refused for."""
    with pytest.raises(GenerationError) as raised:
        OpenAIFormat().encode(call(request))
    assert raised.value.reason is Reason.INVALID_REQUEST
    assert all(violation.description for violation in raised.value.fact.violations)
    return [violation.field for violation in raised.value.fact.violations]


def unsupported(*fields: str) -> list[tuple[str, str]]:
    return [("SETTING_NOT_SUPPORTED", field) for field in fields]
