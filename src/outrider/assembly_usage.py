"""From the configuration of the usage ledger to its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from outrider.core.redis_url import Deployment
from outrider.stores.journal import Journal
from outrider.stores.ledger_writer import LedgerWriter
from outrider.stores.memory_ledger import MemoryLedger

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider import v1
    from outrider.config import Config
    from outrider.core.ledger import LedgerStore
    from outrider.stores.redis_link import RedisLink

_CLUSTER_SHARDS = 8
_RECORDS_IN_REDIS = 100_000  # of an hour and shard
_RECORDS_IN_MEMORY = 10_000


@dataclass(frozen=True, slots=True)
class Ledgers:
    """This sidecar's own usage, and the fleet's, where there is a fleet."""

    local: LedgerStore
    shared: LedgerStore | None


def ledgers(config: Config, link: RedisLink | None) -> Ledgers:
    """Where usage is kept. Beside a shared ledger, the local one is for sums while that is away."""
    usage = config.usage
    if link is None:
        records = usage.records or _RECORDS_IN_MEMORY
        return Ledgers(MemoryLedger(max_records=records, retention=usage.retention), None)
    from outrider.stores.redis_ledger import RedisLedger

    address = config.redis.address
    shared = RedisLedger(
        link,
        shards=_CLUSTER_SHARDS if address is not None and address.deployment is Deployment.CLUSTER else 1,
        retention=usage.retention,
        record_retention=usage.record_retention,
        max_records=usage.records or _RECORDS_IN_REDIS,
    )
    return Ledgers(MemoryLedger(max_records=0, retention=usage.retention), shared)


def ledger_writer(
    config: Config, where: Ledgers, publish: Callable[[v1.UsageRecord], None] | None = None
) -> LedgerWriter | None:
    """The observer that feeds them; None where usage is not counted. `publish` is told of every record."""
    usage = config.usage
    if not usage.enabled:
        return None
    journal = Journal(usage.journal, usage.journal_max_bytes) if usage.journal else None
    return LedgerWriter(
        where.shared or where.local,
        journal,
        flush_interval=usage.flush_interval,
        # What is not in the journal is lost by a kill: it hurries. Larger portions cost less.
        tick=0.05 if journal else 0.25,
        volatile=where.shared is None,
        local=where.local if where.shared is not None else None,
        publish=publish,
    )
