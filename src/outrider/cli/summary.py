"""What an answer took: model, tokens, cost, tries and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1
from outrider.cli import units
from outrider.cli.attempts import ending, target
from outrider.cli.terminal import dim, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

_CACHED = {v1.CACHE_STATUS_HIT: "a stored answer", v1.CACHE_STATUS_STALE: "a stored answer, past its time"}


def write_summary(started: v1.Started, completed: v1.Completed, stream: TextIO) -> None:
    """Write the summary, a line for each thing there is to say."""
    for label, text in _rows(started, completed):
        print(f"{dim(f'{label:<9}', stream)} {one_line(text)}", file=stream)


def _rows(started: v1.Started, completed: v1.Completed) -> Iterator[tuple[str, str]]:
    yield "model", _model(started, completed)
    yield "finish", _finish(completed)
    yield "tokens", _tokens(completed)
    yield "cost", _cost(completed)
    yield "time", _time(completed.timings)
    if started.cache_status in _CACHED:
        yield "cache", _cache(started)
    if started.replayed:
        yield "key", "used before: this answer was made, and paid for, then"
    yield from _attempts(completed.attempts)
    for warning in completed.warnings:
        yield "warning", ": ".join(filter(None, (warning.field, warning.message or warning.code)))


def _model(started: v1.Started, completed: v1.Completed) -> str:
    name = f"{started.provider}/{started.model}"
    own = completed.response_model
    return f"{name}, answered as {own}" if own not in ("", started.model) else name


def _finish(completed: v1.Completed) -> str:
    reason = units.words(units.name_of(v1.FinishReason, completed.finish_reason, "FINISH_REASON_"))
    own = completed.provider_finish_reason
    return f"{reason} ({own})" if completed.finish_reason == v1.FINISH_REASON_OTHER and own else reason


def _tokens(completed: v1.Completed) -> str:
    if not completed.HasField("usage"):
        return "unknown"
    usage = completed.usage
    parts = {"cached": usage.cached_input_tokens, "written to the cache": usage.cache_write_input_tokens}
    text = f"{usage.input_tokens:,} in{_of_which(parts)}"
    text += f" · {usage.output_tokens:,} out{_of_which({'reasoning': usage.reasoning_output_tokens})}"
    return f"{text} · estimated" if usage.source == v1.USAGE_SOURCE_ESTIMATED else text


def _of_which(parts: dict[str, int]) -> str:
    said = ", ".join(f"{number:,} {name}" for name, number in parts.items() if number)
    return f" ({said})" if said else ""


def _cost(completed: v1.Completed) -> str:
    if not completed.HasField("cost"):
        return "unknown"
    return units.usd(completed.cost.total_nano_usd) + (" · estimated" if completed.cost.estimated else "")


def _time(timings: v1.Timings) -> str:
    texts = []
    if timings.HasField("time_to_first_content"):
        texts.append(f"first token {units.duration(timings.time_to_first_content)}")
    texts.append(f"total {units.duration(timings.total)}")
    if units.seconds_of(timings.waited) >= units.NOTABLE:
        texts.append(f"waited {units.duration(timings.waited)}")
    return " · ".join(texts)


def _cache(started: v1.Started) -> str:
    age = f", {units.duration(started.cache_age)} old" if started.HasField("cache_age") else ""
    return _CACHED[started.cache_status] + age


def _attempts(attempts: Sequence[v1.Attempt]) -> Iterator[tuple[str, str]]:
    if len(attempts) < 2:
        yield "attempts", str(len(attempts))
        return
    for number, attempt in enumerate(attempts, 1):
        yield "attempts" if number == 1 else "", f"{number} {target(attempt)} {ending(attempt)}"
