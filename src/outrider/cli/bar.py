"""Shares as bars."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_WIDTH = 10


def bar(share: float, stream: TextIO | None = None) -> str:
    """A share from 0 to 1 as a bar of ten characters that a stream, or standard output, can show."""
    full, rest = _characters((stream or sys.stdout).encoding or "ascii")
    # What is not nothing is seen, and what is not everything too.
    filled = round(min(max(share, 0.0), 1.0) * _WIDTH)
    if 0 < share < 1:
        filled = min(max(filled, 1), _WIDTH - 1)
    return full * filled + rest * (_WIDTH - filled)


def _characters(encoding: str) -> tuple[str, str]:
    try:
        "█░".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "#", "."
    return "█", "░"
