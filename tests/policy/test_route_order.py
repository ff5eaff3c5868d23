"""Strategies: what each puts first."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import replace
from random import Random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider import v1
from outrider.policy.route_table import Route, Strategy
from tests.support.routing import Routing, route_of, target
from tests.support.sidecar import ask

NAMES = [f"{provider}/m" for provider in "abcdefghijklmnop"]


def weighted(weights: dict[str, float]) -> Route:
    return route_of("r", *weights, strategy=Strategy.WEIGHTED, weights=weights)


def first(routing: Routing, request: v1.GenerateRequest | None = None) -> str:
    return routing.plan(request or ask("r"))[0]


@settings(max_examples=25)
@given(
    weights=st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0]), min_size=2, max_size=5).filter(any),
    seed=st.integers(0, 1_000),
)
def test_chance_follows_weights(weights: list[float], seed: int) -> None:
    """Each target is first as often as its weight says, never where that is 0; so is whoever is second."""
    by_name = dict(zip(NAMES, weights, strict=False))
    routing, drawn = Routing(weighted(by_name), random=Random(seed)), 2_000
    plans = [routing.plan(ask("r")) for _ in range(drawn)]
    counts, total = Counter(plan[0] for plan in plans), sum(weights)
    for name, weight in by_name.items():
        share = weight / total
        assert counts[name] / drawn == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / drawn))
    leader = max(by_name, key=lambda name: by_name[name])
    others = {name: weight for name, weight in by_name.items() if name != leader}
    if sum(others.values()) > 0:
        led = [plan[1] for plan in plans if plan[0] == leader]
        for name, weight in others.items():
            share = weight / sum(others.values())
            bound = 5 * math.sqrt(share * (1 - share) / len(led))
            assert Counter(led)[name] / len(led) == pytest.approx(share, abs=bound)


KEYS = [f"user-{number}" for number in range(200)]


@settings(max_examples=25)
@given(
    weights=st.lists(st.sampled_from([0.5, 1.0, 4.0]), min_size=2, max_size=8),
    gone=st.integers(0, 7),
    seeds=st.tuples(st.integers(), st.integers()),
)
def test_keys_stay_where_they_are(weights: list[float], gone: int, seeds: tuple[int, int]) -> None:
    """The same key goes to the same target, in every sidecar; where one target goes, only its keys move."""
    by_name = dict(zip(NAMES, weights, strict=False))
    before, after = (
        {key: first(routing, ask("r", sticky_key=key)) for key in KEYS}
        for routing in (Routing(weighted(by_name), random=Random(seed)) for seed in seeds)
    )
    assert before == after
    lost = NAMES[gone % len(weights)]
    rest = {name: weight for name, weight in by_name.items() if name != lost}
    routing = Routing(weighted(rest))
    moved = {key: first(routing, ask("r", sticky_key=key)) for key in KEYS}
    assert all(moved[key] == before[key] for key in KEYS if before[key] != lost)


def test_keys_are_spread_by_weight() -> None:
    """Over many keys, in proportion."""
    routing = Routing(weighted({"a/m": 3, "b/m": 1, "c/m": 0}))
    keys = [f"k{number}" for number in range(4_000)]
    counts = Counter(first(routing, ask("r", sticky_key=key)) for key in keys)
    assert counts["a/m"] / len(keys) == pytest.approx(0.75, abs=0.04)
    assert "c/m" not in counts


@pytest.mark.parametrize("strategy", [Strategy.LEAST_LATENCY, Strategy.MOST_AVAILABLE])
def test_a_key_is_stronger_than_what_was_measured(strategy: Strategy) -> None:
    """A conversation stays where its prompt is cached."""
    routing = Routing(route_of("r", *NAMES[:4], strategy=strategy))
    chosen = first(routing, ask("r", sticky_key="k"))
    routing.tried(chosen, 9.0, reason="FIRST_EVENT_TIMEOUT")
    assert first(routing, ask("r", sticky_key="k")) == chosen


def test_the_key_decides_alike_in_every_version() -> None:
    """Sidecars of different versions agree: these were computed once and for all."""
    routing = Routing(weighted({"a/m": 1, "b/m": 1, "c/m": 2}))
    chosen = [first(routing, ask("r", sticky_key=key)) for key in ("", "k1", "k2", "k3", "ключ")]
    assert chosen[1:] == ["b/m", "c/m", "b/m", "c/m"]


def test_the_quickest_goes_first() -> None:
    """By the time to the first token, not by how long the answers are."""
    routing = Routing(route_of("r", "a/m", "b/m", "c/m", strategy=Strategy.LEAST_LATENCY))
    routing.tried("a/m", 1.0, first=0.9)
    routing.tried("b/m", 9.0, first=0.3)
    routing.tried("c/m", 1.0, first=0.6)
    assert routing.plan(ask("r")) == ["b/m", "c/m", "a/m"]


def test_what_is_unknown_is_tried_once_each() -> None:
    """One request each, and no more until it has told: the others go on in the order of the list."""
    routing = Routing(route_of("r", "a/m", "b/m", "c/m", strategy=Strategy.LEAST_LATENCY))
    assert [first(routing) for _ in range(5)] == ["a/m", "b/m", "c/m", "a/m", "a/m"]
    routing.tried("b/m", 0.5, first=0.4)
    assert [first(routing) for _ in range(3)] == ["b/m"] * 3


def test_who_was_slow_once_gets_another_chance() -> None:
    """After a while one request goes there again, one alone; if it is still slow, the next waits as long."""
    routing = Routing(route_of("r", "a/m", "b/m", strategy=Strategy.LEAST_LATENCY))
    routing.tried("a/m", 8.0, first=8.0)
    routing.tried("b/m", 1.0, first=1.0)
    chosen = []
    for _ in range(400):
        chosen.append(first(routing))
        routing.tried("b/m", 1.0, first=1.0)
    assert 1 <= chosen.count("a/m") <= 3


def test_the_cheapest_goes_first_for_this_request() -> None:
    """Long prompts and long answers have different winners; who has no price comes last."""
    prices = {
        "a/m": {"input": 1.0, "output": 20.0},
        "b/m": {"input": 10.0, "output": 1.0},
        "d/m": {"input": 2.0, "output": 2.0},
    }
    routing = Routing(
        route_of("r", "c/m", "a/m", "b/m", "d/m", strategy=Strategy.CHEAPEST),
        prices=prices,  # type: ignore[arg-type]
    )
    long_answer = ask("r", "hi", sampling=v1.Sampling(max_output_tokens=10_000))
    assert routing.plan(long_answer) == ["b/m", "d/m", "a/m", "c/m"]
    long_prompt = ask("r", "word " * 10_000, sampling=v1.Sampling(max_output_tokens=10))
    assert routing.plan(long_prompt) == ["a/m", "d/m", "b/m", "c/m"]
    long_answer.messages[0].parts.add(image=v1.Media(data=bytes(500_000), mime_type="image/png"))
    assert routing.plan(long_answer)[0] == "b/m"


def test_whoever_succeeds_most_goes_first() -> None:
    """Where there is no real difference, in the order of the list; and failures are forgotten in time."""
    routing = Routing(route_of("r", "a/m", "b/m", strategy=Strategy.MOST_AVAILABLE))
    for _ in range(50):
        routing.tried("a/m", 0.01)
        routing.tried("b/m", 0.01)
    routing.tried("a/m", 0.01, reason="PROVIDER_ERROR")
    assert first(routing) == "a/m"
    for _ in range(5):
        routing.tried("a/m", 0.01, reason="PROVIDER_ERROR")
    assert first(routing) == "b/m"
    routing.clock.now += 900
    assert first(routing) == "a/m"


@pytest.mark.parametrize("strategy", Strategy)
def test_an_activated_target_goes_first(strategy: Strategy) -> None:
    """Whatever the strategy says of it."""
    made = route_of("r", "c/m", "a/m", "b/m", strategy=strategy, weights={"c/m": 0})
    routing = Routing(replace(made, active=target("c/m")), random=Random(3))
    assert {first(routing) for _ in range(20)} == {"c/m"}


@pytest.mark.parametrize("strategy", Strategy)
def test_sixteen_targets_are_ordered_in_no_time(strategy: Strategy) -> None:
    """A decision takes far under 1 ms."""
    prices = {name: {"input": 1.0, "output": 2.0} for name in NAMES}
    made = route_of("r", *NAMES, strategy=strategy)
    routing = Routing(made, prices=prices)  # type: ignore[arg-type]
    for name in NAMES:
        routing.tried(name, 1.0, first=0.5)
    request = ask("r", "word " * 500)
    took = []
    for _ in range(200):
        began = time.perf_counter()
        routing.plan(request)
        took.append(time.perf_counter() - began)
    assert median(took) < 1e-3
