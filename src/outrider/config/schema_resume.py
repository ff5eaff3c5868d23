"""Settings of streams that callers come back to."""

from pydantic import Field

from outrider.config.section import Section
from outrider.config.values import Duration, Size

_HOUR = 3_600  # seconds


class Resume(Section):
    """Streams of requests that ask to be resumable."""

    enabled: bool = Field(default=True, description="Whether events are kept for those who ask.")
    keep: Duration = Field(
        default=120.0,
        gt=0,
        le=24 * _HOUR,
        description="How long an answer is kept after its end.",
    )
    max_bytes: Size = Field(
        default=64 * 2**20, ge=0, le=2**40, description="Bytes of events in the sidecar's memory."
    )
    grace: Duration = Field(
        default=30.0, ge=0, le=_HOUR, description="How long an answer goes on that nobody reads."
    )
