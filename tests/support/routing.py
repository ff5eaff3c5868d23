"""Routes and what makes plans of them, for tests."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.catalog import Catalog
from outrider.core.context import Progress, Record, RouteSettings, Target
from outrider.core.model_facts import UNKNOWN, ModelFacts
from outrider.core.pricing import PriceBook
from outrider.core.tokens import LocalTokenCounter
from outrider.policy.capabilities import Capabilities
from outrider.policy.parameters import Parameters
from outrider.policy.planner import Planner
from outrider.policy.route_order import Orders
from outrider.policy.route_table import Models, Route, RouteTable, Strategy
from outrider.policy.target_stats import TargetStats

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from outrider.core.catalog import Rates


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def target(name: str) -> Target:
    """Of "provider/model"."""
    return Target(*name.split("/", 1))


def route_of(
    name: str,
    *targets: str,
    strategy: Strategy = Strategy.ORDERED,
    weights: Mapping[str, float] | None = None,
    parameters: Parameters | None = None,
    timeouts: Mapping[str, float] | None = None,
) -> Route:
    """A route over "provider/model" targets."""
    return Route(
        RouteSettings(name, timeouts or {}),
        tuple(map(target, targets)),
        strategy,
        {target(each): weight for each, weight in (weights or {}).items()},
        parameters or Parameters(),
    )


class Routing:
    """A planner over routes, with everything around it at hand."""

    def __init__(
        self,
        *routes: Route,
        facts: Mapping[str, ModelFacts] | None = None,
        prices: Mapping[str, Rates] | None = None,
        unwell: Collection[str] = (),
        random: Random | None = None,
    ) -> None:
        self.clock = Clock()
        self.unwell = set(unwell)
        known = {name: replace(each, configured=True) for name, each in (facts or {}).items()}
        self.stats = TargetStats({each for route in routes for each in route.targets}, self.clock)
        self.table = RouteTable(
            routes=routes, providers={name: Models("m") for name in "abcdefghijklmnop"}, default=("a",)
        )
        self.planner = Planner(
            self.table,
            Capabilities(lambda each: known.get(str(each), UNKNOWN), LocalTokenCounter({})),
            Orders(self.stats, PriceBook(Catalog({}), prices or {}), random or Random(1)),
            Parameters(),
            lambda each: str(each) not in self.unwell,
        )

    def plan(self, request: v1.GenerateRequest, *, streaming: bool = True) -> list[str]:
        """The plan of a request, as names; empty where nothing fits."""
        planner = self.planner
        candidates = planner.candidates(request)
        unsure = planner.capabilities.too_small(candidates.all, request)
        tokens = planner.capabilities.count(unsure, request)
        fitting, _ = planner.capabilities.sort_out(candidates.all, request, tokens)
        if not fitting:
            return []
        plan = planner.plan(candidates, fitting, request, streaming=streaming)
        return [str(each) for each in plan.targets]

    def tried(self, name: str, seconds: float = 1.0, *, reason: str = "", first: float | None = None) -> None:
        """A try at a target ended: well, or for a reason; its first content came after `first` seconds."""
        record = Record("id", "Generate", "anyone", "", self.clock())
        self.clock.now += seconds
        if first is not None:
            record.progress = Progress(began_at=self.clock.now - seconds + first)
        provider, model = target(name)
        outcome = v1.Attempt.OUTCOME_FAILED if reason else v1.Attempt.OUTCOME_SUCCEEDED
        attempt = v1.Attempt(provider=provider, model=model, outcome=outcome, reason=reason)
        self.stats.attempt_finished(record, attempt, seconds)
