"""What a simulated answer is made of, and how a user writes it down."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import yaml

from outrider import v1
from outrider.providers.simulated_failures import FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

CHARS_PER_TOKEN: Final = 4
"""What a simulated model calls a token."""

FINISHES: Final = {
    "stop": v1.FINISH_REASON_STOP,
    "max_tokens": v1.FINISH_REASON_MAX_TOKENS,
    "tool_calls": v1.FINISH_REASON_TOOL_CALLS,
    "content_filter": v1.FINISH_REASON_CONTENT_FILTER,
    "refusal": v1.FINISH_REASON_REFUSAL,
}


@dataclass(frozen=True, slots=True)
class Say:
    """Text, in chunks at the configured pace."""

    text: str


@dataclass(frozen=True, slots=True)
class Think:
    """Reasoning, in chunks at the configured pace."""

    text: str


@dataclass(frozen=True, slots=True)
class CallTool:
    """A tool call, whole."""

    name: str
    arguments_json: str = "{}"


@dataclass(frozen=True, slots=True)
class Wait:
    """Silence, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    """A failure, by its name in FAILURES."""

    kind: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The finish reason, by its name in FINISHES; without it, what fits the answer."""

    reason: str
    stop_sequence: str = ""


Step: TypeAlias = Say | Think | CallTool | Wait | Fail | Finish


def within_limits(steps: Iterable[Step], sampling: v1.Sampling) -> Iterator[Step]:
    """The steps up to a stop sequence or the limit of output tokens; both count within texts only."""
    room = (
        sampling.max_output_tokens * CHARS_PER_TOKEN if sampling.HasField("max_output_tokens") else math.inf
    )
    for step in steps:
        if not isinstance(step, Say | Think):
            yield step
            continue
        text, end = step.text, None
        if isinstance(step, Say):
            text, end = _until_stop(text, sampling.stop)
        if len(text) > room:
            text, end = text[: int(room)], Finish("max_tokens")
        room -= len(text)
        yield replace(step, text=text)
        if end is not None:
            yield end
            return


def _until_stop(text: str, sequences: Iterable[str]) -> tuple[str, Finish | None]:
    found = [(text.find(sequence), sequence) for sequence in sequences if sequence in text]
    if not found:
        return text, None
    position, sequence = min(found)
    return text[:position], Finish("stop", sequence)


def parse_script(script: str) -> tuple[Step, ...]:
    """A YAML list of steps such as "- text: Hello"; any other text is the answer itself.

    Raises ValueError that names the step and what would be right.
    """
    try:
        items = yaml.safe_load(script)
    except yaml.YAMLError:
        items = None
    if not (isinstance(items, list) and items and all(isinstance(item, dict) for item in items)):
        return (Say(script),)
    return tuple(_parse_step(number, item) for number, item in enumerate(items, 1))


def _parse_step(number: int, item: dict[object, object]) -> Step:
    names = ", ".join(_PARSERS)
    if len(item) != 1:
        raise ValueError(f"step {number} of the script must have exactly one of: {names}")
    ((name, value),) = item.items()
    parse = _PARSERS.get(str(name))
    if parse is None:
        raise ValueError(f"step {number} of the script: {name!r} is not one of: {names}")
    try:
        return parse(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"step {number} of the script: {name} {error}") from None


def _text(value: object) -> str:
    if not isinstance(value, str | int | float):
        raise TypeError("must be text")
    return str(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3600:
        raise ValueError("must be a number of seconds up to 3600")
    return float(value)


def _one_of(value: object, names: Collection[str]) -> str:
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"must be one of: {', '.join(names)}")
    return value


def _tool_call(value: object) -> CallTool:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise TypeError("must be a mapping with a name and, perhaps, arguments")
    return CallTool(value["name"], msgspec.json.encode(value.get("arguments") or {}).decode())


_PARSERS: Final[dict[str, Callable[[object], Step]]] = {
    "text": lambda value: Say(_text(value)),
    "reasoning": lambda value: Think(_text(value)),
    "tool_call": _tool_call,
    "wait": lambda value: Wait(_seconds(value)),
    "fail": lambda value: Fail(_one_of(value, FAILURES)),
    "finish": lambda value: Finish(_one_of(value, FINISHES)),
}
