"""What usage costs, held against published prices and worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.catalog import Rates, load_catalog
from outrider.core.pricing import PriceBook, cost

BOOK = PriceBook(load_catalog(), {})

counts = st.integers(0, 2**64 - 1)
sources = st.sampled_from(v1.UsageSource.values())
usages = st.builds(
    v1.Usage,
    input_tokens=counts,
    output_tokens=counts,
    cached_input_tokens=counts,
    cache_write_input_tokens=counts,
    cache_write_1h_input_tokens=counts,
    reasoning_output_tokens=counts,
    source=sources,
)
amounts = st.integers(0, 2**63 - 1)
prices = st.builds(
    v1.Price,
    input_nano_usd_per_million=amounts,
    output_nano_usd_per_million=amounts,
    cached_input_nano_usd_per_million=st.none() | amounts,
    cache_write_nano_usd_per_million=st.none() | amounts,
    cache_write_1h_nano_usd_per_million=st.none() | amounts,
)


def usage(
    total_in: int,
    out: int = 0,
    *,
    cached: int = 0,
    written: int = 0,
    for_an_hour: int = 0,
    reasoning: int = 0,
) -> v1.Usage:
    return v1.Usage(
        input_tokens=total_in,
        output_tokens=out,
        cached_input_tokens=cached,
        cache_write_input_tokens=written,
        cache_write_1h_input_tokens=for_an_hour,
        reasoning_output_tokens=reasoning,
        source=v1.USAGE_SOURCE_PROVIDER,
    )


def parts(cost: v1.Cost) -> tuple[int, int, int, int]:
    return (
        cost.input_nano_usd,
        cost.cached_input_nano_usd,
        cost.cache_write_nano_usd,
        cost.output_nano_usd,
    )


PUBLISHED = {
    "a million tokens each way: $2.50 and $10": (
        "openai/gpt-4o",
        usage(1_000_000, 1_000_000),
        (2_500_000_000, 0, 0, 10_000_000_000),
    ),
    "86 fresh tokens at $2.50, 1,920 cached at $1.25, 300 generated at $10": (
        "openai/gpt-4o-2024-08-06",
        usage(2_006, 300, cached=1_920),
        (215_000, 2_400_000, 0, 3_000_000),
    ),
    "reasoning is a part of the output, at $4.40, not an addition to it": (
        "openai/o4-mini-2025-04-16",
        usage(75, 1_186, reasoning=1_024),
        (82_500, 0, 0, 5_218_400),
    ),
    "cache writes at $2.50, a quarter above input": (
        "openai/gpt-6-sol",
        usage(5_000, 100, written=4_000),
        (2_000_000, 0, 10_000_000, 1_000_000),
    ),
    "exactly 272,000 tokens are a short prompt, at $2": (
        "openai/gpt-6.1-sol",
        usage(272_000, 1_000, cached=72_000),
        (400_000_000, 7_200_000, 0, 10_000_000),
    ),
    "one token more, and all of the request costs $4, $0.20 and $15": (
        "openai/gpt-6.1-sol",
        usage(272_001, 1_000, cached=72_000),
        (800_004_000, 14_400_000, 0, 15_000_000),
    ),
    "a book of 188,086 tokens written to the cache at $3.75": (
        "anthropic/claude-sonnet-4-5-20250929",
        usage(188_107, 393, written=188_086),
        (63_000, 0, 705_322_500, 5_895_000),
    ),
    "the same book read from the cache at $0.30": (
        "anthropic/claude-sonnet-4-5-20250929",
        usage(188_107, 393, cached=188_086),
        (63_000, 56_425_800, 0, 5_895_000),
    ),
    "of 248 tokens written, 100 for an hour at $6 and 148 for five minutes at $3.75": (
        "anthropic/claude-sonnet-4-6",
        usage(4_096, 503, cached=1_800, written=248, for_an_hour=100),
        (6_144_000, 540_000, 1_155_000, 7_545_000),
    ),
    "cached tokens make a prompt long too: above 100,000, $0.50, $0.05 and $2.50": (
        "anthropic/claude-haiku-5-5",
        usage(100_001, 10, cached=100_000),
        (500, 5_000_000, 0, 25_000),
    ),
    "half price for what Groq had in its cache": (
        "groq/openai/gpt-oss-120b",
        usage(1_000, 1_000, cached=600),
        (60_000, 45_000, 0, 600_000),
    ),
    "a made-up price, so that a demonstration shows a cost": (
        "simulated/echo",
        usage(100, 50),
        (100_000, 0, 0, 100_000),
    ),
}


@pytest.mark.parametrize(("target", "used", "expected"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_prices(target: str, used: v1.Usage, expected: tuple[int, int, int, int]) -> None:
    """Row 31: cached, cache-write and reasoning tokens cost what the vendor's table says."""
    provider, _, model = target.partition("/")
    charged = BOOK.cost(provider, model, used)
    assert charged is not None
    assert parts(charged) == expected
    assert charged.total_nano_usd == sum(expected)
    assert not charged.estimated


