"""Limits and budgets in the file: what is read, and what does not go together."""

from decimal import Decimal

import pytest

from tests.config.conftest import Load, Problems

PROVIDERS = "providers: {simulated: {}, groq: {limits: {requests_per_day: 9}}}\n"


def test_limits_and_budgets_are_read(load_text: Load) -> None:
    """Tiers, rules and budgets arrive as written; YAML's underscores in numbers too."""
    config = load_text(
        """
        callers: {batch: {token: secret, tenant: acme}}
        tiers: {free: {requests_per_minute: 10, tokens_per_minute: 20_000, max_concurrency: 2}}
        limits:
          max_wait: 2s
          rules:
            - {scope: {tenant: "*"}, tier: free}
            - {scope: {caller: "*", model: "simulated/*"}, requests_per_minute: 60, burst: 5}
            - {requests_per_day: 1_000}
        budgets:
          - {scope: {tenant: "*"}, usd: 100, period: month, soft: [0.5, 0.8], hard: false}
          - {scope: {project: ""}, tokens: 5_000_000, period: day}
        """
    )
    first, second, third = config.limits.rules
    assert config.callers["batch"].tenant == "acme"
    assert (first.scope, first.tier) == ({"tenant": "*"}, "free")
    assert (second.scope, second.burst) == ({"caller": "*", "model": "simulated/*"}, 5)
    assert (third.scope, third.requests_per_day) == ({}, 1_000)
    assert config.tiers["free"].tokens_per_minute == 20_000
    assert (config.budgets[0].usd, config.budgets[0].hard) == (Decimal(100), False)
    assert (config.budgets[1].scope, config.budgets[1].tokens) == ({"project": ""}, 5_000_000)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("limits: {rules: [{tier: fre}]}\ntiers: {free: {}}", "limits.rules[0].tier: tier 'fre' is not conf"),
        ("limits: {rules: [{scope: {user: a}}]}", "limits.rules[0]: limits nothing; set a tier"),
        ("limits: {rules: [{burst: 3}]}", "limits.rules[0]: limits nothing"),
        (
            "limits: {rules: [{max_concurrency: 1}, {max_concurrency: 2}]}",
            "limits.rules[1].scope: the same scope as limits.rules[0]",
        ),
        (
            PROVIDERS + "limits: {rules: [{scope: {provider: groq}, max_concurrency: 2}]}",
            "limits.rules[0].scope: the same scope as providers.groq.limits",
        ),
        (
            "limits: {rules: [{scope: {model: gpt}, max_concurrency: 2}]}",
            'limits.rules[0].scope.model: must be "provider/model"',
        ),
        (
            "limits: {rules: [{scope: {model: simulate/x}, max_concurrency: 2}]}",
            "limits.rules[0].scope.model: provider 'simulate' is not configured; did you mean",
        ),
        (
            "limits: {rules: [{scope: {provider: grok}, max_concurrency: 2}]}",
            "limits.rules[0].scope.provider: provider 'grok' is not configured",
        ),
        (
            "callers: {a: {token: x}}\nlimits: {rules: [{scope: {caller: b}, max_concurrency: 2}]}",
            "limits.rules[0].scope.caller: caller 'b' is not configured; known: a",
        ),
        ("limits: {rules: [{scope: {tenent: a}, max_concurrency: 2}]}", "limits.rules[0].scope.tenent: must"),
        (
            "limits: {rules: [{requests_per_minut: 2}]}",
            "limits.rules[0].requests_per_minut: unknown key; did you mean 'requests_per_minute'?",
        ),
        ("budgets: [{period: day}]", "budgets[0]: has no amount; set usd or tokens"),
        ("budgets: [{usd: 1, period: year}]", "budgets[0].period: must be 'day', 'week', 'month' or 'total'"),
        ("budgets: [{usd: 1, soft: [2]}]", "budgets[0].soft[0]: must be at most 1"),
        (
            "budgets: [{usd: 1}, {tokens: 1}, {usd: 2}]",
            "budgets[2].scope: the same scope as budgets[0]; set what holds for it in one place",
        ),
    ],
)
def test_what_would_limit_nothing_or_twice_is_refused(problems: Problems, text: str, problem: str) -> None:
    """A rule that can never hold is a mistake, and is told with what would be right."""
    lines = problems(text)
    assert [line for line in lines if line.partition(": ")[2].startswith(problem)], lines
    assert len(lines) == 1
