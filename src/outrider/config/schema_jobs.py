"""Settings of requests that are left with the sidecar."""

from pathlib import Path

from pydantic import Field

from outrider.config.section import Section
from outrider.config.values import Duration, Size

_HOUR = 3_600  # seconds
_MONTH = 31 * 24 * _HOUR


class FleetQueue(Section):
    """Bounds of the queue in Redis."""

    capacity: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="Jobs that have not ended: from 80 % on none is accepted, down to 60 %.",
    )
    max_bytes: Size = Field(
        default=2**30, ge=2**20, le=2**40, description="Bytes of jobs that have not ended; the same holds."
    )
    max_result_bytes: Size = Field(
        default=2**30, ge=2**20, le=2**40, description="Bytes of answers; beyond them the oldest are dropped."
    )


class Jobs(Section):
    """Requests that wait for their turn, and how they are worked on."""

    enabled: bool = Field(default=True, description="Whether requests can be left with the sidecar.")
    workers: int = Field(
        default=8, ge=0, le=10_000, description="Jobs that are worked on at once. 0: others work on them."
    )
    ttl: Duration = Field(
        default=4.0 * _HOUR,
        ge=1,
        le=_MONTH,
        description="How long a job may take to end, and how long its answer is kept, unless it says.",
    )
    max_ttl: Duration = Field(
        default=24.0 * _HOUR, ge=1, le=_MONTH, description="The longest of these that a job may ask for."
    )
    max_retries: int = Field(
        default=3, ge=0, le=100, description="Tries after the first one of a job that does not say."
    )
    retry_delay: Duration = Field(
        default=5.0,
        gt=0,
        le=_HOUR,
        description="Until the second try; each that follows waits twice as long.",
    )
    lease: Duration = Field(
        default=30.0,
        ge=5,
        le=_HOUR,
        description="How long a job stays with a sidecar that has gone silent; then another one works on it.",
    )
    capacity: int = Field(
        default=1_000,
        ge=1,
        le=1_000_000,
        description="Jobs that have not ended, in this sidecar: from 80 % on none is accepted, down to 60 %.",
    )
    max_bytes: Size = Field(
        default=100 * 10**6,
        ge=2**20,
        le=2**40,
        description="Bytes of jobs that have not ended; the same holds. As many are kept of those that have.",
    )
    max_result_bytes: Size = Field(
        default=100 * 10**6,
        ge=2**20,
        le=2**40,
        description="Bytes of answers in this sidecar; beyond them the oldest are dropped.",
    )
    fleet: FleetQueue = Field(
        default=FleetQueue(), description="The queue that sidecars share in Redis; the same in each of them."
    )
    journal: Path | None = Field(
        default=None,
        description="Folder in which jobs outlive the sidecar; one for each. With Redis it has those that"
        " were accepted while that was away. None: they wait in memory.",
    )
