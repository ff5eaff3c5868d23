"""Sums of usage while they grow: lists of whole numbers, which cost less than messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from outrider import v1
from outrider.core.ledger import UsageKey

if TYPE_CHECKING:
    from collections.abc import Sequence

Totals: TypeAlias = "list[int]"
"""In the order of the constants below. Redis keeps it too: append new ones, never reorder."""

(
    REQUESTS,
    MEASURED,  # requests that used tokens
    ESTIMATED,  # of those: where tokens are estimated
    INPUT,
    OUTPUT,
    CACHED_INPUT,
    CACHE_WRITE,
    REASONING,
    CACHE_WRITE_1H,
    PRICED,  # requests whose price is known
    ESTIMATED_COST,  # of those: where it comes of estimated tokens
    TOTAL_USD,  # these are nano-USD
    INPUT_USD,
    CACHED_INPUT_USD,
    CACHE_WRITE_USD,
    OUTPUT_USD,
    COST_UNKNOWN,
    CACHE_HITS,
) = range(18)

OTHER = "other"
_HOUR = 3600  # seconds
_HITS = frozenset({v1.CACHE_STATUS_HIT, v1.CACHE_STATUS_STALE})


def hour_of(record: v1.UsageRecord) -> int:
    """The hour in which it ended, counted from the Unix epoch."""
    return record.ended_at.seconds // _HOUR


def key_of(record: v1.UsageRecord) -> UsageKey:
    """What it is counted by."""
    by = record.attribution
    return UsageKey(
        hour_of(record), by.tenant, by.project, by.agent, record.model, record.provider, record.outcome
    )


def crowd_of(key: UsageKey) -> UsageKey:
    """What it is counted by where the hour holds too many keys: without the names that callers invent."""
    return key._replace(tenant=OTHER, project=OTHER, agent=OTHER, model=OTHER)


def new_totals() -> Totals:
    """Of nothing."""
    return [0] * 18


def count(record: v1.UsageRecord, totals: Totals) -> None:
    """Add one request."""
    hit = record.cache_status in _HITS
    totals[REQUESTS] += 1
    totals[CACHE_HITS] += hit
    measured, priced = record.HasField("usage"), record.HasField("cost")
    if measured:
        _count_tokens(record.usage, totals)
    if priced:
        _count_cost(record.cost, totals)
    elif measured and not hit:
        totals[COST_UNKNOWN] += 1


def add(addend: Sequence[int], totals: Totals) -> None:
    """Add sums to sums."""
    for place, amount in enumerate(addend):
        totals[place] += amount


def to_message(totals: Sequence[int]) -> v1.UsageTotals:
    """As the API tells it."""
    message = v1.UsageTotals(
        requests=totals[REQUESTS], cost_unknown=totals[COST_UNKNOWN], cache_hits=totals[CACHE_HITS]
    )
    if totals[MEASURED]:
        message.usage.CopyFrom(
            v1.Usage(
                input_tokens=totals[INPUT],
                output_tokens=totals[OUTPUT],
                cached_input_tokens=totals[CACHED_INPUT],
                cache_write_input_tokens=totals[CACHE_WRITE],
                reasoning_output_tokens=totals[REASONING],
                cache_write_1h_input_tokens=totals[CACHE_WRITE_1H],
                source=v1.USAGE_SOURCE_ESTIMATED if totals[ESTIMATED] else v1.USAGE_SOURCE_PROVIDER,
            )
        )
    if totals[PRICED]:
        message.cost.CopyFrom(
            v1.Cost(
                total_nano_usd=totals[TOTAL_USD],
                input_nano_usd=totals[INPUT_USD],
                cached_input_nano_usd=totals[CACHED_INPUT_USD],
                cache_write_nano_usd=totals[CACHE_WRITE_USD],
                output_nano_usd=totals[OUTPUT_USD],
                estimated=totals[ESTIMATED_COST] > 0,
            )
        )
    return message


def _count_tokens(usage: v1.Usage, totals: Totals) -> None:
    totals[MEASURED] += 1
    totals[ESTIMATED] += usage.source == v1.USAGE_SOURCE_ESTIMATED
    totals[INPUT] += usage.input_tokens
    totals[OUTPUT] += usage.output_tokens
    totals[CACHED_INPUT] += usage.cached_input_tokens
    totals[CACHE_WRITE] += usage.cache_write_input_tokens
    totals[REASONING] += usage.reasoning_output_tokens
    totals[CACHE_WRITE_1H] += usage.cache_write_1h_input_tokens


def _count_cost(cost: v1.Cost, totals: Totals) -> None:
    totals[PRICED] += 1
    totals[ESTIMATED_COST] += cost.estimated
    totals[TOTAL_USD] += cost.total_nano_usd
    totals[INPUT_USD] += cost.input_nano_usd
    totals[CACHED_INPUT_USD] += cost.cached_input_nano_usd
    totals[CACHE_WRITE_USD] += cost.cache_write_nano_usd
    totals[OUTPUT_USD] += cost.output_nano_usd
