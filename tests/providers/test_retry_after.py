"""How long providers ask to be left alone, in all the ways they have of saying so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.providers import retry_after

NOW = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT

CASES = {
    "absent": ({}, None),
    "seconds": ({"retry-after": "20"}, 20.0),
    "parts of a second": ({"retry-after": "0.5"}, 0.5),
    "zero": ({"retry-after": "0"}, 0.0),
    "with spaces": ({"retry-after": " 20 "}, 20.0),
    "milliseconds": ({"retry-after-ms": "1500"}, 1.5),
    "milliseconds win": ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
    "junk in milliseconds": ({"retry-after-ms": "soon", "retry-after": "20"}, 20.0),
    "date": ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 30.0),
    "date of RFC 850": ({"retry-after": "Wednesday, 21-Oct-15 07:28:30 GMT"}, 30.0),
    "date of asctime": ({"retry-after": "Wed Oct 21 07:28:30 2015"}, 30.0),
    "date with an offset": ({"retry-after": "Wed, 21 Oct 2015 09:28:30 +0200"}, 30.0),
    "past date": ({"retry-after": "Wed, 21 Oct 2015 07:27:00 GMT"}, 0.0),
    "impossible date": ({"retry-after": "Wed, 99 Oct 2015 99:28:30 GMT"}, None),
    "date in a far year": ({"retry-after": "Wed, 21 Oct 99999 07:28:30 GMT"}, None),
    "huge": ({"retry-after": "100000000"}, retry_after.LONGEST),
    "beyond every float": ({"retry-after": "9" * 400}, retry_after.LONGEST),
    "huge milliseconds": ({"retry-after-ms": "9" * 400}, retry_after.LONGEST),
    "negative": ({"retry-after": "-5"}, None),
    "not a number": ({"retry-after": "nan"}, None),
    "infinite": ({"retry-after": "inf"}, None),
    "an exponent": ({"retry-after": "1e3"}, None),
    "a separator": ({"retry-after": "1_000"}, None),
    "other digits": ({"retry-after": "٣"}, None),
    "empty": ({"retry-after": ""}, None),
    "a dot": ({"retry-after": "."}, None),
    "a novel": ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT" + " " * 100}, None),
    "words": ({"retry-after": "later, I hope"}, None),
}


@pytest.mark.parametrize(("headers", "expected"), CASES.values(), ids=CASES.keys())
def test_parse(headers: dict[str, str], expected: float | None) -> None:
    """Row 8: every form is understood, and junk is as if nothing had been said."""
    assert retry_after.parse(headers, NOW) == expected


@given(st.text(), st.text())
def test_any_text(milliseconds: str, seconds: str) -> None:
    """Row 8: whatever the headers hold, the wait is absent or bounded."""
    wait = retry_after.parse({"retry-after-ms": milliseconds, "retry-after": seconds}, NOW)
    assert wait is None or 0 <= wait <= retry_after.LONGEST
