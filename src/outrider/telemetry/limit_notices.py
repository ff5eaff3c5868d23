"""Tells operators what limits and budgets have to say to them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

import structlog

from outrider.core.events import Event, EventType
from outrider.core.quota import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from outrider.core.context import Target
    from outrider.core.events import Fact
    from outrider.core.quota import Crossing
    from outrider.telemetry.metrics import Metrics

_MOST_MODELS = 1_000  # callers choose their names

_log = structlog.get_logger("outrider")


class LimitNotices:
    """Budgets that run out, and models that no budget of money can count."""

    def __init__(self, metrics: Metrics, emit: Callable[[Event], None]) -> None:
        self._metrics = metrics
        self._emit = emit
        self._unpriced: set[Target] = set()

    def crossed(self, crossing: Crossing) -> None:
        """A soft threshold was crossed: one line, one count and one event for each."""
        meter, bound = crossing.meter, crossing.meter.bound
        if not isinstance(bound, Window):
            return
        kind = dimensions_of(meter.scope)
        self._metrics.budget_crossed(kind, meter.unit, bound.period, crossing.share)
        # A person's name is in no log.
        scope = kind if "user" in kind.split(",") else meter.scope
        facts: dict[str, Fact] = {
            "unit": str(meter.unit),
            "period": str(bound.period),
            "share": crossing.share,
            "spent": crossing.spent,
            "limit": bound.limit,
        }
        _log.warning("budget crossed", scope=scope, **facts)
        if tenant := values_of(meter.scope).get("tenant"):
            facts["tenant"] = tenant
        self._emit(Event(EventType.BUDGET_CROSSED, scope, facts))

    def unpriced(self, target: Target) -> None:
        """A budget of money counts nothing for this model; told once."""
        if target not in self._unpriced and len(self._unpriced) < _MOST_MODELS:
            self._unpriced.add(target)
            _log.warning("no price: budgets of money count nothing", model=str(target))


def values_of(scope: str) -> dict[str, str]:
    """The values of a scope's dimensions, by name."""
    parts = (part.partition("=") for part in scope.split(","))
    return {name: unquote(value) for name, _, value in parts}


def dimensions_of(scope: str) -> str:
    """The names of a scope's dimensions without their values: "tenant,user"."""
    return ",".join(part.partition("=")[0] for part in scope.split(","))
