"""Where a provider's key comes from: given as a value, or kept in a file that may change at any time."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from outrider.core.ports import Clock

_log = logging.getLogger(__name__)

_INTERVAL = 1.0  # seconds between looks at a file, and how long a change rests before it is believed
_MAX_BYTES = 16_384


class Credential(Protocol):
    """A key that can be asked for at any time. Its text shows in neither `repr` nor errors."""

    problem: str
    """Why the newest key could not be taken; empty where all is well."""

    def read(self) -> str | None:
        """The key to use now; None where there is none. Never raises; cheap enough to ask each time."""


def clean_key(text: str) -> str:
    """The key without blanks around it; "" where nothing else is left.

    Raises ValueError where it could not stand in an HTTP header.
    """
    key = text.strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError("the key holds a line break, a blank or a character that is not ASCII")
    return key


class LiteralKey:
    """A key given as a value. Raises ValueError where it could not stand in an HTTP header."""

    def __init__(self, key: str) -> None:
        self._key = clean_key(key) or None
        self.problem = "" if self._key else "there is no key"

    def read(self) -> str | None:
        """The key; None where it is empty."""
        return self._key


class KeyFile:
    """A key in a file, such as a mounted Kubernetes secret, looked at again at most once a second.

    A new key is taken once the file has rested for a second, so that one half written is not used. While
    the file is missing, empty or unreadable, the last good key stays. `on_change` is told, on the thread that
    looked, whether there is a new key, and what the problem is now; it must not raise.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        clock: Clock = time.monotonic,
        on_change: Callable[[bool, str], None] = lambda _taken, _problem: None,
    ) -> None:
        self._path = Path(path)
        self._clock = clock
        self._on_change = on_change
        self._looking = threading.Lock()
        self._key: str | None = None
        self._taken: tuple[int, ...] = ()  # version of the file that the key is from
        self._seen: tuple[int, ...] = ()  # newest version, and since when
        self._seen_at = 0.0
        self._next_look = clock() + _INTERVAL
        self.problem = ""
        self._look(first=True)

    def __repr__(self) -> str:
        return f"KeyFile({str(self._path)!r})"

    def read(self) -> str | None:
        """The last good key; None where there was none yet."""
        now = self._clock()
        # The thread that writes the log asks, too; one of two is enough to look.
        if now >= self._next_look and self._looking.acquire(blocking=False):
            try:
                self._next_look = now + _INTERVAL
                self._look_again()
            finally:
                self._looking.release()
        return self._key

    def _look_again(self) -> None:
        before = self._key, self.problem
        self._look()
        if before != (self._key, self.problem):
            self._on_change(before[0] != self._key, self.problem)

    def _look(self, *, first: bool = False) -> None:
        try:
            status = self._path.stat()
            # A rename or a swapped symlink changes the inode, whatever the times say.
            version = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            if version != self._taken:
                if not (first or self._rests(version, status.st_mtime)):
                    return
                self._key = self._load()
                self._taken = version
        except OSError as error:
            self._note(f"it cannot be read: {error.strerror}")
        except ValueError as error:
            self._note(str(error))
        else:
            self.problem = ""

    def _rests(self, version: tuple[int, ...], modified_at: float) -> bool:
        now = self._clock()
        if version != self._seen:
            self._seen, self._seen_at = version, now
        return time.time() - modified_at >= _INTERVAL or now - self._seen_at >= _INTERVAL

    def _load(self) -> str:
        with self._path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        try:
            key = clean_key(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise ValueError("it is not text") from None
        if not key:
            raise ValueError("it is empty")
        return key

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            _log.warning("key file %s: %s", self._path, problem)
