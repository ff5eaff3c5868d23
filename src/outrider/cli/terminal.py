"""What may reach a terminal, and how it looks there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

# C0, DEL and C1: with these a model's answer could move the cursor, set the title or fill the clipboard.
_CONTROLS: dict[int, str | None] = dict.fromkeys(
    (*range(0x20), *range(0x7F, 0xA0)), "\N{REPLACEMENT CHARACTER}"
)
_HARMLESS = _CONTROLS | {ord("\n"): "\n", ord("\t"): "\t", ord("\r"): None}


def harmless(text: str) -> str:
    """The text without control characters other than line breaks and tabs."""
    return text.translate(_HARMLESS)


def one_line(text: str) -> str:
    """The text on one line, without control characters."""
    return " ".join(harmless(text).split())


def is_styled(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colour. See https://no-color.org."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def dim(text: str, stream: TextIO) -> str:
    """The text, less bright where the stream shows that."""
    return f"\x1b[2m{text}\x1b[22m" if is_styled(stream) else text


def bold(text: str, stream: TextIO) -> str:
    """The text, brighter where the stream shows that."""
    return f"\x1b[1m{text}\x1b[22m" if is_styled(stream) else text
