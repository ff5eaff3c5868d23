"""Recorded exchanges with real providers: where they are, and the ways to cut and play them.

They lie outside of the repository, in ../shared/recorded or where OUTRIDER_RECORDED points. A module that
asks for them is skipped where they are absent.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import answers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.support.upstream import Answer, Exchange

_DEFAULT_FOLDER = Path(__file__).parents[3] / "shared" / "recorded"
_FILE = Path(os.environ.get("OUTRIDER_RECORDED", _DEFAULT_FOLDER)) / "provider-traffic.jsonl"

_MOST_PIECES = 6_000
_END_MARKER = re.compile(rb"data: ?\[DONE\]|event: message_stop")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_INSIDE = re.compile(rb"(?<=\r)(?=\n)|(?<=[\xc0-\xff])")  # a CRLF, or a character of several bytes


@dataclass(frozen=True)
class Recording:
    """One exchange; `headers` and `body` are the answer's."""

    id: str
    wire: str
    host: str
    path: str
    request: dict[str, Any]
    status: int
    headers: dict[str, str]
    stream: bool
    body: bytes

    @property
    def name(self) -> str:
        return f"{self.host}-{self.id}"

    @property
    def whole(self) -> bool:
        """Whether it is an answer from its beginning to its end, and not an error."""
        if self.stream:
            return _END_MARKER.match(self.body, self._end) is not None
        answer = _json(self.body)
        return self.status == 200 and bool("content" in answer or answer.get("choices"))

    @property
    def ends(self) -> list[int]:
        """Where its events end before its end marker or error: cut at one of them, a stream has neither."""
        return [line.start() for line in _BLANK_LINE.finditer(self.body, 0, self._end)]

    @cached_property
    def _end(self) -> int:
        """Where the event begins that ends the stream."""
        starts = [0, *(line.end() for line in _BLANK_LINE.finditer(self.body)), len(self.body)]
        for start, end in pairwise(starts):
            event = self.body[start:end]
            if _END_MARKER.match(event) or event.startswith(b"event: error"):
                return start
            if _json(event.removeprefix(b"data:")).get("error"):
                return start
        return len(self.body)


def load(wire: str) -> list[Recording]:
    """The exchanges in a wire format, in their order. Skips the calling module where there are none."""
    if not _FILE.exists():
        pytest.skip(f"there is no recorded traffic at {_FILE}", allow_module_level=True)
    exchanges = map(json.loads, _FILE.read_bytes().splitlines())
    return [
        Recording(**{**exchange, "body": exchange["body"].encode()})
        for exchange in exchanges
        if exchange["wire"] == wire
    ]


def named(recordings: Iterable[Recording]) -> pytest.MarkDecorator:
    """One test for each, with its name."""
    recordings = list(recordings)
    return pytest.mark.parametrize("recording", recordings, ids=[each.name for each in recordings])


def cut(body: bytes, size: int) -> list[bytes]:
    """Pieces of a size."""
    return [body[at : at + size] for at in range(0, len(body), size)]


def small_pieces(body: bytes) -> list[bytes]:
    """One byte at a time; more where there would be too many."""
    return cut(body, len(body) // _MOST_PIECES + 1)


def awkward_pieces(body: bytes) -> list[bytes]:
    """Cut inside every CRLF and inside every character of several bytes."""
    return _INSIDE.split(body)


def play(recording: Recording, pieces: Iterable[bytes], headers: Mapping[str, str] | None = None) -> Answer:
    """The recorded answer, its body chunked in these pieces; `headers` come on top of the recorded ones."""

    async def answer(exchange: Exchange) -> None:
        await exchange.head(recording.status, {**recording.headers, **(headers or {}), **answers.CHUNKED})
        for piece in pieces:
            await exchange.chunk(piece)
        await exchange.chunk(b"")

    return answer


def labelled(recording: Recording) -> Answer:
    """The recorded answer with the content type that the SDKs want; not every recording kept it."""
    headers = answers.SSE if recording.stream else answers.JSON
    return play(recording, cut(recording.body, 1000), headers)


def compressed(recording: Recording) -> Answer:
    """The recorded answer, compressed by a proxy on its way."""
    packed = gzip.compress(recording.body)
    return play(recording, cut(packed, len(packed) // 7 + 1), {"content-encoding": "gzip"})


class Jukebox:
    """An answer for upstreams: the model of a request chooses what is played."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    def load(self, name: str, answer: Answer) -> str:
        """Have an answer under a name, which is given back."""
        self._answers[name] = answer
        return name

    async def __call__(self, exchange: Exchange) -> None:
        await self._answers[exchange.request.json()["model"]](exchange)


def _json(data: bytes) -> dict[str, Any]:
    """A JSON object; an empty one where it is none."""
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
