"""Token counts of Chat Completions and its many dialects, made comparable."""

from __future__ import annotations

from typing import Any

from outrider import v1

_LARGEST = 2**53


class UsageReader:
    """Merges what a vendor says in one or several places: field by field, the last count stands."""

    __slots__ = ("_cached", "_input", "_output", "_reasoning", "_total", "_written")

    def __init__(self) -> None:
        self._input: int | None = None
        self._output: int | None = None
        self._total: int | None = None
        self._cached: int | None = None
        self._written: int | None = None
        self._reasoning: int | None = None

    def read(self, usage: object) -> v1.Usage | None:
        """Everything that is known after this usage object; None where a total is still missing."""
        if isinstance(usage, dict):
            self._merge(usage)
        if self._input is None or self._output is None:
            return None
        return v1.Usage(
            input_tokens=self._input,
            output_tokens=self._output + self._beside(self._input + self._output),
            cached_input_tokens=self._cached or 0,
            cache_write_input_tokens=self._written or 0,
            reasoning_output_tokens=self._reasoning or 0,
            source=v1.USAGE_SOURCE_PROVIDER,
        )

    def _merge(self, usage: dict[str, Any]) -> None:
        prompt = _details(usage, "prompt_tokens_details")
        completion = _details(usage, "completion_tokens_details")
        self._input = _count(usage.get("prompt_tokens"), self._input)
        self._output = _count(usage.get("completion_tokens"), self._output)
        self._total = _count(usage.get("total_tokens"), self._total)
        cached = _count(usage.get("cached_tokens"), self._cached)  # Together
        cached = _count(usage.get("prompt_cache_hit_tokens"), cached)  # DeepSeek
        self._cached = _count(prompt.get("cached_tokens"), cached)
        self._written = _count(prompt.get("cache_write_tokens"), self._written)
        self._reasoning = _count(completion.get("reasoning_tokens"), self._reasoning)

    def _beside(self, counted: int) -> int:
        """Reasoning that a vendor counts beside its output rather than in it, as its total gives away."""
        reasoning = self._reasoning or 0
        return reasoning if self._total == counted + reasoning else 0


def _details(usage: dict[str, Any], name: str) -> dict[str, Any]:
    details = usage.get(name)
    return details if isinstance(details, dict) else {}


def _count(value: object, otherwise: int | None) -> int | None:
    if isinstance(value, int | float) and 0 <= value <= _LARGEST:
        return int(value)
    return otherwise
