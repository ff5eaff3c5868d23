"""The wire format of Chat Completions: OpenAI's, and that of the many vendors who took it over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import WireRequest
from outrider.providers import rejection
from outrider.providers.openai_decode import StreamDecoder, UnaryDecoder
from outrider.providers.openai_encode import encode_generate
from outrider.providers.openai_wire import FORMAT
from outrider.providers.profiles import OPENAI, Profile
from outrider.providers.sniffing import SniffingDecoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outrider import v1
    from outrider.core.ports import Call, Decoder

_HEADERS: Final = {"content-type": "application/json"}


class OpenAIFormat:
    """Speaks the dialect of one vendor, which its profile describes."""

    name = FORMAT

    def __init__(self, profile: Profile = OPENAI) -> None:
        self._profile = profile

    def encode(self, call: Call) -> WireRequest:
        """The HTTP request; warns of settings that it leaves out. Raises GenerationError."""
        body = encode_generate(call, self._profile)
        return WireRequest(self._profile.path, body, _HEADERS, call.connect_timeout)

    def decoder(self, call: Call, content_type: str) -> Decoder:
        """By what comes rather than by what was asked for."""
        profile = self._profile
        return SniffingDecoder(
            content_type,
            call.streaming,
            stream=lambda: StreamDecoder(call.progress, profile.signer, done_marker=profile.done_marker),
            whole=lambda: UnaryDecoder(call.progress, profile.signer),
        )

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> GenerationError:
        """What an answer with another status means."""
        return rejection.classify(status, headers, body)

    def encode_count(self, request: v1.GenerateRequest, model: str) -> WireRequest | None:
        """Chat Completions has no token-counting call."""
        return None

    def decode_count(self, body: bytes) -> int:
        """Never called, as there is no call to answer."""
        raise GenerationError(Reason.INTERNAL, "Chat Completions has no token-counting call")

    def encode_check(self) -> WireRequest:
        """The list of models, which costs no tokens and needs the key."""
        return WireRequest(self._profile.models_path, None)
