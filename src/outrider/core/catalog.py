"""The models that Outrider knows: prices, limits and what they lack, from `outrider/data/models.json`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from importlib import resources
from typing import NotRequired, TypeAlias, TypedDict

import msgspec

from outrider import v1
from outrider.core.model_facts import Capability, ModelFacts

_NANO = 1_000_000_000
_DATE_LENGTHS = (11, 9)  # of "-2024-08-06" and of "-20241022"

Usd: TypeAlias = Decimal | float
"""US dollars per million tokens."""


class Rates(TypedDict):
    """What one model costs. What is absent or None is priced as `v1.Price` says."""

    input: Usd
    output: Usd
    cached_input: NotRequired[Usd | None]
    cache_write: NotRequired[Usd | None]
    cache_write_1h: NotRequired[Usd | None]


def price(rates: Rates, source: str, as_of: str = "") -> v1.Price:
    """Rates as a message, converted exactly; a float counts as it is written."""
    return v1.Price(
        input_nano_usd_per_million=_nano(rates["input"]),
        output_nano_usd_per_million=_nano(rates["output"]),
        cached_input_nano_usd_per_million=_nano(rates.get("cached_input")),
        cache_write_nano_usd_per_million=_nano(rates.get("cache_write")),
        cache_write_1h_nano_usd_per_million=_nano(rates.get("cache_write_1h")),
        source=source,
        as_of=as_of,
    )


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One model. Limits are 0 where they are not known."""

    price: v1.Price
    context_tokens: int = 0
    max_output_tokens: int = 0
    long_prompt_above: int = 0  # input tokens
    long_prompt_price: v1.Price | None = None  # of the whole request, once its prompt is longer
    lacks: frozenset[Capability] = frozenset()

    @property
    def facts(self) -> ModelFacts:
        """What decides whether a request can go there."""
        return ModelFacts(self.context_tokens, self.lacks)

    def price_for(self, input_tokens: int) -> v1.Price:
        """The price of a request with a prompt of this length."""
        if self.long_prompt_price is not None and input_tokens > self.long_prompt_above:
            return self.long_prompt_price
        return self.price


class Catalog:
    """Entries by vendor and name."""

    def __init__(self, entries: Mapping[tuple[str, str], CatalogEntry]) -> None:
        self._entries = entries

    def get(self, vendor: str, name: str) -> CatalogEntry | None:
        """The entry under exactly this name."""
        return self._entries.get((vendor, name))

    def models(self, vendor: str) -> Iterator[str]:
        """The names of a vendor's models, in the order of the file."""
        return (name for owner, name in self._entries if owner == vendor and name != "*")

    def find(self, vendor: str, model: str) -> CatalogEntry | None:
        """The entry of a model, under the first of its `names_of` that there is."""
        for name in names_of(model):
            if (entry := self.get(vendor, name)) is not None:
                return entry
        return None


def names_of(model: str) -> tuple[str, ...]:
    """The names under which a model may be listed: its own, the one without a date or "-latest", and "*".

    Never a mere beginning: "gpt-4o-audio" is not a kind of "gpt-4o".
    """
    return (model, _undated(model), "*")


class _Rates(msgspec.Struct, frozen=True, kw_only=True):
    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None

    def rates(self) -> Rates:
        return {
            "input": self.input,
            "output": self.output,
            "cached_input": self.cached_input,
            "cache_write": self.cache_write,
            "cache_write_1h": self.cache_write_1h,
        }


class _LongPrompt(_Rates, frozen=True, kw_only=True):
    above: int


class _Model(_Rates, frozen=True, kw_only=True):
    names: tuple[str, ...]
    context_tokens: int = 0
    max_output_tokens: int = 0
    long_prompt: _LongPrompt | None = None
    as_of: str = ""  # where it differs from the vendor's
    lacks: tuple[Capability, ...] = ()  # besides the vendor's


class _Vendor(msgspec.Struct, frozen=True):
    source: str
    as_of: str
    models: tuple[_Model, ...]
    lacks: tuple[Capability, ...] = ()


class _File(msgspec.Struct, frozen=True):
    vendors: dict[str, _Vendor]


def load_catalog() -> Catalog:
    """The catalogue that comes with Outrider."""
    text = resources.files("outrider.data").joinpath("models.json").read_bytes()
    vendors = msgspec.json.decode(text, type=_File).vendors
    return Catalog(
        {
            (vendor_name, name): _entry(vendor, model)
            for vendor_name, vendor in vendors.items()
            for model in vendor.models
            for name in model.names
        }
    )


def _entry(vendor: _Vendor, model: _Model) -> CatalogEntry:
    as_of = model.as_of or vendor.as_of
    long = model.long_prompt
    return CatalogEntry(
        price=price(model.rates(), vendor.source, as_of),
        context_tokens=model.context_tokens,
        max_output_tokens=model.max_output_tokens,
        long_prompt_above=long.above if long else 0,
        long_prompt_price=price(long.rates(), vendor.source, as_of) if long else None,
        lacks=frozenset((*vendor.lacks, *model.lacks)),
    )


def _nano(usd: Usd | None) -> int | None:
    if usd is None:
        return None
    return int((Decimal(str(usd)) * _NANO).to_integral_value(ROUND_HALF_EVEN))


def _undated(model: str) -> str:
    """The name without a date or "-latest" at its end: "gpt-4o" for "gpt-4o-2024-08-06"."""
    if model.endswith("-latest"):
        return model.removesuffix("-latest")
    for length in _DATE_LENGTHS:
        name, mark, day = model[:-length], model[-length : 1 - length], model[1 - length :]
        if mark in ("-", "@") and _is_date(day):
            return name
    return model


def _is_date(text: str) -> bool:
    if not text.replace("-", "").isdecimal():
        return False  # ISO 8601 also knows weeks
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
