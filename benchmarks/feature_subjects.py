"""Outrider with one thing that it counts or keeps switched on at a time: in its memory, and in Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from benchmarks.subjects import MODELS, PLAIN, outrider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.calls import Target
    from benchmarks.subjects import Subject

# As much as nobody reaches: it is the counting that is measured.
_REQUESTS: Final = {"requests_per_minute": 10_000_000}
_TOKENS: Final = {"tokens_per_minute": 1_000_000_000_000}
_BUDGET: Final = {"budgets": [{"scope": {"tenant": "*"}, "usd": 1_000_000}]}
_PRICES: Final = {"prices": {f"mock/{model}": {"input": 1, "output": 4} for model in MODELS}}
_NO_LEDGER: Final = {"usage": {"enabled": False}}

_ACME: Final = replace(PLAIN, tenant="acme")
_SAME: Final = replace(_ACME, cacheable=True)
_DIFFERENT: Final = replace(_SAME, prompts=0)
# As many as there are callers: no two of them ask the same at the same time, which would join them.
_KNOWN: Final = replace(_SAME, prompts=64)


def _rules(*limits: Mapping[str, object]) -> dict[str, Any]:
    rule: dict[str, object] = {"scope": {"tenant": "*"}}
    for limit in limits:
        rule |= limit
    return {"limits": {"rules": [rule]}}


REDIS: Final = outrider(
    "outrider-redis",
    "Outrider with Redis",
    redis=True,
    asks=_DIFFERENT,
    settings={**_PRICES, **_rules(_REQUESTS), **_BUDGET},
)
"""Every request asks the cache in vain and is stored, has a limit and a budget, and is in the ledger."""


def features(*, redis: bool) -> list[Subject]:
    """The first has none of them: what the others cost is over it."""
    place = "redis" if redis else "memory"

    def subject(
        name: str,
        title: str,
        settings: Mapping[str, Any] = _NO_LEDGER,
        *,
        asks: Target = _ACME,
        journal: bool = False,
    ) -> Subject:
        whole = {**_PRICES, **settings}
        return outrider(f"{place}-{name}", title, settings=whole, redis=redis, journal=journal, asks=asks)

    kept_nowhere_else = {"cache": {"max_bytes": 0}}
    in_redis = [
        subject("shared-hit", "cache, hit in Redis", {**_NO_LEDGER, **kept_nowhere_else}, asks=_KNOWN)
    ]
    return [
        subject("nothing", "none of them"),
        subject("ledger", "ledger", {}),
        subject("journal", "ledger with a journal", {}, journal=True),
        subject("requests", "request limit", {**_NO_LEDGER, **_rules(_REQUESTS)}),
        subject("tokens", "token limit", {**_NO_LEDGER, **_rules(_TOKENS)}),
        subject("budget", "budget", {**_NO_LEDGER, **_BUDGET}),
        subject("miss", "cache, miss", asks=_DIFFERENT),
        subject("hit", "cache, hit in memory", asks=_SAME),
        *(in_redis if redis else []),
        subject(
            "all",
            "all: miss, both limits, budget, journal",
            {**_rules(_REQUESTS, _TOKENS), **_BUDGET},
            asks=_DIFFERENT,
            journal=True,
        ),
    ]
