"""Answers as bytes, and bytes that are none."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.answers import StoredAnswer
from outrider.stores.answer_codec import LARGEST, LONGEST_HEAD, decode, encode, peek
from outrider.stores.answer_label import Label

KEY = "0f" * 32

texts = st.text(max_size=20)
times = st.floats(0, 1e10)
messages = st.builds(
    v1.CompleteResponse,
    message=st.builds(
        v1.Message,
        parts=st.lists(
            st.builds(v1.Part, text=st.text() | st.just("a" * 5_000), signature=st.binary()), max_size=3
        ),
    ),
    completed=st.none() | st.builds(v1.Completed, finish_reason=st.integers(0, 9), response_id=texts),
)
answers = st.builds(
    StoredAnswer,
    answer=messages,
    stored_at=times,
    fresh_for=times,
    stale_for=times,
    tenant=texts,
    model=texts,
    labels=st.dictionaries(texts, texts, max_size=3),
)


def packed(text: str = "yes", epoch: int = 0) -> bytes:
    answer = v1.CompleteResponse(message=v1.Message(parts=[v1.Part(text=text)]))
    data = encode(KEY, StoredAnswer(answer, 1.0, 2.0), epoch)
    assert data is not None
    return data


def forged(label: bytes, body: bytes, flags: int, length: int) -> bytes:
    """Bytes with a checksum that is right."""
    checked = struct.pack(">BII", flags, len(label), length) + label + body
    return b"ora\x01" + struct.pack(">I", zlib.crc32(checked, zlib.crc32(KEY.encode()))) + checked


LABEL = msgspec.msgpack.encode(Label(1.0, 2.0, 0.0, "", "", {}))


@given(texts, answers, st.integers(0, 2**53))
def test_round_trip(key: str, answer: StoredAnswer, epoch: int) -> None:
    """Whatever is stored comes back as it was, and its label can be read alone."""
    data = encode(key, answer, epoch)

    assert data is not None
    label = Label.of(answer, epoch)
    decoded = decode(key, data)
    assert decoded == (label, answer.answer)
    assert decoded[0].attach(decoded[1]) == answer
    assert peek(data[:LONGEST_HEAD]) == label


def test_what_is_large_is_compressed() -> None:
    """A long answer takes a fraction of its size; a short one is left as it is."""
    assert len(packed("all work and no play " * 1_000)) < 1_000
    assert b"short answer" in packed("short answer")


@given(st.data())
def test_one_wrong_bit_is_noticed(data: st.DataObject) -> None:
    """No single bit can be other than it was, in a plain answer or a packed one."""
    whole = bytearray(packed("a" * data.draw(st.sampled_from([1, 2_000]))))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8

    assert decode(KEY, bytes(whole)) is None


@given(st.data())
def test_what_is_cut_or_padded_is_nothing(data: st.DataObject) -> None:
    """An answer that lacks its end, or has more behind it, is none."""
    whole = packed("a" * data.draw(st.sampled_from([1, 2_000])))
    cut = data.draw(st.integers(0, len(whole) - 1))

    assert decode(KEY, whole[:cut]) is None
    assert decode(KEY, whole + b"\0") is None
    peek(whole[:cut])


@given(st.binary() | st.binary().map(lambda rest: b"ora\x01" + rest))
@example(b"ora\x01" + bytes(4) + struct.pack(">BII", 0, 9_000, 0) + b"\x91" * 9_000)
@example(b"ora\x01" + bytes(4) + struct.pack(">BII", 0, 9_006, 0) + b"\x98" + LABEL[1:] + b"\x91" * 9_000)
def test_garbage_is_nothing(data: bytes) -> None:
    """Bytes of any other origin are no answer, and no error."""
    assert decode(KEY, data) is None
    peek(data)


@pytest.mark.parametrize(
    ("label", "body", "flags", "length"),
    [
        (LABEL, zlib.compress(b""), 1, 5),
        (LABEL, b"no zlib", 1, 7),
        (LABEL, zlib.compress(b"\x0a"), 1, 1),
        (LABEL, zlib.compress(b"") + b"more", 1, 0),
        (LABEL, b"\x0a", 0, 1),
        (LABEL, b"", 2, 0),
        (b"\xc1", b"", 0, 0),
        (msgspec.msgpack.encode([1.0]), b"", 0, 0),
        (msgspec.msgpack.encode([float("nan"), 1.0, 1.0, "", "", {}]), b"", 0, 0),
        (msgspec.msgpack.encode([1.0, float("inf"), 1.0, "", "", {}]), b"", 0, 0),
        (LABEL.replace(b"\xa0\xa0", b"\xa1\xff\xa0"), b"", 0, 0),
    ],
)
def test_a_right_checksum_is_not_enough(label: bytes, body: bytes, flags: int, length: int) -> None:
    """What was well stored but is wrong in itself is no answer."""
    assert decode(KEY, forged(LABEL, b"", 0, 0)) is not None

    assert decode(KEY, forged(label, body, flags, length)) is None


@pytest.mark.parametrize("length", [10, LARGEST, LARGEST + 1, 2**32 - 1])
def test_bombs_do_not_go_off(length: int) -> None:
    """A few bytes that unfold to a gigabyte are given up, at no more memory than the largest answer takes."""
    unfolding = zlib.compressobj(9)
    bomb = b"".join(unfolding.compress(bytes(2**24)) for _ in range(8)) + unfolding.flush()
    tracemalloc.start()
    try:
        assert decode(KEY, forged(LABEL, bomb, 1, length)) is None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * min(length, LARGEST) + 2**20


def test_another_form_is_nothing() -> None:
    """What another version of this form has written is left to sidecars of that version."""
    assert decode(KEY, packed().replace(b"ora\x01", b"ora\x02", 1)) is None


def test_the_answer_of_another_key_is_nothing() -> None:
    """Row 22: were Redis's answers ever mixed up, a caller would get no answer rather than another's."""
    assert decode("f0" * 32, packed()) is None


def test_the_longest_label_can_be_read_alone() -> None:
    """All that a valid request can say of itself fits into the bytes that are read of it."""
    name = "\U0001f600" * 64
    labels = {f"{number:02}" + "x" * 254: name for number in range(16)}
    text = random.Random(1).randbytes(10_000).hex()
    answer = StoredAnswer(
        v1.CompleteResponse(message=v1.Message(name=text)), 1.0, 2.0, 3.0, name, name * 2, labels
    )
    data = encode(KEY, answer)

    assert data is not None
    assert peek(data[:LONGEST_HEAD]) == Label.of(answer)


def test_what_could_not_be_read_back_is_not_written() -> None:
    """An answer beyond the bound of reading has no bytes."""
    answer = v1.CompleteResponse(message=v1.Message(name="a" * (LARGEST + 1)))

    assert encode(KEY, StoredAnswer(answer, 1.0, 2.0)) is None
