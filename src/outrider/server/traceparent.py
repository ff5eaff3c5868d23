"""The trace that a call belongs to, as its caller says (w3.org/TR/trace-context)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent_in(metadata: Sequence[tuple[str, str | bytes]] | None) -> str:
    """The `traceparent` of a call; empty where there is none, or not in the form that it must have."""
    for key, value in metadata or ():
        if key == "traceparent":
            return value if isinstance(value, str) and _FORM.fullmatch(value) else ""
    return ""
