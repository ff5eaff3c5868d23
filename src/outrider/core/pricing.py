"""What tokens cost. Money is whole nano-USD, and a price that is not known is None, never zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from outrider import v1
from outrider.core.catalog import Rates, names_of, price

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outrider.core.catalog import Catalog

_Optional: TypeAlias = Literal[
    "cached_input_nano_usd_per_million",
    "cache_write_nano_usd_per_million",
    "cache_write_1h_nano_usd_per_million",
]

_COUNTED = (v1.USAGE_SOURCE_PROVIDER, v1.USAGE_SOURCE_VOCABULARY)
_MILLION = 1_000_000
_LARGEST = (2**63 - 1) // 4  # nano-USD; the sum of four parts still fits into an int64


class PriceBook:
    """The prices in force: those of the configuration, and the catalogue's for what it does not name."""

    def __init__(self, catalog: Catalog, overrides: Mapping[str, Rates]) -> None:
        """`overrides` are keyed by "provider/model" or by model."""
        self._catalog = catalog
        self._overrides = {name: price(rates, "the configuration") for name, rates in overrides.items()}

    def find(self, provider: str, model: str, input_tokens: int = 0) -> v1.Price | None:
        """The price of a model for a prompt of this length: some vendors charge more for long ones.

        The exact name goes before the one that a dated version belongs to, in both places.
        """
        for name in names_of(model):
            override = self._overrides.get(f"{provider}/{name}", self._overrides.get(name))
            if override is not None:
                return override
            entry = self._catalog.get(provider, name)
            if entry is not None:
                return entry.price_for(input_tokens)
        return None

    def cost(self, provider: str, model: str, usage: v1.Usage) -> v1.Cost | None:
        """What this usage costs; None where the price is unknown."""
        found = self.find(provider, model, usage.input_tokens)
        return None if found is None else cost(usage, found)


def cost(usage: v1.Usage, price: v1.Price) -> v1.Cost:
    """What this usage costs at this price, each part rounded half to even on its own.

    The parts are disjoint and never negative, even where the provider's numbers contradict each other.
    """
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    written = min(usage.cache_write_input_tokens, usage.input_tokens - cached)
    for_an_hour = min(usage.cache_write_1h_input_tokens, written)

    input_price = price.input_nano_usd_per_million
    cached_price = _either(price, "cached_input_nano_usd_per_million", input_price)
    write_price = _either(price, "cache_write_nano_usd_per_million", input_price)
    hour_price = _either(price, "cache_write_1h_nano_usd_per_million", write_price)

    fresh_cost = _per_million((usage.input_tokens - cached - written) * input_price)
    cached_cost = _per_million(cached * cached_price)
    write_cost = _per_million((written - for_an_hour) * write_price + for_an_hour * hour_price)
    output_cost = _per_million(usage.output_tokens * price.output_nano_usd_per_million)
    return v1.Cost(
        total_nano_usd=fresh_cost + cached_cost + write_cost + output_cost,
        input_nano_usd=fresh_cost,
        cached_input_nano_usd=cached_cost,
        cache_write_nano_usd=write_cost,
        output_nano_usd=output_cost,
        estimated=usage.source not in _COUNTED,
    )


def _either(price: v1.Price, field: _Optional, otherwise: int) -> int:
    return getattr(price, field) if price.HasField(field) else otherwise


def _per_million(millionths: int) -> int:
    whole, rest = divmod(max(0, millionths), _MILLION)
    if rest * 2 > _MILLION or (rest * 2 == _MILLION and whole % 2):
        whole += 1
    return min(whole, _LARGEST)
