"""Settings of idempotency keys."""

from pydantic import Field

from outrider.config.section import Section
from outrider.config.values import Duration, Size

_HOUR = 3_600  # seconds
_MONTH = 31 * 24 * _HOUR


class Idempotency(Section):
    """Requests that run once, however often they are sent. Keys of jobs are kept as long as their jobs."""

    keep: Duration = Field(
        default=4.0 * _HOUR,
        ge=1,
        le=_MONTH,
        description="How long a key, and the answer under it, is kept after the end of its request.",
    )
    max_bytes: Size = Field(
        default=64 * 2**20, ge=0, le=2**40, description="Bytes of answers in the sidecar's memory."
    )
    grace: Duration = Field(
        default=30.0, ge=0, le=_HOUR, description="How long a request runs on whose callers have all left."
    )
