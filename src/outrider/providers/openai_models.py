"""Which models reason, and what they refuse: the API answers 400 to a setting that a model does not take.

Read on 2026-11-20 in https://developers.openai.com/api/docs/guides/reasoning,
https://developers.openai.com/api/docs/guides/latest-model and the parameter docs of the official clients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from outrider import v1


@dataclass(frozen=True, slots=True)
class Family:
    """Reasoning models that accept the same settings."""

    prefixes: tuple[str, ...]
    """How the models' names begin."""
    efforts: tuple[str, ...]
    """Values of `reasoning_effort`, least first."""
    sampling: Literal["always", "without_reasoning", "never"] = "always"
    """When temperature, top_p, penalties and stop sequences are accepted."""
    reasons_unasked: bool = True
    """Whether the model reasons where no effort is given."""
    tools_while_reasoning: bool = True
    """Whether Chat Completions lets the model reason when the request has tools."""


_UP_TO_HIGH: Final = ("low", "medium", "high")
_UP_TO_XHIGH: Final = (*_UP_TO_HIGH, "xhigh")

OPENAI_MODELS: Final = (
    Family(("o1", "o3", "o4"), _UP_TO_HIGH, sampling="never"),
    Family(("gpt-5.1",), ("none", *_UP_TO_HIGH), sampling="without_reasoning", reasons_unasked=False),
    Family(
        ("gpt-5.2", "gpt-5.3"),
        ("none", *_UP_TO_XHIGH),
        sampling="without_reasoning",
        reasons_unasked=False,
    ),
    Family(
        # https://github.com/openai/openai-openapi/issues/541 for the tools
        ("gpt-5.4",),
        ("none", *_UP_TO_XHIGH),
        sampling="without_reasoning",
        reasons_unasked=False,
        tools_while_reasoning=False,
    ),
    Family(
        ("gpt-5.",),
        ("none", *_UP_TO_XHIGH),
        sampling="without_reasoning",
        tools_while_reasoning=False,
    ),
    Family(("gpt-5",), ("minimal", *_UP_TO_HIGH), sampling="never"),
    Family(
        ("gpt-6-sol", "gpt-6-luna"), ("none", *_UP_TO_XHIGH), sampling="never", tools_while_reasoning=False
    ),
    Family(("gpt-6",), _UP_TO_XHIGH, sampling="never"),
)

GROQ_MODELS: Final = (
    Family(("openai/gpt-oss",), _UP_TO_HIGH),
    Family(("qwen/qwen3.8",), ("none", *_UP_TO_HIGH)),
    Family(("qwen/qwen3",), ("none", "default")),
)

_LEVELS: Final = {"none": 0, "minimal": 1, "low": 2, "medium": 3, "default": 3, "high": 4, "xhigh": 5}

_ASKED: Final = {
    v1.ReasoningOptions.EFFORT_NONE: 0,
    v1.ReasoningOptions.EFFORT_MINIMAL: 1,
    v1.ReasoningOptions.EFFORT_LOW: 2,
    v1.ReasoningOptions.EFFORT_MEDIUM: 3,
    v1.ReasoningOptions.EFFORT_HIGH: 4,
    v1.ReasoningOptions.EFFORT_MAX: 6,
}


def family(families: tuple[Family, ...], model: str) -> Family | None:
    """The family that a model belongs to; None where it does not reason."""
    return next((known for known in families if model.startswith(known.prefixes)), None)


def nearest_effort(known: Family, effort: v1.ReasoningOptions.Effort) -> str:
    """The value nearest to an effort that is set; only EFFORT_NONE turns reasoning off."""
    level = _ASKED.get(effort, _LEVELS["medium"])
    values = [value for value in known.efforts if level == 0 or value != "none"]
    return min(values, key=lambda value: abs(_LEVELS[value] - level))
