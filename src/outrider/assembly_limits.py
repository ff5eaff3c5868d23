"""From the configuration of limits and budgets to the rules that hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.core.quota import Concurrency, Period, Rate, Unit, Window
from outrider.policy.limit_rules import LimitBook, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outrider.config import Budget, Config, LimitRule, ProviderLimits, Tier
    from outrider.core.quota import Bound

_NANO = 1_000_000_000
_BURST_SECONDS = 10  # small bursts pass, and no minute begins with a storm


def limit_book(config: Config) -> LimitBook:
    """Every limit and budget there is: those of callers, of providers, of routes, then budgets."""
    return LimitBook(
        [
            *(_limit(rule, config) for rule in config.limits.rules),
            *(
                Rule({"provider": name}, tuple(_provider_bounds(provider.limits)))
                for name, provider in config.providers.items()
                if provider.limits.limits_rates
            ),
            *(
                Rule({"route": name}, tuple(_bounds(route.limits)))
                for name, route in config.routes.items()
                if route.limits is not None
            ),
            *(rule for budget in config.budgets for rule in _budgets(budget)),
        ]
    )


def max_waits(config: Config) -> dict[str, float]:
    """How long the limits of each provider may hold a request."""
    return {name: provider.limits.max_wait for name, provider in config.providers.items()}


def _limit(rule: LimitRule, config: Config) -> Rule:
    tier = config.tiers[rule.tier] if rule.tier is not None else None
    numbers = tier.model_copy(update=_written(rule)) if tier is not None else rule
    return Rule(dict(rule.scope.items()), tuple(_bounds(numbers)), tier=rule.tier or "")


def _written(rule: LimitRule) -> dict[str, object]:
    return {name: getattr(rule, name) for name in rule.model_fields_set - {"scope", "tier"}}


def _bounds(numbers: Tier) -> Iterator[tuple[Unit, Bound]]:
    if numbers.requests_per_minute is not None:
        burst = numbers.burst or _burst(numbers.requests_per_minute)
        yield Unit.REQUESTS, Rate(numbers.requests_per_minute, burst)
    if numbers.requests_per_day is not None:
        yield Unit.REQUESTS, Window(numbers.requests_per_day, Period.DAY)
    if numbers.tokens_per_minute is not None:
        yield Unit.TOKENS, Rate(numbers.tokens_per_minute, _burst(numbers.tokens_per_minute))
    if numbers.max_concurrency is not None:
        yield Unit.CONCURRENT_REQUESTS, Concurrency(numbers.max_concurrency)


def _provider_bounds(limits: ProviderLimits) -> Iterator[tuple[Unit, Bound]]:
    # How many at the same time is for each sidecar's own gate: the vendor does not count that.
    if limits.requests_per_minute is not None:
        yield Unit.REQUESTS, Rate(limits.requests_per_minute, _burst(limits.requests_per_minute))
    if limits.requests_per_day is not None:
        yield Unit.REQUESTS, Window(limits.requests_per_day, Period.DAY)
    if limits.tokens_per_minute is not None:
        yield Unit.TOKENS, Rate(limits.tokens_per_minute, _burst(limits.tokens_per_minute))


def _budgets(budget: Budget) -> Iterator[Rule]:
    """One rule for each unit: a budget of tokens takes nothing away from one of money."""
    amounts = (
        (Unit.NANO_USD, int(budget.usd * _NANO) if budget.usd is not None else 0),
        (Unit.TOKENS, budget.tokens or 0),
    )
    for unit, amount in amounts:
        if amount:
            window = Window(amount, Period(budget.period), tuple(sorted(set(budget.soft))), budget.hard)
            yield Rule(dict(budget.scope.items()), ((unit, window),), kind=f"{unit}:{budget.period}")


def _burst(per_minute: float) -> float:
    return max(1.0, per_minute * _BURST_SECONDS / 60)
