"""Who calls: bearer tokens, where any are configured."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from outrider.core.context import ANYONE, NOBODY, Principal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Callers:
    """Tells callers apart by `authorization: Bearer …`. With none configured, anyone may call.

    Tokens are looked up by their hash, so that a lookup's time tells nothing about a token. `token` is
    asked anew at every call: a token that is kept in a file may change.
    """

    def __init__(self, callers: Mapping[str, tuple[Principal, Callable[[], str]]]) -> None:
        self._callers = callers
        self._by_hash: dict[bytes, Principal] = {}
        self._tokens: tuple[str, ...] = ()

    def identify(self, metadata: Sequence[tuple[str, str | bytes]] | None) -> Principal:
        """The caller; NOBODY where the token is missing or wrong."""
        if not self._callers:
            return ANYONE
        for key, value in metadata or ():
            if key == "authorization" and isinstance(value, str) and value[:7].lower() == "bearer ":
                principal = self._principals().get(_hash(value[7:].strip()))
                if principal is not None:
                    return principal
        return NOBODY

    def named(self, name: str) -> Principal | None:
        """A caller by its name in the configuration; None where there is none of that name."""
        if not self._callers:
            return ANYONE if name == ANYONE.name else None
        known = self._callers.get(name)
        return known[0] if known else None

    def _principals(self) -> Mapping[bytes, Principal]:
        tokens = tuple(token() for _, token in self._callers.values())
        if tokens != self._tokens:
            self._tokens = tokens
            self._by_hash = {
                _hash(token): principal
                for token, (principal, _) in zip(tokens, self._callers.values(), strict=True)
                if token
            }
        return self._by_hash


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
