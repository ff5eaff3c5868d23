"""How much a Claude model is asked to think, and how many tokens that leaves it for the answer.

https://platform.claude.com/docs/en/build-with-claude/thinking: thinking counts towards `max_tokens`, and a
budget is at least 1,024 tokens and below `max_tokens`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from outrider import v1
from outrider.providers.anthropic_content import ADJUSTED

if TYPE_CHECKING:
    from outrider.providers.anthropic_content import Conversation, Json
    from outrider.providers.anthropic_models import Profile

_Options: Final = v1.ReasoningOptions

_EFFORTS: Final = {
    _Options.EFFORT_MINIMAL: "low",
    _Options.EFFORT_LOW: "low",
    _Options.EFFORT_MEDIUM: "medium",
    _Options.EFFORT_HIGH: "high",
    _Options.EFFORT_MAX: "max",
}
_BUDGETS: Final = {
    _Options.EFFORT_MINIMAL: 1_024,
    _Options.EFFORT_LOW: 4_096,
    _Options.EFFORT_MEDIUM: 8_192,
    _Options.EFFORT_HIGH: 16_384,
    _Options.EFFORT_MAX: 32_000,  # Anthropic advises against more in one request
}
_LEAST_BUDGET: Final = 1_024


class Thinking(NamedTuple):
    """What to send: `thinking`, `output_config.effort` and `max_tokens`."""

    config: Json | None
    effort: str | None
    max_tokens: int


def plan_thinking(
    request: v1.GenerateRequest,
    accepts: Profile,
    conversation: Conversation,
    *,
    default_max_tokens: int,
    forced_tool: bool,
) -> Thinking:
    """Follow the request as far as the model can; the rest becomes warnings.

    Without `max_output_tokens` the answer may have `default_max_tokens` besides what is thought.
    """
    options = request.reasoning
    budget = options.budget_tokens or _BUDGETS.get(options.effort, 0)
    off = not budget and (options.effort == _Options.EFFORT_NONE or options.HasField("budget_tokens"))
    room = budget
    if not budget and not off and accepts.thinking_off != "unset":
        room = _BUDGETS[_Options.EFFORT_HIGH]  # it thinks unasked
    max_tokens = request.sampling.max_output_tokens or min(
        default_max_tokens + room, accepts.max_output_tokens
    )
    if off:
        return _off(accepts, conversation, max_tokens)
    if not budget:
        return Thinking(None, None, max_tokens)
    if not accepts.budget and not accepts.adaptive:
        conversation.warn("reasoning", "this model cannot think")
    elif forced_tool:
        conversation.warn("reasoning", "the model cannot think before a call that it is made to make")
    elif accepts.adaptive and not (accepts.budget and options.budget_tokens):
        return _adaptive(options, conversation, max_tokens)
    else:
        return _budgeted(options, budget, conversation, max_tokens)
    return Thinking(None, None, max_tokens)


def _off(accepts: Profile, conversation: Conversation, max_tokens: int) -> Thinking:
    match accepts.thinking_off:
        case "never":
            conversation.warn(
                "reasoning.effort", "this model always thinks; it is asked for little", ADJUSTED
            )
            return Thinking(None, "low", max_tokens)
        case "unset":
            return Thinking(None, None, max_tokens)
        case kind:
            return Thinking({"type": kind}, None, max_tokens)


def _adaptive(options: v1.ReasoningOptions, conversation: Conversation, max_tokens: int) -> Thinking:
    if options.budget_tokens:
        conversation.warn("reasoning.budget_tokens", "this model chooses by itself how much to think")
    # Without `display` the newest models send no words, so that the caller would see nothing for minutes.
    config = {"type": "adaptive", "display": "summarized"}
    return Thinking(config, _EFFORTS.get(options.effort), max_tokens)


def _budgeted(
    options: v1.ReasoningOptions, budget: int, conversation: Conversation, max_tokens: int
) -> Thinking:
    if max_tokens <= _LEAST_BUDGET:
        conversation.warn("reasoning", f"there is no thinking with {_LEAST_BUDGET} output tokens or fewer")
        return Thinking(None, None, max_tokens)
    if not options.budget_tokens or budget >= max_tokens:
        budget = min(budget, max_tokens * 4 // 5)  # the rest is for the answer
    if budget < _LEAST_BUDGET:
        if options.budget_tokens:
            message = f"the least that Anthropic takes is {_LEAST_BUDGET}"
            conversation.warn("reasoning.budget_tokens", message, ADJUSTED)
        budget = _LEAST_BUDGET
    return Thinking({"type": "enabled", "budget_tokens": budget}, None, max_tokens)
