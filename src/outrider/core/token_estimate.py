"""How many tokens a text has, estimated without a vocabulary.

The text is turned into a string of character classes, one byte per UTF-16 unit, and patterns in it are
counted. What each is worth in tokens of `o200k_base` was fitted by `scripts/calibrate_tokens.py`. Every step
runs at the speed of C, so that 100,000 characters of any kind take a few milliseconds.
"""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SAMPLED_ABOVE = 262_144  # characters
_SLICES = 64
_LONGEST_RUN = 64  # characters of blanks in a token, about

# Frequent words of English, whose vocabulary is the largest: its long words are one token more often.
_ENGLISH = (" the ", " of ", " to ", " and ")

# Tokens for each occurrence of a feature, in the order in which `features` gives them.
WEIGHTS = {
    "word": 0.63,
    "4 letters": 0.42,
    "6 letters": 0.91,
    "English word": 0.47,
    "English 6 letters": -1.94,
    "aA": -0.46,
    "aAA": 2.22,
    "AaA": 3.0,
    "punctuation": 0.35,
    "2 punctuation": -0.29,
    "punctuation after blank": 0.85,
    "number": 1.41,
    "blank before number": 0.87,
    "line": 0.89,
    "indented line": 0.17,
    "accented": 0.57,
    "Greek": 0.45,
    "Cyrillic": 0.37,
    "Hebrew": 0.41,
    "Arabic": 0.43,
    "Indic": 0.43,
    "South-East Asian": 0.44,
    "Hangul": 0.79,
    "kana": 0.7,
    "Han": 0.85,
    "symbol": 1.31,
    "surrogate": 0.85,
    "full width": 0.7,
    "other": 2.0,
}

_SCRIPTS = b"lgchritokzpefx"


def estimate(text: str) -> float:
    """Tokens of `o200k_base`. Above 262,144 characters, 64 slices spread evenly stand for the whole."""
    if len(text) <= _SAMPLED_ABOVE:
        return _estimate(text) if text else 0.0
    length, step = _SAMPLED_ABOVE // _SLICES, len(text) // _SLICES
    sample = "".join(text[start : start + length] for start in range(0, step * _SLICES, step))
    return _estimate(sample) * len(text) / len(sample)


def _estimate(text: str) -> float:
    fitted: float = sum(map(mul, WEIGHTS.values(), features(text)))
    return max(fitted, len(text) / _LONGEST_RUN)


def features(text: str) -> tuple[float, ...]:
    """How often each feature in `WEIGHTS` occurs; those of other scripts are left out where all is ASCII."""
    classes = _classes(text)
    count = classes.count
    letters = b" " + classes.translate(_LETTERS)
    words, long = letters.count(b" a"), letters.count(b"aaaaaa")
    digits = classes.replace(b"000", b"#")  # three at a time, as the vocabulary groups them
    numbers = count(b"000") + digits.count(b"0") - digits.count(b"00")
    english = min(1.0, 6 * sum(map(text.count, _ENGLISH)) / (words + 1))
    common = (
        words,
        letters.count(b"aaaa"),
        long,
        english * words,
        english * long,
        count(b"aA"),
        count(b"aAA"),
        count(b"AaA"),
        count(b"."),
        count(b".."),
        count(b" ."),
        numbers,
        count(b" 0"),
        count(b"\n") - count(b"\n\n"),
        count(b"\n  "),
    )
    return common if text.isascii() else common + tuple(map(count, _SCRIPTS))


def _classes(text: str) -> bytes:
    if text.isascii():
        return text.encode().translate(_LOW)
    units = text.encode("utf-16-le", "surrogatepass")
    high = units[1::2]
    # Where the high byte is zero the low byte says the class, elsewhere the high byte does. As integers
    # of any size the two are chosen between, and joined, for the whole text at once.
    low = int.from_bytes(units[::2].translate(_LOW), "little")
    is_low = int.from_bytes(high.translate(_IS_ZERO), "little")
    script = int.from_bytes(high.translate(_HIGH), "little")
    return (low & is_low | script).to_bytes(len(high), "little")


def _table(otherwise: str, *groups: tuple[str, Iterable[int]]) -> bytes:
    table = bytearray(otherwise.encode() * 256)
    for name, members in groups:
        for member in members:
            table[member] = ord(name)
    return bytes(table)


_LOW = _table(
    ".",
    ("a", range(ord("a"), ord("z") + 1)),
    ("A", range(ord("A"), ord("Z") + 1)),
    ("0", range(ord("0"), ord("9") + 1)),
    ("\n", b"\r\n"),
    (" ", b" \t\v\f\xa0"),
    ("p", range(0x80, 0xA0)),
    ("p", range(0xA1, 0xC0)),
    ("l", b"\xaa\xb5\xba"),
    ("l", range(0xC0, 0x100)),
    ("p", b"\xd7\xf7"),
)
# By the high byte of UTF-16, https://www.unicode.org/charts/: 256 characters at a time.
_HIGH = _table(
    "x",
    ("\0", (0x00,)),
    ("l", (0x01, 0x02, 0x1E)),  # Latin with marks
    ("g", (0x03, 0x1F)),
    ("c", (0x04,)),
    ("h", (0x05,)),  # with Armenian
    ("r", (0x06, 0x07, 0x08, 0xFB, 0xFC, 0xFD)),
    ("i", range(0x09, 0x0E)),
    ("t", (0x0E, 0x0F, 0x10, 0x17)),  # Thai, Lao, Tibetan, Burmese, Georgian, Khmer
    ("o", (0x11, *range(0xAC, 0xD8))),
    ("k", (0x30, 0x31)),  # with the punctuation of East Asia
    ("z", (*range(0x34, 0xA0), 0xF9, 0xFA)),
    ("p", (*range(0x20, 0x30), 0x32, 0x33, 0xFE)),
    ("e", range(0xD8, 0xE0)),  # emoji, and whatever else needs two units
    ("f", (0xFF,)),
)
_IS_ZERO = bytes([0xFF]) + bytes(255)
_LETTERS = _table(" ", ("a", b"aAl"))
