"""Exact token counts with tiktoken, where the files of OpenAI's vocabularies are at hand. Never a network.

tiktoken itself fetches these files when it is first used, which a sealed pod cannot; so they are read here.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Counter: TypeAlias = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One vocabulary: its name, how it cuts text before merging, and the SHA-256 of its file."""

    name: str
    pattern: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name that OpenAI publishes it under."""
        return f"{self.name}.tiktoken"


class VocabularyError(Exception):
    """A vocabulary cannot be used. The message says why and is free of secrets."""


# Patterns and sums as in tiktoken_ext/openai_public.py of tiktoken 0.14 (MIT licence).
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K_BASE = Vocabulary(
    "o200k_base",
    "|".join(
        (
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + _CONTRACTION,
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + _CONTRACTION,
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    ),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
)
CL100K_BASE = Vocabulary(
    "cl100k_base",
    "|".join(
        (
            r"'(?i:[sdmt]|ll|ve|re)",
            r"[^\r\n\p{L}\p{N}]?+\p{L}++",
            r"\p{N}{1,3}+",
            r" ?[^\s\p{L}\p{N}]++[\r\n]*+",
            r"\s++$",
            r"\s*[\r\n]",
            r"\s+(?!\S)",
            r"\s",
        )
    ),
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
)


def load_vocabularies(
    folder: Path, known: Sequence[Vocabulary] = (O200K_BASE, CL100K_BASE)
) -> tuple[dict[str, Counter], list[str]]:
    """Counters by vocabulary name for the files in `folder`, and why those that are there cannot be used.

    Reads megabytes and takes up to half a second: call it before serving, or on a thread.
    """
    counters: dict[str, Counter] = {}
    warnings: list[str] = []
    missing = 0
    for vocabulary in known:
        try:
            counters[vocabulary.name] = load_vocabulary(folder / vocabulary.file_name, vocabulary)
        except FileNotFoundError:
            missing += 1
        except VocabularyError as error:
            warnings.append(f"tokens are estimated: {error}")
    if missing == len(known):
        expected = " or ".join(vocabulary.file_name for vocabulary in known)
        warnings.append(f"tokens are estimated: there is no {expected} in {folder}")
    return counters, list(dict.fromkeys(warnings))


def load_vocabulary(file: Path, vocabulary: Vocabulary) -> Counter:
    """A thread-safe function from text to its number of tokens. Raises VocabularyError, FileNotFoundError."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise VocabularyError(f"{file} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != vocabulary.sha256:
        raise VocabularyError(f"{file} is not {vocabulary.name}: its SHA-256 is not the published one")
    try:
        import tiktoken
    except ImportError as error:
        raise VocabularyError("tiktoken is not installed; it comes with outrider[tokens]") from error
    encoding = tiktoken.Encoding(
        vocabulary.name, pat_str=vocabulary.pattern, mergeable_ranks=_ranks(content), special_tokens={}
    )
    return lambda text: len(encoding.encode_ordinary(text))


def _ranks(content: bytes) -> dict[bytes, int]:
    """Lines of a token in base64, a blank and its rank."""
    pairs = (line.split() for line in content.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}