def test_unknown_is_not_free() -> None:
    """A model without a price has no cost at all, rather than one of zero."""
    assert BOOK.find("openai", "gpt-99") is None
    assert BOOK.cost("openai", "gpt-99", usage(1_000, 1_000)) is None


@pytest.mark.parametrize(
    ("source", "estimated"),
    [
        (v1.USAGE_SOURCE_PROVIDER, False),
        (v1.USAGE_SOURCE_VOCABULARY, False),
        (v1.USAGE_SOURCE_ESTIMATED, True),
        (v1.USAGE_SOURCE_UNSPECIFIED, True),
    ],
)
def test_estimated(source: v1.UsageSource, estimated: bool) -> None:
    """A cost is as sure as the tokens it was computed from."""
    used = v1.Usage(input_tokens=1, source=source)
    assert cost(used, v1.Price(input_nano_usd_per_million=1)).estimated is estimated


@pytest.mark.parametrize(("tokens", "nano_usd"), [(499_999, 0), (500_000, 0), (1_500_000, 2), (2_500_000, 2)])
def test_rounding(tokens: int, nano_usd: int) -> None:
    """Half a nano-dollar goes to the even side, so that many small costs do not drift."""
    assert cost(usage(tokens), v1.Price(input_nano_usd_per_million=1)).total_nano_usd == nano_usd


def test_absent_rates() -> None:
    """Without rates of their own, cached and written tokens cost as input, and an hour as five minutes."""
    plain = v1.Price(input_nano_usd_per_million=1_000_000)
    assert parts(cost(usage(60, cached=10, written=20, for_an_hour=5), plain)) == (30, 10, 20, 0)
    plain.cache_write_nano_usd_per_million = 2_000_000
    assert parts(cost(usage(60, cached=10, written=20, for_an_hour=5), plain)) == (30, 10, 40, 0)


def test_a_rate_of_zero_is_a_rate() -> None:
    """What a vendor gives away costs nothing; only an absent rate falls back to another."""
    free = v1.Price(input_nano_usd_per_million=1_000_000, cached_input_nano_usd_per_million=0)
    assert parts(cost(usage(60, cached=10), free)) == (50, 0, 0, 0)


def test_contradictory_usage() -> None:
    """More cached than read, or more written than is left: nothing is charged twice or below zero."""
    rate = v1.Price(input_nano_usd_per_million=1_000_000)
    assert parts(cost(usage(10, cached=30, written=30, for_an_hour=90), rate)) == (0, 10, 0, 0)


@given(usages, prices)
def test_parts_make_the_total(used: v1.Usage, price: v1.Price) -> None:
    """Whatever a provider reports, there is a cost, no part of it is negative, and they add up."""
    charged = cost(used, price)
    assert min(parts(charged)) >= 0
    assert charged.total_nano_usd == sum(parts(charged))


@given(usages, prices, counts, st.sampled_from(["input_tokens", "output_tokens"]))
def test_more_tokens_never_cost_less(used: v1.Usage, price: v1.Price, more: int, field: str) -> None:
    """A longer prompt or answer is never cheaper at the same price."""
    longer = v1.Usage()
    longer.CopyFrom(used)
    setattr(longer, field, max(more, getattr(used, field)))
    assert cost(longer, price).total_nano_usd >= cost(used, price).total_nano_usd


OWN: dict[str, Rates] = {
    "openai/gpt-4o": {"input": 2.0, "output": 8.0},
    "gpt-5": {"input": Decimal("1.1"), "output": 9, "cached_input": None, "cache_write_1h": 0.000_000_001},
    "local/llama": {"input": 0.1, "output": 0.3},
}


@pytest.mark.parametrize(
    ("provider", "model", "nano_usd"),
    [
        ("openai", "gpt-4o", 2_000_000_000),
        ("openai", "gpt-4o-2024-08-06", 2_000_000_000),
        ("openai", "gpt-4o-2024-05-13", 5_000_000_000),  # the catalogue knows it by its exact name
        ("azure", "gpt-5", 1_100_000_000),
        ("openai", "gpt-5", 1_100_000_000),
        ("local", "llama", 100_000_000),
        ("openai", "gpt-4o-mini", 150_000_000),
    ],
)
def test_overrides(provider: str, model: str, nano_usd: int) -> None:
    """The configuration wins, by "provider/model" or by model; an exact name goes before a dated one's."""
    found = PriceBook(load_catalog(), OWN).find(provider, model)
    assert found is not None
    assert found.input_nano_usd_per_million == nano_usd


def test_an_override_is_for_one_provider() -> None:
    """A price for one provider's model says nothing of another's."""
    assert PriceBook(load_catalog(), OWN).find("elsewhere", "llama") is None


def test_overrides_are_exact() -> None:
    """A price is taken as it is written: 0.1 is a tenth, whatever a float makes of it."""
    found = PriceBook(load_catalog(), OWN).find("any", "gpt-5")
    assert found is not None
    assert found.input_nano_usd_per_million == 1_100_000_000
    assert found.cache_write_1h_nano_usd_per_million == 1
    assert not found.HasField("cached_input_nano_usd_per_million")
    assert found.source == "the configuration"
