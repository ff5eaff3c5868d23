"""What providers' errors mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.core.errors import Reason
from outrider.providers.rejection import classify, classify_error

JSON_BODIES: dict[str, tuple[int, Any, Reason]] = {
    "OpenAI, wrong key": (
        401,
        {
            "error": {
                "message": "Incorrect API key",
                "type": "invalid_request_error",
                "code": "invalid_api_key",
            }
        },
        Reason.PROVIDER_CREDENTIALS_REFUSED,
    ),
    "OpenAI, too fast": (
        429,
        {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}},
        Reason.PROVIDER_RATE_LIMITED,
    ),
    "OpenAI, no quota": (
        429,
        {"error": {"message": "You exceeded", "type": "insufficient_quota", "code": "insufficient_quota"}},
        Reason.PROVIDER_QUOTA_SPENT,
    ),
    "OpenAI, spend limit of a project": (
        429,
        {"error": {"type": "insufficient_quota", "code": "project_spend_limit_exceeded"}},
        Reason.PROVIDER_QUOTA_SPENT,
    ),
    "OpenAI, no such model": (
        404,
        {"error": {"message": "The model `x` does not exist", "code": "model_not_found"}},
        Reason.MODEL_UNKNOWN,
    ),
    "OpenAI, model not for this project": (
        403,
        {"error": {"message": "Project has no access", "code": "model_not_found"}},
        Reason.MODEL_UNKNOWN,
    ),
    "OpenAI, country": (
        403,
        {"error": {"code": "unsupported_country_region_territory"}},
        Reason.PROVIDER_CREDENTIALS_REFUSED,
    ),
    "OpenAI, bad value": (
        400,
        {"error": {"message": "Invalid 'n'", "type": "invalid_request_error", "param": "n", "code": None}},
        Reason.INVALID_REQUEST,
    ),
    "OpenAI, context": (
        400,
        {"error": {"message": "Your input is too large", "code": "context_length_exceeded"}},
        Reason.CONTEXT_TOO_LONG,
    ),
    "OpenAI, too many output tokens is no long context": (
        400,
        {"error": {"message": "max_tokens is too large: 200000.", "type": "invalid_request_error"}},
        Reason.INVALID_REQUEST,
    ),
    "OpenAI, down": (500, {"error": {"message": "Sorry", "type": "server_error"}}, Reason.PROVIDER_ERROR),
    "Azure, filter": (
        400,
        {
            "error": {
                "message": "The response was filtered",
                "code": "content_filter",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        Reason.CONTENT_FILTERED,
    ),
    "Azure, no deployment": (404, {"error": {"code": "DeploymentNotFound"}}, Reason.MODEL_UNKNOWN),
    "Azure, status as code": (
        429,
        {"error": {"code": "429", "message": "Retry after 6 seconds"}},
        Reason.PROVIDER_RATE_LIMITED,
    ),
    "Azure, gateway": (
        401,
        {"statusCode": 401, "message": "Access denied due to invalid subscription key"},
        Reason.PROVIDER_CREDENTIALS_REFUSED,
    ),
    "Azure, context": (
        400,
        {"error": {"message": "This model's maximum context length is 8192 tokens.", "code": None}},
        Reason.CONTEXT_TOO_LONG,
    ),
    "Anthropic, context": (
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}},
        Reason.CONTEXT_TOO_LONG,
    ),
    "Anthropic, overloaded": (
        529,
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        Reason.PROVIDER_OVERLOADED,
    ),
    "Anthropic, overloaded behind another status": (
        503,
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        Reason.PROVIDER_OVERLOADED,
    ),
    "Anthropic, no credit": (
        400,
        {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access"}},
        Reason.PROVIDER_QUOTA_SPENT,
    ),
    "Anthropic, no such model": (
        404,
        {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-0"}},
        Reason.MODEL_UNKNOWN,
    ),
    "Anthropic, body too large": (
        413,
        {"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds 32 MB"}},
        Reason.INVALID_REQUEST,
    ),
    "Groq, context": (
        400,
        {"error": {"message": "Please reduce the length of the messages or completion."}},
        Reason.CONTEXT_TOO_LONG,
    ),
    "Groq, larger than the rate": (
        413,
        {"error": {"message": "Request too large", "type": "tokens", "code": "rate_limit_exceeded"}},
        Reason.PROVIDER_RATE_LIMITED,
    ),
    "Groq, flex capacity": (498, {"error": {"code": "capacity_exceeded"}}, Reason.PROVIDER_OVERLOADED),
    "Groq, the model called a tool wrongly": (
        400,
        {"error": {"type": "invalid_request_error", "code": "tool_use_failed", "failed_generation": "{"}},
        Reason.PROVIDER_ERROR,
    ),
    "Mistral, context": (
        400,
        {
            "object": "error",
            "message": "Prompt contains 9 tokens, too large for model with 8 maximum context length",
            "type": "invalid_request_prompt",
            "code": "3051",
        },
        Reason.CONTEXT_TOO_LONG,
    ),
    "Mistral, validation": (
        422,
        {"object": "error", "message": {"detail": [{"loc": ["body"], "msg": "missing"}]}},
        Reason.INVALID_REQUEST,
    ),
    "FastAPI, detail": (422, {"detail": [{"loc": ["body"], "msg": "missing"}]}, Reason.INVALID_REQUEST),
    "DeepSeek, no balance": (
        402,
        {"error": {"message": "Insufficient Balance"}},
        Reason.PROVIDER_QUOTA_SPENT,
    ),
    "xAI, error as a string": (
        400,
        {"code": "Client specified an invalid argument", "error": "This model's maximum prompt length is 8"},
        Reason.CONTEXT_TOO_LONG,
    ),
    "xAI, wrong key": (400, {"error": "Incorrect API key provided: x"}, Reason.PROVIDER_CREDENTIALS_REFUSED),
    "OpenRouter, what stands behind": (
        400,
        {
            "error": {
                "code": 400,
                "message": "Provider returned error",
                "metadata": {"raw": '{"error":{"message":"prompt is too long"}}'},
            }
        },
        Reason.CONTEXT_TOO_LONG,
    ),
    "Gemini, in an array": (
        429,
        [{"error": {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}}],
        Reason.PROVIDER_RATE_LIMITED,
    ),
    "Gemini, wrong key": (
        400,
        [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}],
        Reason.PROVIDER_CREDENTIALS_REFUSED,
    ),
    "request timeout": (408, {"error": {"message": "slow"}}, Reason.PROVIDER_ERROR),
    "conflict": (409, {}, Reason.PROVIDER_ERROR),
    "too early": (425, {}, Reason.PROVIDER_ERROR),
    "unavailable": (503, None, Reason.PROVIDER_ERROR),
    "redirect": (302, {}, Reason.PROVIDER_PROTOCOL_ERROR),
    "method not allowed": (405, {"detail": "Method Not Allowed"}, Reason.PROVIDER_PROTOCOL_ERROR),
    "no content": (204, {}, Reason.PROVIDER_PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("status", "body", "reason"), JSON_BODIES.values(), ids=JSON_BODIES.keys())
def test_json(status: int, body: Any, reason: Reason) -> None:
    """Each provider's errors are told apart: by status, then by code, then by the words of the message."""
    error = classify(status, {}, json.dumps(body).encode())
    assert error.reason is reason
    assert error.fact.upstream_status == status
    assert error.fact.message


