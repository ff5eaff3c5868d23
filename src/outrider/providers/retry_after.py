"""How long a provider asks to be left alone."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_tz
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 7 * 86_400.0
"""Seconds; a longer wait is told as this one, so that it fits wherever durations go."""

_MAX_LENGTH = 64


def parse(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait from `now`, a Unix time; None where no header says so in a form that is understood.

    `retry-after-ms` (OpenAI, Azure) is finer and wins over `Retry-After` (RFC 9110, section 10.2.3).
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return min(milliseconds / 1000, LONGEST)
    value = headers.get("retry-after", "")
    seconds = _number(value)
    if seconds is None:
        date = _date(value)
        if date is None:
            return None
        seconds = max(date - now, 0.0)
    return min(seconds, LONGEST)


def _number(text: str) -> float | None:
    """A plain decimal number: no sign, no exponent, none of the other things that `float` accepts."""
    text = text.strip()
    if text.isascii() and text.replace(".", "", 1).isdecimal():
        return float(text)
    return None


def _date(text: str) -> float | None:
    """A date of HTTP in any of its three forms; they are all in GMT."""
    if len(text) > _MAX_LENGTH:
        return None
    try:
        parsed = parsedate_tz(text)
        if parsed is None:
            return None
        return datetime(*parsed[:6], tzinfo=UTC).timestamp() - (parsed[9] or 0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
