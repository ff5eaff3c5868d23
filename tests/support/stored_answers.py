"""Stored answers for the tests of the cache, and a Unix clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration

from outrider import v1
from outrider.core.answers import StoredAnswer


@dataclass
class SteadyClock:
    """A Unix clock that moves when it is told to."""

    now: float = 1_795_271_400.0  # 2026-11-21 14:30 UTC

    def __call__(self) -> float:
        return self.now


def stored(
    text: str = "yes",
    *,
    at: float,
    nano_usd: int = 0,
    seconds: float = 0.0,
    fresh_for: float = 60.0,
    **fields: Any,
) -> StoredAnswer:
    """An answer that was stored at some time."""
    answer = v1.CompleteResponse(
        message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text=text)]),
        completed=v1.Completed(
            finish_reason=v1.FINISH_REASON_STOP,
            cost=v1.Cost(total_nano_usd=nano_usd),
            timings=v1.Timings(total=Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))),
        ),
    )
    return StoredAnswer(answer, at, fresh_for, **fields)


def text_of(found: object) -> str:
    """The text of an answer that was found."""
    assert isinstance(found, StoredAnswer), found
    return found.answer.message.parts[0].text