OTHER_BODIES = {
    "HTML where the API would blame the request": (400, b"<html>x</html>", Reason.PROVIDER_PROTOCOL_ERROR),
    "HTML where the key would be blamed": (403, b" <!doctype html>", Reason.PROVIDER_PROTOCOL_ERROR),
    "HTML behind a gateway": (502, b"<html>Bad gateway</html>", Reason.PROVIDER_ERROR),
    "HTML with too many requests": (429, b"<html>Slow down</html>", Reason.PROVIDER_RATE_LIMITED),
    "a path that does not exist": (404, b"404 page not found", Reason.PROVIDER_PROTOCOL_ERROR),
    "nothing, not found": (404, b"", Reason.PROVIDER_PROTOCOL_ERROR),
    "nothing, key refused": (401, b"", Reason.PROVIDER_CREDENTIALS_REFUSED),
    "text that explains": (422, b"Failed to deserialize the JSON body", Reason.INVALID_REQUEST),
    "text that matches": (400, b"prompt is too long", Reason.CONTEXT_TOO_LONG),
    "bytes that are not text": (500, b"\xff\xfe\x00", Reason.PROVIDER_ERROR),
    "a lone surrogate": (400, rb'{"error": {"message": "bad \ud83d"}}', Reason.INVALID_REQUEST),
}


