"""What the command reads: files and standard input, bounded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from outrider.cli.command_error import usage_error

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_MAX_BYTES = 64 << 20  # as much as a sidecar takes in one message, unless configured otherwise


def read(path: Path) -> bytes:
    """A file's content. Raises CommandError."""
    try:
        with path.open("rb") as file:
            return _read(file, str(path))
    except OSError as error:
        raise usage_error(f"{path} cannot be read: {error.strerror}") from None


def read_text(path: Path) -> str:
    """A file's text. Raises CommandError."""
    return _decode(read(path), str(path))


def read_stdin() -> str:
    """All of standard input as text. Raises CommandError."""
    return _decode(_read(sys.stdin.buffer, "standard input"), "standard input")


def _read(file: BinaryIO, name: str) -> bytes:
    data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise usage_error(f"{name} is larger than {_MAX_BYTES >> 20} MiB")
    return data


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise usage_error(f"{name} is not UTF-8 text") from None
