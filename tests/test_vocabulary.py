"""Vocabularies from files: exact counts where a file is right, a warning and an estimate where it is not."""

from __future__ import annotations

import base64
import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from outrider import v1
from outrider.core.tokens import LocalTokenCounter
from outrider.vocabulary import (
    CL100K_BASE,
    O200K_BASE,
    Vocabulary,
    load_vocabularies,
    load_vocabulary,
)

if TYPE_CHECKING:
    from pathlib import Path

# Every byte, and what it takes to merge "hello" and " world".
TOKENS = [bytes([byte]) for byte in range(256)] + [
    *(b"he", b"ll", b"hell", b"hello"),
    *(b" w", b"or", b" wor", b"ld", b" world"),
]
CONTENT = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(TOKENS))
SMALL = Vocabulary("o200k_base", O200K_BASE.pattern, hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / SMALL.file_name).write_bytes(CONTENT)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("hello world", 2),
        ("hello, world", 3),
        ("hallo", 4),
        ("12345", 5),
        ("é", 2),
        ("<|endoftext|>", 13),  # no text of a caller is a control token
        ("\ud83d", 3),  # half of a surrogate pair is sent as the replacement character
    ],
)
def test_counts(folder: Path, text: str, tokens: int) -> None:
    """Text is cut and merged as the vocabulary says."""
    assert load_vocabulary(folder / SMALL.file_name, SMALL)(text) == tokens


def test_the_counter_uses_it(folder: Path) -> None:
    """A conversation for a model with this vocabulary is counted exactly."""
    counters, warnings = load_vocabularies(folder, [SMALL, CL100K_BASE])
    asked = v1.GenerateRequest(messages=[v1.Message(parts=[v1.Part(text="hello world")])])
    assert LocalTokenCounter(counters).count_input(asked, "gpt-4o") == (3 + 4 + 2, True)
    assert LocalTokenCounter(counters).count_input(asked, "gpt-4")[1] is False
    assert warnings == []


def test_threads_share_it(folder: Path) -> None:
    """One vocabulary serves many threads at once."""
    count = load_vocabulary(folder / SMALL.file_name, SMALL)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(count, ["hello world" * 500] * 64)) == {count("hello world" * 500)}


def test_a_folder_without_vocabularies(tmp_path: Path) -> None:
    """Where nothing is found there is one warning, which names what was looked for and where."""
    counters, warnings = load_vocabularies(tmp_path)
    assert counters == {}
    assert len(warnings) == 1
    for named in ("estimated", O200K_BASE.file_name, CL100K_BASE.file_name, str(tmp_path)):
        assert named in warnings[0]


@pytest.mark.parametrize("content", [b"", b"IQ== 0\n", b"\xff\x00 no vocabulary at all", CONTENT[:-1]])
def test_broken_files(tmp_path: Path, content: bytes) -> None:
    """A file that is not the published one is never counted with: a warning, and an estimate."""
    (tmp_path / O200K_BASE.file_name).write_bytes(content)
    counters, warnings = load_vocabularies(tmp_path)
    assert counters == {}
    assert len(warnings) == 1
    assert "SHA-256" in warnings[0]
    assert str(tmp_path / O200K_BASE.file_name) in warnings[0]


def test_one_broken_file_does_not_cost_the_other(folder: Path) -> None:
    """Each vocabulary stands for itself."""
    (folder / CL100K_BASE.file_name).write_bytes(b"broken")
    counters, warnings = load_vocabularies(folder, [SMALL, CL100K_BASE])
    assert list(counters) == [SMALL.name]
    assert len(warnings) == 1


def test_unreadable_file(tmp_path: Path) -> None:
    """What cannot be read, such as a folder of that name, is a warning too."""
    (tmp_path / O200K_BASE.file_name).mkdir()
    counters, warnings = load_vocabularies(tmp_path)
    assert counters == {}
    assert "cannot be read" in warnings[0]


def test_without_tiktoken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the optional package is missing, one warning for all files says how to get it."""
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    same = replace(SMALL, name="another")
    (folder / same.file_name).write_bytes(CONTENT)
    counters, warnings = load_vocabularies(folder, [SMALL, same])
    assert counters == {}
    assert len(warnings) == 1
    assert "outrider[tokens]" in warnings[0]