@pytest.mark.parametrize(("status", "body", "reason"), OTHER_BODIES.values(), ids=OTHER_BODIES.keys())
def test_other_bodies(status: int, body: bytes, reason: Reason) -> None:
    """Row 5: a page of a proxy does not blame caller or key, and text says what it says."""
    error = classify(status, {}, body)
    assert error.reason is reason
    error.fact.message.encode()


def test_retry_after() -> None:
    """Row 8: what the headers ask for is handed on."""
    assert classify(429, {"retry-after": "7"}, b"{}").fact.retry_after == 7
    assert classify(503, {"retry-after-ms": "700"}, b"{}").fact.retry_after == 0.7
    assert classify(429, {"retry-after": "soon"}, b"{}").fact.retry_after is None


def test_a_budget_that_frees_itself() -> None:
    """A 402 that says when to come back is a limit, not an empty account."""
    assert classify(402, {"retry-after": "7"}, b"{}").reason is Reason.PROVIDER_RATE_LIMITED


IN_GOOD_ANSWERS: dict[str, tuple[Any, Reason]] = {
    "a status as a number": ({"error": {"code": 502, "message": "gone"}}, Reason.PROVIDER_ERROR),
    "a status as a string": ({"error": {"code": "429"}}, Reason.PROVIDER_RATE_LIMITED),
    "a status beside a word": (
        {"error": {"type": "invalid_request_error", "status_code": 401}},
        Reason.PROVIDER_CREDENTIALS_REFUSED,
    ),
    "a number that is no status": ({"error": {"code": 1234, "message": "?"}}, Reason.PROVIDER_ERROR),
    "a boolean": ({"error": {"code": True}}, Reason.PROVIDER_ERROR),
    "overloaded": ({"type": "error", "error": {"type": "overloaded_error"}}, Reason.PROVIDER_OVERLOADED),
    "too fast": ({"error": {"type": "rate_limit_error"}}, Reason.PROVIDER_RATE_LIMITED),
    "the inner object": ({"type": "api_error", "message": "Internal"}, Reason.PROVIDER_ERROR),
    "bad request": ({"error": {"type": "invalid_request_error"}}, Reason.INVALID_REQUEST),
    "long context": (
        {"error": {"type": "invalid_request_error", "message": "prompt is too long"}},
        Reason.CONTEXT_TOO_LONG,
    ),
    "a string": ({"error": "overload"}, Reason.PROVIDER_ERROR),
    "a bare string": ("boom", Reason.PROVIDER_ERROR),
    "nothing": (None, Reason.PROVIDER_ERROR),
}


@pytest.mark.parametrize(("error", "reason"), IN_GOOD_ANSWERS.values(), ids=IN_GOOD_ANSWERS.keys())
def test_in_good_answers(error: Any, reason: Reason) -> None:
    """Row 4: an error under status 200 is told apart by what it holds."""
    classified = classify_error(error)
    assert classified.reason is reason
    assert classified.fact.upstream_status == 200


def test_messages_are_bounded_and_printable() -> None:
    """Row 18: a message of 20 KB is cut, and control characters do not reach a log or terminal."""
    message = classify(
        400, {}, json.dumps({"error": {"message": "\x1b[31m\r\n" + "x" * 20_000}}).encode()
    ).fact.message
    assert len(message) <= 500
    assert message.isprintable()
    assert message.startswith("[31m")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "type", "status", "detail", "metadata", "raw"]),
            inner,
        )
    ),
    max_leaves=8,
)


@given(st.integers(100, 599), JSON_VALUES.map(json.dumps).map(str.encode) | st.binary(max_size=50))
def test_anything(status: int, body: bytes) -> None:
    """Row 5: no body makes classifying fail, and every message can be sent on."""
    error = classify(status, {"retry-after": "1"}, body)
    error.fact.message.encode()
    assert error.fact.message.isprintable()
