"""What a provider's error means: the status first, then a structured code, then the words of its message.

Every JSON dialect names errors in its own way; the tables below hold them all, because compatible vendors and
gateways hand each other's errors on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from outrider.core.errors import GenerationError, Reason
from outrider.providers import lenient_json, retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

_ANYTHING: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_MAX_MESSAGE = 500  # characters
_MAX_SEARCHED = 4_000  # characters

_BY_STATUS = {
    400: Reason.INVALID_REQUEST,
    401: Reason.PROVIDER_CREDENTIALS_REFUSED,
    402: Reason.PROVIDER_QUOTA_SPENT,
    403: Reason.PROVIDER_CREDENTIALS_REFUSED,
    404: Reason.MODEL_UNKNOWN,
    408: Reason.PROVIDER_ERROR,
    409: Reason.PROVIDER_ERROR,
    413: Reason.INVALID_REQUEST,
    422: Reason.INVALID_REQUEST,
    424: Reason.PROVIDER_ERROR,
    425: Reason.PROVIDER_ERROR,
    429: Reason.PROVIDER_RATE_LIMITED,
    498: Reason.PROVIDER_OVERLOADED,  # https://console.groq.com/docs/flex-processing
    529: Reason.PROVIDER_OVERLOADED,  # https://docs.anthropic.com/en/api/errors
}

_BLAMING = (400, 403, 404, 422)
"""Statuses that also a proxy or a wrong base URL answers with; only the API itself may blame the request."""

_SPECIFIC = {
    "context_length_exceeded": Reason.CONTEXT_TOO_LONG,
    "exceed_context_size_error": Reason.CONTEXT_TOO_LONG,  # llama.cpp
    "string_above_max_length": Reason.CONTEXT_TOO_LONG,
    "content_filter": Reason.CONTENT_FILTERED,
    "content_policy_violation": Reason.CONTENT_FILTERED,
    "model_not_found": Reason.MODEL_UNKNOWN,
    "model_not_active": Reason.MODEL_UNKNOWN,
    "deploymentnotfound": Reason.MODEL_UNKNOWN,  # Azure
    "insufficient_quota": Reason.PROVIDER_QUOTA_SPENT,
    "billing_error": Reason.PROVIDER_QUOTA_SPENT,
    "billing_not_active": Reason.PROVIDER_QUOTA_SPENT,
    "billing_hard_limit_reached": Reason.PROVIDER_QUOTA_SPENT,
    "exceeded_current_quota_error": Reason.PROVIDER_QUOTA_SPENT,  # Moonshot
    "rate_limit_exceeded": Reason.PROVIDER_RATE_LIMITED,
    "rate_limit_error": Reason.PROVIDER_RATE_LIMITED,
    "overloaded_error": Reason.PROVIDER_OVERLOADED,
    "engine_overloaded_error": Reason.PROVIDER_OVERLOADED,  # Moonshot
    # The model, not the request, is at fault: https://console.groq.com/docs/tool-use, under error handling
    "tool_use_failed": Reason.PROVIDER_ERROR,
    "json_validate_failed": Reason.PROVIDER_ERROR,
    "invalid_api_key": Reason.PROVIDER_CREDENTIALS_REFUSED,
    "authentication_error": Reason.PROVIDER_CREDENTIALS_REFUSED,
}
"""Codes and types that say more than any status."""

_GENERAL = {
    "invalid_request_error": Reason.INVALID_REQUEST,
    "request_too_large": Reason.INVALID_REQUEST,
    "invalid_argument": Reason.INVALID_REQUEST,
    "not_found_error": Reason.MODEL_UNKNOWN,
    "not_found": Reason.MODEL_UNKNOWN,
    "permission_error": Reason.PROVIDER_CREDENTIALS_REFUSED,
    "permission_denied": Reason.PROVIDER_CREDENTIALS_REFUSED,
    "unauthenticated": Reason.PROVIDER_CREDENTIALS_REFUSED,
    "resource_exhausted": Reason.PROVIDER_RATE_LIMITED,
}
"""Codes and types that stand in for a status where the answer had none of its own."""

_BY_MESSAGE = (
    ("maximum context length", Reason.CONTEXT_TOO_LONG),  # OpenAI, Azure, Mistral, vLLM, OpenRouter
    ("context window", Reason.CONTEXT_TOO_LONG),  # OpenAI's newer wording, MiniMax
    ("prompt is too long", Reason.CONTEXT_TOO_LONG),  # Anthropic
    ("exceed context limit", Reason.CONTEXT_TOO_LONG),  # Anthropic, input and max_tokens together
    ("reduce the length of the messages", Reason.CONTEXT_TOO_LONG),  # Groq
    ("available context size", Reason.CONTEXT_TOO_LONG),  # llama.cpp
    ("maximum prompt length", Reason.CONTEXT_TOO_LONG),  # xAI
    ("exceeds the maximum number of tokens", Reason.CONTEXT_TOO_LONG),  # Gemini
    ("input is too long", Reason.CONTEXT_TOO_LONG),  # Bedrock
    ("too many tokens", Reason.CONTEXT_TOO_LONG),  # Cohere
    ("exceeded model token limit", Reason.CONTEXT_TOO_LONG),  # Moonshot
    ("credit balance is too low", Reason.PROVIDER_QUOTA_SPENT),  # Anthropic
    ("content filtering policy", Reason.CONTENT_FILTERED),  # Anthropic
    ("content management policy", Reason.CONTENT_FILTERED),  # Azure
    ("content exists risk", Reason.CONTENT_FILTERED),  # DeepSeek
    ("api key not valid", Reason.PROVIDER_CREDENTIALS_REFUSED),  # Gemini
    ("incorrect api key", Reason.PROVIDER_CREDENTIALS_REFUSED),  # xAI
)
"""Words that tell apart what providers answer with a plain INVALID_REQUEST; matched in lower case."""


class _Said(NamedTuple):
    message: str
    codes: tuple[str, ...]  # in lower case
    status: int  # 0: none inside the error


def classify(status: int, headers: Mapping[str, str], body: bytes) -> GenerationError:
    """What an answer with a status other than 200 means. Never raises.

    The message is the provider's own, bounded and printable; the caller removes keys from it.
    """
    wait = retry_after.parse(headers, time.time())
    try:
        answer = lenient_json.decode(_ANYTHING, body)
    except GenerationError as unreadable:
        html = body.lstrip().startswith(b"<")
        if body.strip() and not html and status != 404:
            return classify_error(body[:_MAX_SEARCHED].decode("utf-8", "replace"), status, wait)
        reason = _by_status(status, wait)
        if status == 404 or (html and status in _BLAMING):
            reason = Reason.PROVIDER_PROTOCOL_ERROR
        message = f"HTTP {status}: {unreadable.fact.message}"
        return GenerationError(reason, message, upstream_status=status, retry_after=wait)
    return classify_error(answer, status, wait)


def classify_error(error: object, status: int = 200, wait: float | None = None) -> GenerationError:
    """What an error object means, whether it is the body of a `status` or stands inside a good answer.

    `error` is any JSON value: the error itself, or the answer that holds it. `wait` is in seconds.
    Never raises.
    """
    said = _read(error)
    words = said.message or " ".join(said.codes)
    message = _printable(words) or f"HTTP {status}, no reason given"
    return GenerationError(_reason(said, status, wait), message, upstream_status=status, retry_after=wait)


def _reason(said: _Said, status: int, wait: float | None) -> Reason:
    for code in said.codes:
        if code in _SPECIFIC:
            return _SPECIFIC[code]
    if status == 200:
        reason = _by_status(said.status, wait) if said.status else _general(said.codes)
    else:
        reason = _by_status(status, wait)
    if reason in (Reason.INVALID_REQUEST, Reason.PROVIDER_ERROR):
        words = said.message[:_MAX_SEARCHED].lower()
        return next((found for pattern, found in _BY_MESSAGE if pattern in words), reason)
    return reason


def _by_status(status: int, wait: float | None) -> Reason:
    if status == 402 and wait is not None:
        # OpenRouter's spending budget frees itself: https://openrouter.ai/docs/api/reference/errors-and-debugging
        return Reason.PROVIDER_RATE_LIMITED
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Reason.PROVIDER_ERROR if 500 <= status <= 599 else Reason.PROVIDER_PROTOCOL_ERROR


def _general(codes: tuple[str, ...]) -> Reason:
    return next((_GENERAL[code] for code in codes if code in _GENERAL), Reason.PROVIDER_ERROR)


def _read(answer: object) -> _Said:
    """Find message, codes and status, however deep the error is wrapped."""
    if isinstance(answer, list) and answer:  # Gemini's compatible endpoint
        answer = answer[0]
    while isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        answer = answer["error"]
    if not isinstance(answer, dict):
        return _Said(_text(answer), (), 0)
    message = next((answer[key] for key in ("message", "error", "detail", "errors") if answer.get(key)), "")
    metadata = answer.get("metadata")
    if isinstance(metadata, dict) and metadata.get("raw"):  # OpenRouter: what the vendor behind it said
        message = f"{_text(message)}: {_text(metadata['raw'])}"
    fields = [answer.get(key) for key in ("code", "type", "status", "status_code")]
    codes = tuple(field.lower() for field in fields if isinstance(field, str))
    return _Said(_text(message), codes, next((found for field in fields if (found := _status(field))), 0))


def _status(field: object) -> int:
    """The HTTP status that a code is, 0 where it is none."""
    if isinstance(field, str) and len(field) == 3 and field.isdecimal():
        field = int(field)
    return field if isinstance(field, int) and 400 <= field <= 599 else 0


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode("utf-8", "replace")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_MESSAGE]).strip()
