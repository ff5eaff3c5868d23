"""A job as Redis keeps it, for the scripts to read: jobs.lua says where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from outrider.stores.job_record import EXPIRED, view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider import v1
    from outrider.stores.job_record import JobRecord

MOVED = "moved"
"""The token of an answer that another store has had."""


class SharedJob(msgspec.Struct, kw_only=True):
    """The part that scripts read and change. Times are milliseconds of Redis's clock; 0: not yet."""

    id: str
    state: int
    priority: int
    tenant: str
    caller: str
    batch: str
    key: str
    ttl: int
    at: int  # when it was accepted
    expires: int
    not_before: int = 0
    started: int = 0
    ended: int = 0
    tries: int = 0
    failures: int = 0
    losses: int = 0
    retries: int = 0
    trace: str = ""
    size: int = 0
    answer: int = 0  # bytes of the answer
    token: str = ""
    worker: str = ""
    entry: str = ""  # in the stream of what is worked on
    reason: str = ""
    message: str = ""
    group: str = ""
    untold: bool = False  # it expired where Redis may have had it: nobody was told


_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(SharedJob).decode


def parts_of(record: JobRecord, now: float) -> tuple[bytes, bytes, bytes]:
    """What the script is given to accept a job. Times are distances from now: clocks may differ."""
    standing = record.standing

    def since(moment: float) -> int:
        return max(1, _ms(now - moment)) if moment else 0

    state = SharedJob(
        id=record.job_id,
        state=standing.state,
        priority=record.priority,
        tenant=record.tenant,
        caller=record.caller,
        batch=record.batch,
        key=record.key,
        ttl=_ms(record.ttl),
        at=max(0, _ms(now - record.submitted_at)),
        expires=max(1, _ms(standing.expires_at - now)),
        not_before=max(0, _ms(standing.not_before - now)),
        started=since(standing.started_at),
        ended=since(standing.ended_at),
        tries=standing.tries,
        failures=standing.failures,
        losses=standing.losses,
        retries=record.max_retries,
        trace=record.traceparent,
        size=record.size,
        answer=len(record.result),
        token=MOVED if record.result else "",
        reason=standing.reason,
        message=standing.message,
        group=record.group,
        untold=standing.held and standing.state == EXPIRED,
    )
    return _write(state), record.job, record.outcome


def read(parts: Sequence[bytes], position: int = 0) -> tuple[SharedJob, v1.Job]:
    """What a script shows of a job, and the job as callers see it."""
    job, state, outcome = parts
    shared = _read(state)
    times = {
        "submitted_at": shared.at,
        "started_at": shared.started,
        "ended_at": shared.ended,
        "expires_at": shared.expires,
    }
    seen = view(
        job,
        outcome,
        {name: ms / 1_000 for name, ms in times.items()},
        job_id=shared.id,
        state=shared.state,
        tries=shared.tries,
        reason=shared.reason,
        message=shared.message,
        position=position,
    )
    return shared, seen


def arrival(parts: Sequence[bytes]) -> int:
    """When it was accepted, by Redis's clock."""
    return _read(parts[1]).at


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)
