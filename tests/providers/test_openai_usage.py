"""Token counts of Chat Completions and of its dialects."""

from __future__ import annotations

from typing import Any

import pytest

from outrider import v1
from tests.providers.openai_answers import (
    COUNTED,
    USAGE,
    chunk,
    completion,
    decode_chunks,
    decode_completion,
)


def counted(**counts: Any) -> v1.Usage:
    usage = v1.Usage(**counts)
    usage.MergeFrom(COUNTED)
    return usage


USAGES: dict[str, tuple[Any, v1.Usage]] = {
    "totals": (USAGE, COUNTED),
    "details": (
        {
            **USAGE,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
        counted(cached_input_tokens=4, cache_write_input_tokens=2, reasoning_output_tokens=1),
    ),
    "DeepSeek's cache": ({**USAGE, "prompt_cache_hit_tokens": 4}, counted(cached_input_tokens=4)),
    "Together's cache": ({**USAGE, "cached_tokens": 4}, counted(cached_input_tokens=4)),
    "empty details": ({**USAGE, "prompt_tokens_details": None, "completion_tokens_details": []}, COUNTED),
    "odd details": ({**USAGE, "prompt_tokens_details": {"cached_tokens": "many"}, "cost": "?"}, COUNTED),
    "whole floats": ({"prompt_tokens": 9.0, "completion_tokens": 3.0}, COUNTED),
    "reasoning beside the output": (
        {
            "prompt_tokens": 9,
            "completion_tokens": 1,
            "total_tokens": 12,
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
        counted(reasoning_output_tokens=2),
    ),
}


@pytest.mark.parametrize(("usage", "expected"), USAGES.values(), ids=USAGES.keys())
def test_usage(usage: Any, expected: v1.Usage) -> None:
    """Row 31: counts mean the same whoever counted: totals hold their parts."""
    assert decode_completion(completion(content="a", usage=usage)).completed.usage == expected
    answer = decode_chunks(chunk("stop", content="a"), {"choices": [], "usage": usage})
    assert answer.completed.usage == answer.progress.usage == expected


@pytest.mark.parametrize(
    "usage",
    [None, {}, "none", [], 5, {"prompt_tokens": 9}, {"prompt_tokens": -1, "completion_tokens": 1e300}],
)
def test_no_usage(usage: Any) -> None:
    """Row 21: what is not a count of both sides is absent, never 0."""
    assert not decode_completion(completion(content="a", usage=usage)).completed.HasField("usage")


def with_usage(usage: Any) -> dict[str, Any]:
    return {**chunk(content="a"), "usage": usage}


USAGE_PLACES: dict[str, list[dict[str, Any]]] = {
    "its own chunk": [{"choices": [], "usage": USAGE}],
    "its own chunk, without choices": [{"usage": USAGE}],
    "a content chunk": [with_usage(USAGE)],
    "Groq's field": [{**chunk(), "x_groq": {"id": "r", "usage": USAGE}}],
    "first, then null": [with_usage(USAGE), with_usage(None), {"choices": [], "usage": None}],
    "growing": [with_usage({"prompt_tokens": 9, "completion_tokens": 1}), with_usage(USAGE)],
    "shrinking": [with_usage({"prompt_tokens": 90, "completion_tokens": 30}), with_usage(USAGE)],
    "by halves": [with_usage({"prompt_tokens": 9}), with_usage({"completion_tokens": 3})],
    "a field lost at last": [with_usage(USAGE), with_usage({"completion_tokens": 3, "prompt_tokens": None})],
}


@pytest.mark.parametrize("chunks", USAGE_PLACES.values(), ids=USAGE_PLACES.keys())
def test_usage_places(chunks: list[dict[str, Any]]) -> None:
    """Row 21: wherever usage stands, the last count of each field is taken, and null erases nothing."""
    assert decode_chunks(*chunks, chunk("stop")).completed.usage == COUNTED
    assert decode_chunks(chunk("stop"), *chunks).completed.usage == COUNTED
