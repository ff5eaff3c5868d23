"""How a stream has ended, as bytes that other sidecars read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from outrider import v1
from outrider.core.errors import Fact, Reason, Violation
from outrider.core.streams import Ending, Failure

if TYPE_CHECKING:
    from google.protobuf.message import Message


class _Failure(msgspec.Struct, array_like=True):
    """The fields may be added to at the end: older sidecars read over what they do not know."""

    reason: str
    message: str
    committed: bool
    provider: str = ""
    model: str = ""
    upstream_status: int = 0
    retry_after: float | None = None
    violations: list[tuple[str, str]] = []
    quota_subject: str = ""
    detail: bytes | None = None
    job_id: str = ""
    free_in: float | None = None


_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(_Failure | None).decode


def encode(ending: Ending) -> bytes:
    """The bytes."""
    failure = ending.failure
    if failure is None:
        return _write(None)
    fact = failure.fact
    return _write(
        _Failure(
            fact.reason,
            fact.message,
            failure.committed,
            fact.provider,
            fact.model,
            fact.upstream_status,
            fact.retry_after,
            [(violation.field, violation.description) for violation in fact.violations],
            fact.quota_subject,
            _bytes_of(failure.detail),
            fact.job_id,
            fact.free_in,
        )
    )


def decode(data: bytes) -> Ending:
    """What `encode` was given. A reason that only newer sidecars know is INTERNAL."""
    found = _read(data)
    if found is None:
        return Ending()
    fact = Fact(
        Reason(found.reason) if found.reason in Reason.__members__ else Reason.INTERNAL,
        found.message,
        provider=found.provider,
        model=found.model,
        upstream_status=found.upstream_status,
        retry_after=found.retry_after,
        violations=tuple(Violation(*each) for each in found.violations),
        job_id=found.job_id,
        quota_subject=found.quota_subject,
        free_in=found.free_in,
    )
    detail = None if found.detail is None else v1.GenerationFailure.FromString(found.detail)
    return Ending(Failure(fact, found.committed, detail))


def _bytes_of(message: Message | None) -> bytes | None:
    return None if message is None else message.SerializeToString()
