"""What each Claude model accepts, as data: the API answers 400 to a setting that a model does not take.

Read on 2026-11-20 in the migration guide of each model (https://platform.claude.com/docs/en/models), in
https://platform.claude.com/docs/en/build-with-claude/thinking and in
https://platform.claude.com/docs/en/build-with-claude/effort.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Profile:
    """What a model accepts. The defaults are those of the newest models, and of Claude models yet unknown."""

    max_output_tokens: int = 128_000
    budget: bool = False
    """Whether thinking may be given a budget of tokens."""
    adaptive: bool = True
    """Whether the model chooses by itself how much to think, guided by an effort."""
    thinking_off: Literal["unset", "disabled", "between_tools", "never"] = "never"
    """How to turn thinking off: by not asking for it, by this `thinking.type`, or not at all."""
    sampling: Literal["both", "one", "none"] = "none"
    """Temperature and top_p together, only one of them, or no sampling setting at all."""
    forced_tools: bool = False
    """Whether a tool call can be forced."""
    json_schema: bool = True
    """Whether answers can be held to a JSON schema."""


_CLAUDE_3: Final = Profile(
    max_output_tokens=4_096,
    adaptive=False,
    thinking_off="unset",
    sampling="both",
    forced_tools=True,
    json_schema=False,
)
_CLAUDE_3_5: Final = replace(_CLAUDE_3, max_output_tokens=8_192)
_CLAUDE_3_7: Final = replace(_CLAUDE_3, max_output_tokens=64_000, budget=True)
_OPUS_4: Final = replace(_CLAUDE_3_7, max_output_tokens=32_000)
_OPUS_4_1: Final = replace(_OPUS_4, sampling="one", json_schema=True)
_CLAUDE_4_5: Final = replace(_OPUS_4_1, max_output_tokens=64_000)
_CLAUDE_4_6: Final = replace(_CLAUDE_4_5, max_output_tokens=128_000, adaptive=True)
_CLAUDE_4_7: Final = replace(_CLAUDE_4_6, budget=False, sampling="none")
_CLAUDE_5: Final = replace(_CLAUDE_4_7, thinking_off="disabled")
_FABLE_5: Final = replace(_CLAUDE_5, thinking_off="never")
_NEWEST: Final = Profile()

_BY_NAME: Final = {
    "3-": _CLAUDE_3,
    "3-5-": _CLAUDE_3_5,
    "3-7-": _CLAUDE_3_7,
    "opus-4": _OPUS_4,
    "opus-4-1": _OPUS_4_1,
    "opus-4-5": _CLAUDE_4_5,
    "opus-4-6": _CLAUDE_4_6,
    "opus-4-7": _CLAUDE_4_7,
    "opus-4-8": _CLAUDE_4_7,
    "opus-5": _CLAUDE_5,
    "opus-5-5": _NEWEST,
    "sonnet-4": _CLAUDE_3_7,
    "sonnet-4-5": _CLAUDE_4_5,
    "sonnet-4-6": _CLAUDE_4_6,
    "sonnet-5": _CLAUDE_5,
    "sonnet-5-5": replace(_NEWEST, thinking_off="between_tools"),
    "haiku-4-5": _CLAUDE_4_5,
    "haiku-5": _CLAUDE_5,
    "fable-5": _FABLE_5,
    "fable-5-": _NEWEST,
    "mythos-5": _FABLE_5,
    "mythos-5-": _NEWEST,
    "mythos-preview": _FABLE_5,
}
"""By what follows "claude-"; the longest that fits counts."""

_FOREIGN: Final = Profile(
    budget=True, adaptive=False, thinking_off="disabled", sampling="both", forced_tools=True
)
"""Other vendors' models behind the same API, which follow it as it was before Claude 4.6."""


def profile(model: str) -> Profile:
    """What a model accepts; also by the names of Bedrock, Vertex and OpenRouter."""
    _, found, name = model.partition("claude-")
    if not found:
        return _FOREIGN
    name = name.replace(".", "-")
    fitting = [prefix for prefix in _BY_NAME if name.startswith(prefix)]
    return _BY_NAME[max(fitting, key=len)] if fitting else _NEWEST
