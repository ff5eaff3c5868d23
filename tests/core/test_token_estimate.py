"""The estimate of a text's tokens: how near it comes, and that no text makes it slow or wild."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.core.token_estimate import estimate

SAMPLES = json.loads(Path(__file__).with_name("token_samples.json").read_text())
TECHNICAL = (
    *("english chat", "english prose", "english technical", "markdown", "python", "typescript", "go", "rust"),
    *("sql", "html", "json pretty", "json compact", "json schema", "yaml", "log lines"),
)

LONG = 100_000  # characters
HOSTILE = {
    "english": " the quick brown fox jumps over the lazy dog.",
    "chinese": "清晨的菜市场总是最热闹的地方",
    "emoji": "😀🎉👍🏽",
    "blanks": " ",
    "one word": "a",
    "tabs": "\t\t\tx\n",
    "newlines": "\n",
    "digits": "7",
    "base64": "aGVsbG8gd29ybGQsIHRoaXMg",
    "near misses": "aaaaab th tha of\tto",
    "changing case": "aA",
    "every script": "aé0 .\n\u03b1\u0431ש\u0627हไ가か世—😀\uff21\u1200",
    "lone surrogates": "\ud83d",
}


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample["kind"] for sample in SAMPLES])
def test_accuracy(sample: dict[str, Any]) -> None:
    """English, code and data come within 15 % of the vocabulary's own count, all else within 25 %."""
    tolerance = 0.15 if sample["kind"] in TECHNICAL else 0.25
    assert estimate(sample["text"]) == pytest.approx(sample["tokens"], rel=tolerance)


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_speed(unit: str) -> None:
    """100,000 characters of any text stay far from what a step for each of them would take."""
    text = (unit * (LONG // len(unit) + 1))[:LONG]
    estimate(text)
    took = []
    for _ in range(5):
        start = time.thread_time()
        estimate(text)
        took.append(time.thread_time() - start)
    assert min(took) < 0.025


def test_huge_texts_are_sampled() -> None:
    """The cost of an estimate stops growing with the text, and the estimate does not."""
    passage = next(sample for sample in SAMPLES if sample["kind"] == "english prose")["text"]
    short, huge = passage * 100, passage * 50_000
    start = time.thread_time()
    whole = estimate(huge)
    assert time.thread_time() - start < 0.25
    assert whole / len(huge) == pytest.approx(estimate(short) / len(short), rel=0.02)


@given(st.text(st.characters()))
def test_any_text(text: str) -> None:
    """There is a finite estimate for every string, lone surrogates included, in proportion to its length."""
    tokens = estimate(text)
    assert math.isfinite(tokens)
    units = len(text.encode("utf-16-le", "surrogatepass")) / 2
    assert len(text) / 64 <= tokens <= 2.1 * units


def test_nothing() -> None:
    """No text has no tokens."""
    assert estimate("") == 0
