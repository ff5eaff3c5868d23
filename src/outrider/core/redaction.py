"""Takes keys out of text that is about to leave the process: error messages, log lines, statuses."""

from __future__ import annotations

import base64
import html
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "[redacted]"

_SHORTEST = 4  # characters; less is not a secret but a word
_PIECE = 8  # characters of a secret's beginning or end that give too much away

# Something of each pattern, in lower case: text without any of it is not searched.
_HINTS = ("sk-", "gsk_", "xai-", "hf_", "aiza", "bearer", "key", "token=", "authorization")
_PATTERN = re.compile(
    r"""
      \b (?: sk- | gsk_ | xai- | hf_ ) (?: [\w*•…-] | \.{2,}+ ){6,}  # masked ones too: sk-abcd****wxyz
    | \b AIza [\w-]{30,}
    | ( \b bearer \s+ ) [\w.~+/=*-]{16,}
    | ( [?&] [\w-]* (?: key | token ) = ) [^&\s"'<>]+
    | ( (?: \b authorization | api[-_]?key ) ["']? \s* [:=] \s* ["']? (?: bearer\s | basic\s )? )
      [^\s"',}]+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PERCENT = re.compile("%[0-9A-F]{2}")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with `secrets`, and whatever looks like a key, replaced by "[redacted]".

    A secret is found plain, percent-encoded, in base64, and escaped for JSON or HTML; so are its beginning
    and its end, from 8 characters on. What is shorter than 4 characters is not taken for a secret.
    """
    for secret in secrets:
        for form in _forms(secret):
            text = _strike(text, form)
    lowered = text.lower()
    if any(hint in lowered for hint in _HINTS):
        text = _PATTERN.sub(_keep_label, text)
    return text


def _keep_label(match: re.Match[str]) -> str:
    label = match[match.lastindex] if match.lastindex else ""
    return f"{label}{MARK}"


def _strike(text: str, form: str) -> str:
    """Replace what begins or ends like `form`, as far as it agrees with it."""
    if form[:_PIECE] in text:
        text = _strike_beginnings(text, form, MARK)
    if form[-_PIECE:] in text:
        text = _strike_beginnings(text[::-1], form[::-1], MARK[::-1])[::-1]
    return text


def _strike_beginnings(text: str, form: str, mark: str) -> str:
    kept: list[str] = []
    done = 0
    while (start := text.find(form[:_PIECE], done)) >= 0:
        kept += (text[done:start], mark)
        done = start
        for expected in form:
            if not text.startswith(expected, done):
                break
            done += 1
    return "".join((*kept, text[done:]))


@lru_cache(maxsize=64)
def _forms(secret: str) -> tuple[str, ...]:
    """Every way in which a secret may be written, longest first."""
    if len(secret) < _SHORTEST:
        return ()
    quoted = quote(secret, safe="")
    escaped = json.dumps(secret)[1:-1]
    forms = {
        secret,
        quoted,
        _PERCENT.sub(lambda code: code[0].lower(), quoted),
        escaped,
        escaped.replace("/", "\\/"),
        html.escape(secret),
        *_base64_forms(secret.encode()),
    }
    return tuple(sorted(forms, key=len, reverse=True))


def _base64_forms(secret: bytes) -> Iterable[str]:
    """The characters of a base64 text that a secret inside it determines, whatever stands around it."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret).rstrip(b"=").decode()
        shared_end = (before + len(secret)) % 3 != 0
        form = encoded[(0, 2, 3)[before] : len(encoded) - shared_end]
        if len(form) >= _PIECE:
            yield form
            yield form.replace("+", "-").replace("/", "_")
