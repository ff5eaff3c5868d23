"""Usage as CSV: times as ISO 8601, money in dollars and exact, empty where something is not known."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

from outrider import v1
from outrider.cli import units
from outrider.cli.terminal import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_TOKENS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
)
_RECORD_COLUMNS = (
    "ended_at",
    "request_id",
    "method",
    "caller",
    "tenant",
    "project",
    "agent",
    "user",
    "requested_model",
    "provider",
    "model",
    "outcome",
    "reason",
    "cache_status",
    "attempts",
    "seconds",
    "first_content_seconds",
    *_TOKENS,
    "cost_usd",
    "estimated",
    "cursor",
)


def print_sums_csv(by: Sequence[str], response: v1.GetUsageResponse) -> None:
    """A line for each group. Money is in dollars, exact; empty where no price is known."""
    write = csv_writer()
    write((*by, "requests", *_TOKENS, "cost_usd", "cost_unknown", "cache_hits", "estimated"))
    for group in response.groups if by else [v1.UsageGroup(totals=response.total)]:
        totals = group.totals
        write(
            (
                *group.values,
                totals.requests,
                *(getattr(totals.usage, name) for name in _TOKENS),
                units.dollars(totals.cost.total_nano_usd) if totals.HasField("cost") else "",
                totals.cost_unknown,
                totals.cache_hits,
                str(totals.usage.source == v1.USAGE_SOURCE_ESTIMATED).lower(),
            )
        )


def print_costs_csv(by: str, response: v1.GetCostBreakdownResponse) -> None:
    """A line for each part."""
    write = csv_writer()
    write((by, "cost_usd", "share", "requests"))
    for share in response.shares:
        cost = units.dollars(share.cost.total_nano_usd) if share.HasField("cost") else ""
        write((share.value, cost, f"{share.share:.6f}", share.requests))


def record_csv() -> Callable[[v1.UsageRecord, str], None]:
    """Write the heading, and give what writes a record with its cursor."""
    write = csv_writer()
    write(_RECORD_COLUMNS)
    return lambda record, cursor: write(_record_cells(record, cursor))


def csv_writer() -> Callable[[Iterable[object]], None]:
    """Writes lines; a terminal gets them without control characters."""
    writer, on_terminal = csv.writer(sys.stdout, lineterminator="\n"), sys.stdout.isatty()

    def write(cells: Iterable[object]) -> None:
        writer.writerow([harmless(str(cell)) if on_terminal else cell for cell in cells])

    return write


def _record_cells(record: v1.UsageRecord, cursor: str) -> tuple[object, ...]:
    by, usage = record.attribution, record.usage
    first = record.time_to_first_content if record.HasField("time_to_first_content") else None
    names = (by.tenant, by.project, by.agent, by.user, record.requested_model, record.provider, record.model)
    return (
        units.iso(record.ended_at),
        record.request_id,
        record.method,
        record.caller,
        *names,
        record.outcome,
        record.reason,
        units.words(units.name_of(v1.CacheStatus, record.cache_status, "CACHE_STATUS_")),
        record.attempts,
        f"{units.seconds_of(record.duration):.6f}",
        f"{units.seconds_of(first):.6f}" if first else "",
        *(getattr(usage, name) if record.HasField("usage") else "" for name in _TOKENS),
        units.dollars(record.cost.total_nano_usd) if record.HasField("cost") else "",
        str(usage.source == v1.USAGE_SOURCE_ESTIMATED).lower(),
        cursor,
    )
