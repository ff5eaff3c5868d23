"""Which targets can answer a request at all: what it needs, against what is known of models."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from outrider import v1
from outrider.core.errors import GenerationError, Reason, Violation
from outrider.core.model_facts import Capability

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from outrider.core.context import Target
    from outrider.core.model_facts import ModelFacts
    from outrider.core.ports import TokenCounter

_KEPT = 1024  # models whose facts are at hand
_TOLERANCE = 1.2  # by which a count may be wrong: a provider may take what lies between
_MOST_NAMED = 16  # targets in an error; a status carries 4 KB

_WHY = {
    Capability.VISION: "takes no images",
    Capability.AUDIO: "takes no audio",
    Capability.FILES: "takes no files",
    Capability.TOOLS: "calls no tools",
    Capability.JSON_SCHEMA: "holds no answer to a JSON schema",
    Capability.REASONING: "does not reason",
}
_FIELDS = {
    Capability.VISION: "messages",
    Capability.AUDIO: "messages",
    Capability.FILES: "messages",
    Capability.TOOLS: "tools",
    Capability.JSON_SCHEMA: "response_format.json_schema",
}
_MEDIA = {"image": Capability.VISION, "audio": Capability.AUDIO, "file": Capability.FILES}
_NONE: frozenset[Capability] = frozenset()
_NO_EFFORT = (v1.ReasoningOptions.EFFORT_UNSPECIFIED, v1.ReasoningOptions.EFFORT_NONE)


class LeftOut(NamedTuple):
    """A target that is not asked, and why. Where it is not `firm`, it might answer: others can better."""

    target: Target
    why: str
    field: str = ""  # of the request, that makes it so
    firm: bool = True


class _Limits(NamedTuple):
    """What some of a few targets do not take; found once for all requests."""

    window: int = 0  # the smallest that is known; 0: none is
    lacking: frozenset[Capability] = frozenset()
    media: frozenset[str] = frozenset()  # kinds of parts


class Capabilities:
    """Sorts targets. `facts` tells what is known of a model; what is not known is assumed to fit."""

    def __init__(self, facts: Callable[[Target], ModelFacts], counter: TokenCounter) -> None:
        self._facts = lru_cache(_KEPT)(facts)
        self._limits = lru_cache(_KEPT)(self._find_limits)
        self._counter = counter

    def window(self, target: Target) -> int:
        """Tokens that a target reads and writes together; 0: not known."""
        return self._facts(target).context_tokens

    def too_small(self, targets: tuple[Target, ...], request: v1.GenerateRequest) -> Sequence[Target]:
        """Those that a request may be too long for: its tokens have to be counted. Takes a microsecond."""
        window = self._limits(targets).window
        if not window:
            return ()
        # A token has at least a byte.
        most = request.ByteSize() + request.sampling.max_output_tokens
        return [each for each in targets if 0 < self.window(each) < most] if most > window else ()

    def count(self, targets: Iterable[Target], request: v1.GenerateRequest) -> dict[Target, int]:
        """Input tokens, as each target counts them. Takes milliseconds where there are many."""
        return {each: self._counter.count_input(request, each.model)[0] for each in targets}

    def sort_out(
        self, targets: tuple[Target, ...], request: v1.GenerateRequest, tokens: Mapping[Target, int]
    ) -> tuple[Sequence[Target], Sequence[LeftOut]]:
        """Those that fit, in their order, and those that do not. Where none surely fits, those that may."""
        limits = self._limits(targets)
        needs = _needs(request, limits) if limits.lacking else _NONE
        if not needs and not tokens:
            return targets, ()
        room = request.sampling.max_output_tokens
        left_out = {each: found for each in targets if (found := self._judge(each, needs, tokens, room))}
        fitting = [each for each in targets if each not in left_out]
        if not fitting:
            fitting = [each for each in targets if not left_out[each].firm]
        return fitting, [found for each, found in left_out.items() if each not in fitting]

    def _find_limits(self, targets: tuple[Target, ...]) -> _Limits:
        facts = [self._facts(each) for each in targets]
        if len(facts) == 1 and not facts[0].configured:
            return _Limits()  # there is nothing to choose from: its provider may judge
        lacking = frozenset(chain.from_iterable(each.lacks for each in facts))
        windows = [each.context_tokens for each in facts if each.context_tokens]
        media = frozenset(kind for kind, need in _MEDIA.items() if need in lacking)
        return _Limits(min(windows, default=0), lacking, media)

    def _judge(
        self, target: Target, needs: Collection[Capability], tokens: Mapping[Target, int], room: int
    ) -> LeftOut | None:
        facts = self._facts(target)
        missing = [need for need in _WHY if need in needs and need in facts.lacks]
        # Reasoning is last: a request for it is answered without it, with a warning.
        if missing and missing[0] is not Capability.REASONING:
            return LeftOut(target, _WHY[missing[0]], _FIELDS[missing[0]])
        count, window = tokens.get(target, 0), facts.context_tokens
        if count + room > window and target in tokens:
            needed = f"{count:,} tokens" if count > window else f"{count:,} tokens and {room:,} of an answer"
            why = f"reads {window:,} tokens, and the request has about {needed}"
            return LeftOut(target, why, firm=count > window * _TOLERANCE)
        return LeftOut(target, _WHY[missing[0]], firm=False) if missing else None


def _needs(request: v1.GenerateRequest, limits: _Limits) -> Collection[Capability]:
    """What a request needs, of what some target lacks. Most requests need nothing: that is told quickly."""
    needs = _media(request, limits.media) if limits.media else set()
    if request.tools:
        needs.add(Capability.TOOLS)
    if request.HasField("response_format") and request.response_format.HasField("json_schema"):
        needs.add(Capability.JSON_SCHEMA)
    if request.HasField("reasoning") and _has_effort(request.reasoning):
        needs.add(Capability.REASONING)
    return needs & limits.lacking if needs else _NONE


def _has_effort(reasoning: v1.ReasoningOptions) -> bool:
    return bool(reasoning.budget_tokens) or reasoning.effort not in _NO_EFFORT


def nothing_fits(left_out: Sequence[LeftOut]) -> GenerationError:
    """The error that names each target, and why."""
    reasons = "; ".join(f"{each.target} {each.why}" for each in left_out[:_MOST_NAMED])
    if not all(each.field for each in left_out):
        return GenerationError(Reason.CONTEXT_TOO_LONG, f"no target fits: {reasons}")
    fields = dict.fromkeys(each.field for each in left_out)
    violations = [Violation(field, "no target of this model takes it") for field in fields]
    return GenerationError(Reason.INVALID_REQUEST, f"no target fits: {reasons}", violations=violations)


def _media(request: v1.GenerateRequest, kinds: Collection[str]) -> set[Capability]:
    found: set[Capability] = set()
    for message in request.messages:
        for part in message.parts:
            kind = part.WhichOneof("content")
            if kind == "tool_result":
                found.update(
                    _MEDIA[kind] for each in part.tool_result.parts if (kind := _medium(each)) in kinds
                )
            elif kind in kinds and _medium(part) in kinds:
                found.add(_MEDIA[kind])
    return found


def _medium(part: v1.Part) -> str:
    kind = part.WhichOneof("content") or ""
    # A text file is read to the model.
    return "text" if kind == "file" and part.file.mime_type.startswith("text/") else kind
