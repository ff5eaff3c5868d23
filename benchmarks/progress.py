"""Where a run is: one line that changes on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import sys


def show(text: str) -> None:
    """Say what happens now. An empty text ends it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K· {text}" if text else "\r\x1b[K", end="", file=sys.stderr, flush=True)
    elif text:
        print(f"· {text}", file=sys.stderr, flush=True)
