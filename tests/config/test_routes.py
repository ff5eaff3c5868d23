"""Routes: their forms, their older name, and what cannot be one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from outrider import v1
from outrider.assembly import credentials
from outrider.assembly_limits import limit_book
from outrider.assembly_routes import known_targets, route_table
from outrider.core.catalog import load_catalog
from outrider.core.quota import Rate, Unit
from outrider.policy.limit_rules import Values
from outrider.policy.parameters import Parameters
from outrider.policy.route_table import Strategy
from tests.support.routing import target

if TYPE_CHECKING:
    from outrider.config import Config
    from outrider.policy.route_table import RouteTable
    from tests.config.conftest import Load, Problems

ROUTES = """
providers: {a: {format: simulated}, b: {format: simulated}}
defaults: {temperature: 0.7, max_output_tokens: 99}
routes:
  plain: [a/m, b/m]
  smart:
    strategy: Weighted
    targets: [{target: a/m, weight: 3}, b/m, {target: b/n, weight: 0}]
    timeouts: {first_event: 5s}
    parameters: {temperature: 0, top_p: 0.5, reasoning_effort: LOW}
    on_content_filter: true
    limits: {requests_per_minute: 60}
"""


def table(config: Config) -> RouteTable:
    return route_table(config, credentials(config), load_catalog())


def test_both_forms_are_understood(load_text: Load) -> None:
    """A list is the short one; what a route does not say is common, and weights are 1."""
    plain, smart = table(load_text(ROUTES)).routes
    assert (plain.name, plain.strategy, plain.targets) == (
        "plain",
        Strategy.ORDERED,
        (target("a/m"), target("b/m")),
    )
    assert plain.parameters == Parameters(99, 0.7)
    assert plain.settings.timeouts == {}
    assert [smart.weight(each) for each in smart.targets] == [3, 1, 0]
    assert smart.strategy is Strategy.WEIGHTED
    assert smart.settings.timeouts == {"first_event": 5}
    assert smart.parameters == Parameters(99, 0, 0.5, v1.ReasoningOptions.EFFORT_LOW)
    assert (plain.settings.on_content_filter, smart.settings.on_content_filter) == (False, True)


def test_limits_of_a_route_are_a_rule_for_it(load_text: Load) -> None:
    """All its requests together; those that name a model directly have nothing to do with it."""
    book = limit_book(load_text(ROUTES))
    (meter,) = book.of_caller(Values(route="smart", tenant="acme")).all
    assert (meter.scope, meter.unit, meter.bound) == ("route=smart", Unit.REQUESTS, Rate(60, 10))
    assert not book.of_caller(Values(tenant="acme"))


def test_targets_of_routes_are_known_by_name(load_text: Load) -> None:
    """Metrics and averages tell them apart."""
    config = load_text(ROUTES)
    known = {str(each) for each in known_targets(config, table(config))}
    assert {"a/m", "b/m", "b/n"} <= known


def test_what_is_known_of_models_can_be_said(load_text: Load) -> None:
    """By model, whatever its name looks like."""
    text = "providers: {a: {format: simulated, model_facts: {x/y: {context_tokens: 8192, vision: false}}}}"
    facts = load_text(text).providers["a"].model_facts["x/y"]
    assert (facts.context_tokens, facts.vision, facts.tools) == (8192, False, None)


def test_who_may_change_things_is_said(load_text: Load) -> None:
    """Nobody, unless it is."""
    callers = load_text("callers: {a: {token: a, admin: true}, b: {token: b}}").callers
    assert (callers["a"].admin, callers["b"].admin) == (True, False)


def test_the_older_name_still_works(load_text: Load) -> None:
    """In the file and as a variable, beside the new one too."""
    config = load_text(
        "models: {old: [simulated/a], older: {targets: [simulated/b]}}\nroutes: {new: [simulated/c]}",
        {"OUTRIDER_MODELS__FAST": "[simulated/d]", "OUTRIDER_ROUTES__OLD": "[simulated/e]"},
    )
    assert {name: route.names for name, route in config.routes.items()} == {
        "new": ("simulated/c",),
        "old": ("simulated/e",),
        "older": ("simulated/b",),
        "fast": ("simulated/d",),
    }
    assert load_text("models:\n").routes == {}
    assert load_text("models: {a: [simulated/a]}\nroutes:\n").routes["a"].names == ("simulated/a",)


def test_a_name_under_both_is_an_error(problems: Problems) -> None:
    """With the line of the older one; what else is wrong there is told too."""
    text = "routes:\n  a: [simulated/a]\nmodels:\n  a: [simulated/b]\n  b: [nobody/c]\n"
    assert problems(text) == [
        "outrider.yaml:4: models.a: stands in routes too, whose older name is models; write it once",
        "outrider.yaml:5: routes.b[0]: provider 'nobody' is not configured; known: simulated",
    ]


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ("[simulated/a, simulated/a]", "routes.r[1]: 'simulated/a' stands here twice; write it once"),
        (
            "{targets: [{target: simulated/a, weight: 0}]}",
            "routes.r.targets: every weight is 0; one at least",
        ),
        ("{targets: [{target: x/a}]}", "routes.r.targets[0]: provider 'x' is not configured"),
        ("[{target: simulated/a, weight: -1}]", "routes.r[0].weight: must be at least 0"),
        ("[{target: gpt}]", 'routes.r[0].target: must be "provider/model"'),
        ("[{weight: 1}]", "routes.r[0].target: is missing"),
        ("{targets: [simulated/a], strategy: best}", "routes.r.strategy: must be 'ordered', 'weighted'"),
        ("{targets: [simulated/a], limits: {}}", "routes.r.limits: limits nothing; set numbers"),
        ("{targets: [simulated/a], timeouts: {first: 1s}}", "routes.r.timeouts.first: unknown key"),
        (
            "{targets: [simulated/a], parameters: {reasoning_effort: much}}",
            "routes.r.parameters.reasoning_effort: must be 'none', 'minimal'",
        ),
    ],
)
def test_what_cannot_be_a_route_is_said(route: str, problem: str, problems: Problems) -> None:
    """With its place, and what would be right."""
    (found,) = problems(f"routes:\n  r: {route}\n")
    assert found.startswith(f"outrider.yaml:2: {problem}"), found


def test_rules_name_routes_that_are_there(problems: Problems) -> None:
    """And a route's limits stand in one place."""
    text = """
routes: {r: {targets: [simulated/a], limits: {requests_per_minute: 1}}}
limits:
  rules:
    - {scope: {route: rr}, requests_per_minute: 1}
    - {scope: {route: r}, requests_per_minute: 2}
"""
    unknown, repeated = problems(text)
    assert unknown == (
        "outrider.yaml:5: limits.rules[0].scope.route: route 'rr' is not configured; did you mean 'r'?"
    )
    assert repeated.startswith("outrider.yaml:6: limits.rules[1].scope: the same scope as routes.r.limits;")
