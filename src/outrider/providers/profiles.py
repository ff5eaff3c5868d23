"""OpenAI-compatible vendors as data: what each accepts and sends. A new vendor is a new row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from outrider.providers.openai_models import GROQ_MODELS, OPENAI_MODELS, Family


@dataclass(frozen=True, slots=True)
class Profile:
    """What a vendor accepts and sends, where vendors differ."""

    name: str
    max_tokens_field: str = "max_tokens"
    top_k: bool = False
    penalties: bool = True
    participant_names: bool = True
    """Whether messages may say which of several participants speaks."""
    asks_for_stream_usage: bool = True
    """Whether usage comes in a stream only if asked for."""
    done_marker: bool = True
    """Whether a stream ends with `data: [DONE]`; without it, a finish reason and the body's end must do."""
    reasoning_field: str = ""
    """Field of an assistant message that takes back its reasoning. Empty: the vendor takes none."""
    signatures: bool = False
    """Whether `reasoning_details` and thought signatures are taken back."""
    signer: str = ""
    """Who signs them: what others have signed is not taken back."""
    families: tuple[Family, ...] = ()
    """Models that reason, first match wins; any other model takes every setting but an effort."""
    path: str = "chat/completions"
    models_path: str = "models"


OPENAI: Final = Profile(
    name="openai",
    max_tokens_field="max_completion_tokens",
    families=OPENAI_MODELS,
)

# From https://console.groq.com/docs/openai and the parameter docs of the official client.
GROQ: Final = Profile(
    name="groq",
    max_tokens_field="max_completion_tokens",
    penalties=False,
    participant_names=False,
    asks_for_stream_usage=False,
    reasoning_field="reasoning",
    families=GROQ_MODELS,
)

COMPATIBLE: Final = Profile(
    name="compatible",
    top_k=True,
    reasoning_field="reasoning_content",
    signatures=True,
    families=(Family(("",), ("none", "minimal", "low", "medium", "high")),),
)

PROFILES: Final = {profile.name: profile for profile in (OPENAI, GROQ, COMPATIBLE)}
