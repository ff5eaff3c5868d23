"""What becomes of a job after a try that failed, and how its failure is told to whoever wants its answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from outrider import v1
from outrider.core.errors import Fault, GenerationError, Reason, Remedy
from outrider.jobs.states import word_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

_LONGEST_PAUSE = 600.0  # seconds, unless a provider asks for more
_LOOK_AGAIN = 5.0  # a breaker may be closed before it said it would


class Retry(NamedTuple):
    """It is tried again after so many seconds. `counts`: as one of its retries."""

    delay: float
    counts: bool


def after(
    error: GenerationError, *, asked: bool, failures: int, delay: float, random: Random
) -> Retry | None:
    """What follows a try that failed, after so many others; None: nothing, the job has failed.

    `asked`: a provider was. What was only kept waiting here uses up no retry; at the latest it expires.
    """
    if error.reason is Reason.DRAINING:
        return Retry(0.0, counts=False)
    wanted = error.fact.retry_after or 0.0
    if wanted == math.inf or not _may_pass(error):
        return None
    if error.reason is Reason.BREAKER_OPEN:
        wanted = min(wanted, _LOOK_AGAIN)
    if wanted and not asked:
        return Retry(wanted, counts=False)
    pause = min(delay * 2 ** min(failures, 16), _LONGEST_PAUSE)
    # Those that failed together are not to come back together.
    return Retry(max(wanted, pause * random.uniform(0.75, 1.0)), counts=asked)


def reason_of(error: GenerationError, attempts: Sequence[v1.Attempt]) -> tuple[str, str]:
    """Why a try failed, and the same for people. A breaker that it met on its way hides what had failed."""
    failed = [each for each in attempts if each.outcome == v1.Attempt.OUTCOME_FAILED]
    if error.reason is not Reason.BREAKER_OPEN or not failed:
        return error.reason, error.fact.message
    last = failed[-1]
    return last.reason, f"{last.provider}/{last.model} failed; after that, {error.fact.message}"


def failure_of(job: v1.Job) -> GenerationError:
    """The error of a job that has no answer. What helps is another job, not another look at this one."""
    if job.state == v1.JOB_STATE_CANCELLED:
        return _final(job, Reason.CANCELLED, "the job was cancelled")
    if job.state == v1.JOB_STATE_EXPIRED:
        last = f"; its last try failed: {job.message}" if job.message else ""
        return _final(job, Reason.JOB_EXPIRED, f"the job's time was up before it had an answer{last}")
    if job.state == v1.JOB_STATE_FAILED:
        known = job.reason in Reason.__members__
        return _final(job, Reason(job.reason) if known else Reason.INTERNAL, job.message or job.reason)
    return GenerationError(
        Reason.JOB_NOT_ENDED, f"job {job.job_id} has no answer yet: it is {word_of(job.state)}"
    )


def unknown(what: str, name: str) -> GenerationError:
    """The error of a job or a batch that its caller does not have."""
    return GenerationError(Reason.JOB_UNKNOWN, f"no {what} of yours is called {name[:64]!r}, or not any more")


def _may_pass(error: GenerationError) -> bool:
    if error.reason is Reason.CALLER_RATE_LIMITED:
        return True
    traits = error.traits
    if traits.fault is Fault.SIDECAR:
        return error.reason is not Reason.INTERNAL
    return traits.remedy is not Remedy.NONE


def _final(job: v1.Job, reason: Reason, message: str) -> GenerationError:
    """With what the last try did, as Generate would have told."""
    error = GenerationError(reason, message, retry_after=math.inf)
    if job.HasField("failure"):
        error.failure = job.failure
        for last in job.failure.attempts[-1:]:
            error.refine(provider=last.provider, model=last.model, upstream_status=last.upstream_status)
    return error
