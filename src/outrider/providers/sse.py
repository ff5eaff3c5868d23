"""Server-sent events: bytes in any cuts become events.

Follows the WHATWG rules (https://html.spec.whatwg.org/multipage/server-sent-events.html) but for one: an
event at the end of the body counts without its blank line, because providers leave it out.
"""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event; `event` is empty where the stream names none."""

    event: bytes
    data: bytes


class SseParser:
    """Takes bytes as they come off the socket. Never raises, and takes time linear in their number."""

    __slots__ = ("_after_cr", "_data", "_event", "_line", "_started")

    def __init__(self) -> None:
        self._line = bytearray()  # the line that has no end yet
        self._after_cr = False  # the last byte was a CR, so a LF would belong to it
        self._started = False
        self._event = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that these bytes complete."""
        if self._after_cr or b"\r" in data:
            data = self._normalise(data)
        if b"\n" not in data:
            self._line += data
            return []
        if self._line:
            self._line += data
            data = bytes(self._line)
            self._line.clear()
        lines = data.split(b"\n")
        tail = lines.pop()
        if tail:
            self._line += tail
        return self._read(lines)

    def finish(self) -> list[SseEvent]:
        """The body has ended: the event that lacks its blank line, if any."""
        lines = [bytes(self._line), b""]
        self._line.clear()
        return self._read(lines)

    def _normalise(self, data: bytes) -> bytes:
        """Turn every line end into LF, also a CRLF that was cut in two."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read(self, lines: list[bytes]) -> list[SseEvent]:
        if not self._started:
            self._started = True
            lines[0] = lines[0].removeprefix(_BOM)
        events: list[SseEvent] = []
        for line in lines:
            if not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    events.append(SseEvent(self._event, data))
                    self._data.clear()
                self._event = b""
            elif line.startswith(b"data: "):
                self._data.append(line[6:])
            else:
                self._field(line)
        return events

    def _field(self, line: bytes) -> None:
        """Read any line but a blank one; comments, `id`, `retry` and unknown fields mean nothing here."""
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._event = value.removeprefix(b" ")
