"""Seconds as protobuf durations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration


def to_duration(seconds: float, duration: Duration) -> None:
    """Write seconds into a message's duration field, to the microsecond; negative ones as zero."""
    micros = max(0, round(seconds * 1_000_000))
    duration.seconds, rest = divmod(micros, 1_000_000)
    duration.nanos = rest * 1_000
    duration.SetInParent()  # a zero is a value, not an absence
