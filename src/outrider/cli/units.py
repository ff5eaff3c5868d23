"""Times, money and names, as a person reads them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

NOTABLE = 0.001  # seconds; shorter waits are not worth a word
_NANOS = 1_000_000_000


class _Enum(Protocol):
    def Name(self, number: int, /) -> str: ...


def seconds_of(duration: Duration) -> float:
    """A duration as seconds."""
    return duration.seconds + duration.nanos / _NANOS


def time(seconds: float) -> str:
    """Milliseconds below a second, else seconds: "112 ms", "1.24 s", "2 s", "75 s"."""
    if round(seconds * 1000) < 1000:
        return f"{seconds * 1000:.0f} ms"
    return f"{round(seconds, 2):g} s" if seconds < 10 else f"{seconds:.0f} s"


def duration(duration: Duration) -> str:
    """A duration, as `time` shows it."""
    return time(seconds_of(duration))


def usd(nano: int) -> str:
    """Nano-USD as dollars, exact, with two decimals at least: "$0.000123"."""
    dollars, rest = divmod(abs(nano), _NANOS)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}${dollars:,}.{decimals}"


def dollars(nano: int) -> str:
    """Nano-USD as a number of dollars, exact, for machines: "1234.5", "0"."""
    whole, rest = divmod(abs(nano), _NANOS)
    text = f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
    return f"-{text}" if nano < 0 else text


def decimals(largest: int) -> int:
    """How many decimals of dollars are worth showing beside an amount of nano-USD."""
    if largest >= 100 * _NANOS:
        return 2
    return 4 if largest >= _NANOS else 6


def rounded_usd(nano: int, decimals: int) -> str:
    """Nano-USD as dollars with so many decimals: "$12.35"; what would round to nothing: "<$0.01"."""
    step: int = 10 ** (9 - decimals)
    shown = (abs(nano) + step // 2) // step * step
    if nano and not shown:
        return f"<${step / _NANOS:.{decimals}f}"
    whole, rest = divmod(shown, _NANOS)
    return f"{'-' if nano < 0 else ''}${whole:,}.{rest:09d}"[: decimals - 9]


def span(seconds: float) -> str:
    """A time in its two largest units: "18 s", "4 min", "3 h 20 min", "12 d 4 h"."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = math.ceil(whole / 60)
    parts = ((minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min"))
    first = next(place for place, (amount, _) in enumerate(parts) if amount)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)


def size(octets: int) -> str:
    """Bytes in the largest unit that fits: "512 B", "12.3 MiB"."""
    amount, unit = float(octets), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{octets} B" if unit == "B" else f"{amount:.1f} {unit}"


def iso(timestamp: Timestamp) -> str:
    """A time as "2026-11-21T14:30:00.123Z"; empty where a sidecar has sent what is none."""
    try:
        return timestamp.ToJsonString()
    except (ValueError, OverflowError):
        return ""


def moment(timestamp: Timestamp) -> str:
    """A time in UTC to the second: "2026-11-21 14:30:00"."""
    return iso(timestamp)[:19].replace("T", " ") or "-"


def name_of(enum: _Enum, number: int, prefix: str) -> str:
    """The name of an enum's value; its number where a newer sidecar has sent one that is not known here."""
    try:
        return enum.Name(number).removeprefix(prefix)
    except ValueError:
        return str(number)


def words(name: str) -> str:
    """A name as words: "max tokens"."""
    return name.replace("_", " ").lower()
