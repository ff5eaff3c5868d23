"""The wire format of Anthropic's Messages API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outrider.core.ports import WireRequest
from outrider.providers import lenient_json, rejection
from outrider.providers.anthropic_content import FORMAT
from outrider.providers.anthropic_decode import MessageDecoder, StreamDecoder
from outrider.providers.anthropic_encode import encode_count, encode_generate
from outrider.providers.anthropic_wire import COUNT
from outrider.providers.sniffing import SniffingDecoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outrider import v1
    from outrider.core.errors import GenerationError
    from outrider.core.ports import Call, Decoder

# Version 2026-10-21 refuses temperature, top_p and top_k even on models that take them:
# https://platform.claude.com/docs/en/api/migration-2026-10-21
_VERSION: Final = {"anthropic-version": "2023-06-01"}
_HEADERS: Final = {**_VERSION, "content-type": "application/json"}


class AnthropicFormat:
    """Speaks Anthropic's dialect. The API asks for a limit of output tokens; where a request sets none, the
    answer may have `default_max_tokens` besides its thinking, as far as the model goes. Thinking is marked as
    signed by `signer`, and what others have signed is not sent.
    """

    name = FORMAT

    def __init__(self, default_max_tokens: int = 8_192, signer: str = "") -> None:
        self._default_max_tokens = default_max_tokens
        self._signer = signer

    def encode(self, call: Call) -> WireRequest:
        """The HTTP request; warns of settings that it leaves out. Raises GenerationError."""
        body = encode_generate(call, self._default_max_tokens, self._signer)
        return WireRequest("v1/messages", body, _HEADERS, call.connect_timeout)

    def decoder(self, call: Call, content_type: str) -> Decoder:
        """By what comes rather than by what was asked for."""
        return SniffingDecoder(
            content_type,
            call.streaming,
            stream=lambda: StreamDecoder(call.progress, self._signer),
            whole=lambda: MessageDecoder(call.progress, self._signer),
        )

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> GenerationError:
        """What an answer with another status means."""
        return rejection.classify(status, headers, body)

    def encode_count(self, request: v1.GenerateRequest, model: str) -> WireRequest | None:
        """The provider's own token-counting call. Raises GenerationError."""
        body = encode_count(request, model, self._default_max_tokens, self._signer)
        return WireRequest("v1/messages/count_tokens", body, _HEADERS)

    def decode_count(self, body: bytes) -> int:
        """Its answer: input tokens. Raises GenerationError."""
        return lenient_json.decode(COUNT, body).input_tokens

    def encode_check(self) -> WireRequest:
        """A list of one model, which costs no tokens."""
        return WireRequest("v1/models?limit=1", None, _VERSION)
