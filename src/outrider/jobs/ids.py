"""Names of jobs and batches.

A job's id begins with the time of its arrival, so that ids sort by it. All jobs of a batch share what comes
before their rank, by which they are queued. The id of a job with an idempotency key ends with a digest of
its request, so that whoever uses the key again can be told whether it was for the same.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider import v1

MOST_IN_A_BATCH = 10_000

_BATCH = 27  # characters: 48 bits of milliseconds, 60 random ones
_RANK = 5
_DIGEST = 24
_JOB = re.compile(f"[0-9a-f]{{{_BATCH + _RANK}}}(?:[0-9a-f]{{{_DIGEST}}})?")
_NAMED = re.compile(f"[0-9a-f]{{{_BATCH}}}")


def new_batch() -> str:
    """The id of a new batch, or what the id of a single job begins with."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(8).hex()}"[:_BATCH]


def job_id(batch: str, rank: int, request: v1.GenerateRequest) -> str:
    """The id of the job for a request."""
    return f"{batch}{rank:0{_RANK}x}{digest(request)}"


def digest(request: v1.GenerateRequest) -> str:
    """Stands for all that a request says; empty where it has no idempotency key."""
    if not request.idempotency_key:
        return ""
    said = request.SerializeToString(deterministic=True)
    return hashlib.blake2b(said, digest_size=_DIGEST // 2).hexdigest()


def digest_in(job_id: str) -> str:
    """The digest of a job's request."""
    return job_id[_BATCH + _RANK :]


def is_job(text: str) -> bool:
    """Whether a job can have this id: what callers send becomes the name of a key."""
    return _JOB.fullmatch(text) is not None


def is_batch(text: str) -> bool:
    """The same for a batch."""
    return _NAMED.fullmatch(text) is not None
