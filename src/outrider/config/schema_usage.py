"""Settings of the usage ledger."""

from pathlib import Path

from pydantic import Field

from outrider.config.section import Section
from outrider.config.values import Duration, Size

_HOUR = 3_600  # seconds
_DAY = 24 * _HOUR


class Usage(Section):
    """The usage ledger: what every request used and cost, by whom."""

    enabled: bool = Field(default=True, description="Whether usage is counted.")
    flush_interval: Duration = Field(
        default=1.0,
        ge=0.01,
        le=_HOUR,
        description="Longest that records are gathered before they are sent.",
    )
    journal: Path | None = Field(
        default=None,
        description="Folder in which records wait while Redis is away, and outlive a crash; one for each"
        " sidecar. Without Redis it keeps the sums over a restart. None: they wait in memory.",
    )
    journal_max_bytes: Size = Field(
        default=64 * 2**20,
        ge=2**20,
        le=2**40,
        description="Bytes of the journal; beyond it the oldest records are lost.",
    )
    retention: Duration = Field(
        default=90.0 * _DAY, ge=_HOUR, le=3_660 * _DAY, description="How long sums are kept."
    )
    record_retention: Duration = Field(
        default=7.0 * _DAY,
        ge=_HOUR,
        le=3_660 * _DAY,
        description="How long single records are kept in Redis, at most as long as sums.",
    )
    records: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="Single records that are kept: in Redis for each hour (and each of a Cluster's 8 parts of"
        " it), in memory in all. None: 100,000 in Redis, 10,000 in memory, which take some 3 MB.",
    )
