"""Keys: given, read from files, and changed under way."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from outrider.providers.credentials import KeyFile, LiteralKey

if TYPE_CHECKING:
    from pathlib import Path


class ManualClock:
    """A monotonic clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float = 1.0) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> ManualClock:
    """Time for one test."""
    return ManualClock()


def write(path: Path, key: str, age: float = 60.0) -> None:
    """Put a key into a file that was last changed some seconds ago."""
    path.write_text(key)
    at = time.time() - age
    os.utime(path, (at, at))


def test_literal_key_is_given_out_without_blanks() -> None:
    """A line end from `echo` or a copied blank does not become part of the key."""
    assert LiteralKey(" sk-abc\n").read() == "sk-abc"


def test_empty_literal_key_is_none() -> None:
    """An empty key is no key, and says so."""
    key = LiteralKey("  ")
    assert key.read() is None
    assert key.problem


@pytest.mark.parametrize(
    "text", ["sk-a\nX-Injected: 1", "sk-a\r\nb", "sk-ключ", "sk-a b", "sk-\x00", "sk-\x7f"]
)
def test_literal_key_that_no_header_can_carry_is_refused(text: str) -> None:
    """A key that would break or extend the HTTP header is an error that does not repeat it."""
    with pytest.raises(ValueError, match="the key holds") as caught:
        LiteralKey(text)
    assert text not in str(caught.value)


def test_no_key_shows_in_repr(tmp_path: Path) -> None:
    """Row 28: neither source shows its key when printed."""
    write(tmp_path / "key", "sk-very-secret")
    for key in (LiteralKey("sk-very-secret"), KeyFile(tmp_path / "key")):
        assert key.read() == "sk-very-secret"
        assert "secret" not in repr(key)


def test_file_is_read_at_the_start(tmp_path: Path, clock: ManualClock) -> None:
    """The key is there from the first request on, even where the file was written a moment ago."""
    write(tmp_path / "key", "\ufeffsk-one\r\n", age=0)
    assert KeyFile(tmp_path / "key", clock).read() == "sk-one"


def test_changed_file_is_read_again(tmp_path: Path, clock: ManualClock) -> None:
    """A new key is used from the next look on, one second later at most."""
    path = tmp_path / "key"
    write(path, "sk-one", age=60)
    key = KeyFile(path, clock)
    write(path, "sk-two", age=30)
    assert key.read() == "sk-one"
    clock.advance()
    assert key.read() == "sk-two"


def test_file_is_looked_at_once_a_second_at_most(tmp_path: Path, clock: ManualClock) -> None:
    """However many requests ask, the file system is asked once a second."""
    path = tmp_path / "key"
    write(path, "sk-one", age=60)
    key = KeyFile(path, clock)
    clock.advance(0.9)
    write(path, "sk-two", age=30)
    assert key.read() == "sk-one"


def test_swapped_symlink_is_noticed(tmp_path: Path, clock: ManualClock) -> None:
    """Kubernetes swaps a directory's symlink: same path, same size, perhaps the same time, other file."""
    for name, text in (("v1", "sk-one"), ("v2", "sk-two")):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "key", text, age=60)
    os.utime(tmp_path / "v2" / "key", ns=(0, (tmp_path / "v1" / "key").stat().st_mtime_ns))
    (tmp_path / "data").symlink_to("v1")
    key = KeyFile(tmp_path / "data" / "key", clock)
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "data")
    clock.advance()
    assert key.read() == "sk-two"


def test_half_written_file_is_not_used(tmp_path: Path, clock: ManualClock) -> None:
    """A file that is being written is left alone until it has rested for a second."""
    path = tmp_path / "key"
    write(path, "sk-one-whole", age=60)
    key = KeyFile(path, clock)
    write(path, "sk-tw", age=-5)
    clock.advance()
    assert key.read() == "sk-one-whole"
    write(path, "sk-two-whole", age=-5)
    clock.advance()
    assert key.read() == "sk-one-whole"
    clock.advance()
    assert key.read() == "sk-two-whole"


@pytest.mark.parametrize("bad", [None, b"", b" \n", b"\xff\xfe", b"sk-a\nsk-b", b"x" * 20_000])
def test_bad_file_leaves_the_last_good_key(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture, bad: bytes | None
) -> None:
    """Missing, empty or absurd: the last good key stays, the operator is told once, and it mends itself."""
    path = tmp_path / "key"
    write(path, "sk-one", age=60)
    key = KeyFile(path, clock)
    if bad is None:
        path.unlink()
    else:
        path.write_bytes(bad)
        os.utime(path, (0, 0))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            clock.advance()
            assert key.read() == "sk-one"
    assert key.problem
    assert len(caplog.records) == 1
    write(path, "sk-two", age=30)
    clock.advance()
    assert key.read() == "sk-two"
    assert not key.problem


def test_each_change_is_told_once(tmp_path: Path, clock: ManualClock) -> None:
    """What is there at the start is no change; a new key is one, a problem, and its end. No key is told."""
    path, told = tmp_path / "key", list[tuple[bool, str]]()
    write(path, "sk-one", age=60)
    key = KeyFile(path, clock, lambda taken, problem: told.append((taken, problem)))
    looks = {
        "nothing": lambda: None,
        "a new key": lambda: write(path, "sk-two", age=50),
        "the same key, written again": lambda: write(path, "sk-two", age=40),
        "empty": lambda: write(path, "", age=30),
        "gone": path.unlink,
        "back, with the last good key": lambda: write(path, "sk-two", age=20),
        "half written": lambda: write(path, "sk-t", age=-5),
        "whole": lambda: write(path, "sk-three", age=10),
    }
    expected = {
        "a new key": [(True, "")],
        "empty": [(False, "it is empty")],
        "gone": [(False, "it cannot be read: No such file or directory")],
        "back, with the last good key": [(False, "")],
        "whole": [(True, "")],
    }
    for name, change in looks.items():
        change()
        for _ in range(3 if name != "half written" else 1):
            clock.advance()
            key.read()
        assert (name, told) == (name, expected.get(name, []))
        told.clear()


def test_two_threads_tell_of_one_change_once(tmp_path: Path, clock: ManualClock) -> None:
    """The thread that writes the log asks for keys, too."""
    path, told = tmp_path / "key", list[bool]()
    write(path, "sk-0", age=60)
    key = KeyFile(path, clock, lambda taken, _: told.append(taken))
    with ThreadPoolExecutor(8) as threads:
        for turn in range(1, 51):
            write(path, f"sk-{turn}", age=60 - turn)
            clock.advance()
            asked = [threads.submit(key.read) for _ in range(8)]
            assert {each.result() for each in asked} <= {f"sk-{turn - 1}", f"sk-{turn}"}
            assert key.read() == f"sk-{turn}"
    assert told == [True] * 50


def test_missing_file_may_come_later(tmp_path: Path, clock: ManualClock) -> None:
    """A provider without its key file is disabled, not broken: the key counts once it is there."""
    key = KeyFile(tmp_path / "key", clock)
    assert key.read() is None
    assert "cannot be read" in key.problem
    write(tmp_path / "key", "sk-one", age=60)
    clock.advance()
    assert key.read() == "sk-one"


def test_reading_is_cheap(tmp_path: Path, clock: ManualClock) -> None:
    """Between looks, a request's question for the key does not touch the file system."""
    write(tmp_path / "key", "sk-one", age=60)
    key = KeyFile(tmp_path / "key", clock)
    (tmp_path / "key").unlink()
    assert [key.read() for _ in range(1000)] == ["sk-one"] * 1000
    assert not key.problem
