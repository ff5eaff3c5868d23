"""Idempotency keys: what is known of one, and the port of those that a fleet shares."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from outrider import v1
    from outrider.core.context import RequestContext


class Claim(NamedTuple):
    """Whose a key is: of the request that runs under it, or that has run."""

    request_id: str
    digest: str  # of the request: core.fingerprint.digest
    ended: bool = False  # it was answered, and never runs again


def name_of(call: RequestContext) -> str:
    """Stands for a request's key. Other callers and tenants have others, whatever keys they choose."""
    whole = msgspec.msgpack.encode((call.principal.name, call.tenant, call.request.idempotency_key))
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def reused(request: v1.GenerateRequest) -> GenerationError:
    """The error of a request whose key was used for another one."""
    text = f"the idempotency key {request.idempotency_key!r} was used for another request"
    return GenerationError(Reason.KEY_REUSED, text)


class SharedKeys(Protocol):
    """The keys of a fleet. Contract: tests/stores/test_keys_contract.py.

    Everything raises StoreUnavailableError.
    """

    async def hold(self, name: str, claim: Claim) -> Claim:
        """Claim a key, or hold on to it: for LEASE_SECONDS of streams, or the store's time where it `ended`.

        Gives whose it is now. Where that is another request, nothing was changed.
        """

    async def release(self, name: str, claim: Claim) -> None:
        """Give a key up, if it is this request's: the next one with it runs."""
