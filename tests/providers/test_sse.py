"""Server-sent events, as providers send them and as networks cut them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.providers.sse import SseEvent, SseParser


def parse(*pieces: bytes) -> list[SseEvent]:
    parser = SseParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.finish()


def data(*values: bytes) -> list[SseEvent]:
    return [SseEvent(b"", value) for value in values]


CASES = {
    "LF": (b"data: a\n\ndata: b\n\n", data(b"a", b"b")),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", data(b"a", b"b")),
    "CR": (b"data: a\r\rdata: b\r\r", data(b"a", b"b")),
    "mixed line ends": (b"data: a\r\n\ndata: b\r\r\ndata: c\n\r", data(b"a", b"b", b"c")),
    "several lines are joined by LF": (b"data: a\ndata: b\r\ndata: c\n\n", data(b"a\nb\nc")),
    "no space after the colon": (b"data:a\n\ndata:  b\n\n", data(b"a", b" b")),
    "only one space belongs to the colon": (b"data:  a \n\n", data(b" a ")),
    "a field without a colon is empty": (b"data\n\ndata\ndata\n\n", data(b"", b"\n")),
    "an empty value is data": (b"data:\n\n", data(b"")),
    "comments mean nothing": (b": hi\n\n:\ndata: a\n: in between\n\n", data(b"a")),
    "a comment block after an id line": (b"id: 1\n: comment\n\ndata: a\n\n", data(b"a")),
    "id, retry and unknown fields": (b"id: 1\nretry: 5\nfoo: bar\ndata: a\n\n", data(b"a")),
    "a field's name is matched whole": (b"dataset: x\n data: y\nDATA: z\ndata: a\n\n", data(b"a")),
    "named events": (b"event: ping\ndata: a\n\ndata: b\n\n", [SseEvent(b"ping", b"a"), SseEvent(b"", b"b")]),
    "the last name stands": (b"event: a\nevent:b\ndata: x\n\n", [SseEvent(b"b", b"x")]),
    "a name without data is forgotten": (b"event: error\n\ndata: a\n\n", data(b"a")),
    "a BOM at the start": (b"\xef\xbb\xbfdata: a\n\n", data(b"a")),
    "a BOM anywhere else is data": (b"data: \xef\xbb\xbf\n\n", data(b"\xef\xbb\xbf")),
    "U+2028 and U+0085 are data": ("data: a\u2028b\u0085c\n\n".encode(), data("a\u2028b\u0085c".encode())),
    "the last event lacks its blank line": (b"data: a\n\ndata: b\n", data(b"a", b"b")),
    "the last line lacks its end": (b"data: a\n\ndata: b", data(b"a", b"b")),
    "blank lines": (b"\n\n\r\n\rdata: a\n\n\n\n", data(b"a")),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("stream", "expected"), CASES.values(), ids=CASES.keys())
def test_events(stream: bytes, expected: list[SseEvent]) -> None:
    """Row 20: each of these streams means these events, whole and byte by byte."""
    assert parse(stream) == expected
    assert parse(*(stream[at : at + 1] for at in range(len(stream)))) == expected


def test_events_are_given_out_at_once() -> None:
    """Row 20: an event is there with the first byte that ends it, also where a CR might begin a CRLF."""
    parser = SseParser()
    assert parser.feed(b"data: a\r\n\r") == data(b"a")
    assert parser.feed(b"\ndata: b\n") == []
    assert parser.feed(b"\n") == data(b"b")
    assert parser.finish() == []


LINES = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"event: e",
        b": c",
        b"id",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\r\n",
        "🐎".encode(),
        b" x",
    ]
)


@given(st.lists(LINES, max_size=40).map(b"".join), st.lists(st.integers(0, 200), max_size=20))
def test_cuts_make_no_difference(stream: bytes, cuts: list[int]) -> None:
    """Row 20: however a stream is cut, its events are the same."""
    ends = [*sorted(cuts), len(stream)]
    pieces = [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert parse(*pieces) == parse(stream)


def test_a_long_line_in_tiny_pieces() -> None:
    """Row 20: a line of a megabyte that comes byte by byte takes time by its length, not by its square."""
    text = b"x" * 1_000_000
    parser = SseParser()
    for _ in range(len(text)):
        parser.feed(b"x")
    assert parser.feed(b"\ndata: " + text + b"\n\n") == data(text)
