"""In which order a route's targets are tried: the strategies. Each keeps every target, as a fallback.

A strategy is a rank for each target, lowest first, and where ranks are equal, the order of the configuration.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from outrider.policy.route_table import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from outrider import v1
    from outrider.core.context import Target
    from outrider.policy.route_table import Route
    from outrider.policy.target_stats import TargetStats

    Rank: TypeAlias = Callable[[Target], float]

_CHARS_PER_TOKEN = 4
_CHARS_OF_OTHERS = 4_000  # what a part that is no text counts as
_FEW_MESSAGES = 256
_ANSWER_TOKENS = 1_000  # of an answer whose request names no maximum
_AS_GOOD = 20  # steps of availability: targets that differ by less are equally good
_NANO = 1_000_000_000
_HASHES = 2.0**64


class Ranked(NamedTuple):
    """A target and why it stands where it does; for people."""

    target: Target
    why: str


class Prices(Protocol):
    """What tokens cost."""

    def find(self, provider: str, model: str, input_tokens: int = 0) -> v1.Price | None:
        """The price of a model for a prompt of this length; None: not known."""


class Orders:
    """Puts targets in order. Takes some ten microseconds."""

    def __init__(self, stats: TargetStats, prices: Prices, random: Random) -> None:
        self._stats = stats
        self._prices = prices
        self._random = random

    def order(
        self, route: Route, targets: Sequence[Target], request: v1.GenerateRequest, *, streaming: bool
    ) -> Sequence[Target]:
        """The targets as they are to be tried."""
        if len(targets) < 2 or route.strategy is Strategy.ORDERED:
            return targets
        ranked = sorted(targets, key=self._rank(route, request, streaming=streaming))
        if route.active in targets:
            ranked.sort(key=lambda target: target != route.active)
        if route.strategy is Strategy.LEAST_LATENCY:
            self._stats.will_ask(ranked[0], streaming=streaming)
        return ranked

    def explain(
        self, route: Route, targets: Sequence[Target], request: v1.GenerateRequest, *, streaming: bool
    ) -> list[Ranked]:
        """The same, with reasons, and leaving no trace; what is left to chance, most likely first."""
        rank = self._rank(route, request, streaming=streaming)
        if route.strategy is Strategy.WEIGHTED and not request.sticky_key:
            rank = _by_share(route)
        ranked = list(targets) if route.strategy is Strategy.ORDERED else sorted(targets, key=rank)
        ranked.sort(key=lambda target: target != route.active)
        why = self._reason(route, targets, request, streaming=streaming)
        active = "activated while the sidecar ran"
        return [Ranked(each, active if each == route.active else why(each)) for each in ranked]

    def _rank(self, route: Route, request: v1.GenerateRequest, *, streaming: bool) -> Rank:
        match route.strategy:
            case Strategy.CHEAPEST:
                return self._by_price(request)
            case Strategy.LEAST_LATENCY if not request.sticky_key:
                return lambda target: self._stats.expected_latency(target, streaming=streaming)
            case Strategy.MOST_AVAILABLE if not request.sticky_key:
                return lambda target: -round(self._stats.availability(target) * _AS_GOOD)
        return self._by_weight(route, request.sticky_key)

    def _by_weight(self, route: Route, sticky_key: str) -> Rank:
        """The first of independent events whose rates are the weights: each target comes first in proportion.

        With a key its hash takes the place of chance (rendezvous hashing): where targets or weights change,
        only the keys of those targets move.
        """

        def rank(target: Target) -> float:
            weight = route.weight(target)
            if weight <= 0:
                return math.inf
            chance = _chance(sticky_key, target) if sticky_key else 1.0 - self._random.random()
            return -math.log(chance) / weight

        return rank

    def _by_price(self, request: v1.GenerateRequest) -> Rank:
        input_tokens, output_tokens = _size(request)

        def rank(target: Target) -> float:
            price = self._prices.find(*target, input_tokens)
            if price is None:
                return math.inf
            of_input = input_tokens * price.input_nano_usd_per_million
            return (of_input + output_tokens * price.output_nano_usd_per_million) / 1e6

        return rank

    def _reason(
        self, route: Route, targets: Sequence[Target], request: v1.GenerateRequest, *, streaming: bool
    ) -> Callable[[Target], str]:
        match route.strategy:
            case Strategy.ORDERED:
                return lambda target: f"{'first' if target == targets[0] else 'next'} of the list"
            case Strategy.CHEAPEST:
                price = self._by_price(request)
                return lambda target: _cost(price(target))
            case Strategy.LEAST_LATENCY if not request.sticky_key:
                return lambda target: self._latency(target, streaming=streaming)
            case Strategy.MOST_AVAILABLE if not request.sticky_key:
                return self._availability
        if request.sticky_key:
            return lambda _: "by the sticky key"
        total = sum(map(route.weight, targets))
        return lambda target: _share(route.weight(target), total)

    def _availability(self, target: Target) -> str:
        rate = self._stats.success_rate(target)
        return "no calls lately" if rate is None else f"{rate:.0%} of its calls succeeded lately"

    def _latency(self, target: Target, *, streaming: bool) -> str:
        seconds = self._stats.expected_latency(target, streaming=streaming)
        if seconds == 0 or math.isinf(seconds):
            return "nothing is known of its latency yet"
        return f"{seconds:.2f} s are expected to its first token"


def _cost(nano: float) -> str:
    return "its price is not known" if math.isinf(nano) else f"about ${nano / _NANO:.6f}"


def _share(weight: float, total: float) -> str:
    return f"first for {weight / total:.0%} of requests" if weight else "its weight is 0"


def _by_share(route: Route) -> Rank:
    return lambda target: -route.weight(target)


def _chance(key: str, target: Target) -> float:
    """A number above 0, and 1 at most, the same in every process."""
    digest = blake2b(f"{key}\0{target.provider}/{target.model}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 1) / _HASHES


def _size(request: v1.GenerateRequest) -> tuple[int, int]:
    """Tokens of prompt and answer, roughly: what matters is which target is cheaper."""
    sampling = request.sampling
    output = sampling.max_output_tokens if sampling.HasField("max_output_tokens") else _ANSWER_TOKENS
    if len(request.messages) > _FEW_MESSAGES:
        return request.ByteSize() // _CHARS_PER_TOKEN, output
    # Media are many bytes and few tokens.
    sizes = (len(part.text) or _CHARS_OF_OTHERS for each in request.messages for part in each.parts)
    return sum(sizes) // _CHARS_PER_TOKEN, output
