"""What a request used and cost in all: its answer, and tries that gave none but may be billed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1

if TYPE_CHECKING:
    from outrider.core.context import Record

_TOKENS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "cache_write_1h_input_tokens",
    "reasoning_output_tokens",
)
_MONEY = (
    "total_nano_usd",
    "input_nano_usd",
    "cached_input_nano_usd",
    "cache_write_nano_usd",
    "output_nano_usd",
)


def spent(record: Record) -> tuple[v1.Usage | None, v1.Cost | None]:
    """Of a record that is settled. No cost where the price of the answer, or of all tries, is unknown."""
    if not record.lost:
        return record.usage, record.cost
    tries = [attempt for attempt, _ in record.lost if attempt.HasField("usage")]
    usages = [*([record.usage] if record.usage is not None else []), *(each.usage for each in tries)]
    costs = [*([record.cost] if record.cost is not None else [])]
    costs += [each.cost for each in tries if each.HasField("cost")]
    is_unknown = not costs or (record.usage is not None and record.cost is None)
    return _sum_of_usages(usages) if usages else None, None if is_unknown else _sum_of_costs(
        costs, len(usages)
    )


def _sum_of_usages(usages: list[v1.Usage]) -> v1.Usage:
    counted = all(each.source == v1.USAGE_SOURCE_PROVIDER for each in usages)
    total = v1.Usage(source=v1.USAGE_SOURCE_PROVIDER if counted else v1.USAGE_SOURCE_ESTIMATED)
    for name in _TOKENS:
        setattr(total, name, sum(getattr(each, name) for each in usages))
    return total


def _sum_of_costs(costs: list[v1.Cost], tries: int) -> v1.Cost:
    """Where one of the tries has no known price, the sum is an estimate, too."""
    total = v1.Cost(estimated=len(costs) < tries or any(each.estimated for each in costs))
    for name in _MONEY:
        setattr(total, name, sum(getattr(each, name) for each in costs))
    return total
