"""Times, money and names, as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

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


def name_of(enum: _Enum, number: int, prefix: str) -> str:
    """The name of an enum's value; its number where a newer sidecar has sent one that is not known here."""
    try:
        return enum.Name(number).removeprefix(prefix)
    except ValueError:
        return str(number)


def words(name: str) -> str:
    """A name as words: "max tokens"."""
    return name.replace("_", " ").lower()
