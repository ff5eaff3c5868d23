"""The catalogue of models: that it is sound, and that no model passes for another."""

from __future__ import annotations

import json
from datetime import date
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.core.catalog import load_catalog
from outrider.providers.vendors import VENDORS

CATALOG = load_catalog()
FILE = json.loads(resources.files("outrider.data").joinpath("models.json").read_text())
ROWS = [(vendor, row) for vendor, content in FILE["vendors"].items() for row in content["models"]]
NAMES = [(vendor, name) for vendor, row in ROWS for name in row["names"]]


@pytest.mark.parametrize(("vendor", "row"), ROWS, ids=[row["names"][0] for _, row in ROWS])
def test_rows_are_plausible(vendor: str, row: dict[str, Any]) -> None:
    """Each price has a source and a day, and no rate that is likelier a slip than a price."""
    entry = CATALOG.get(vendor, row["names"][0])
    assert entry is not None
    assert entry.price.source.startswith("https://" if vendor != "simulated" else "made up")
    assert date.fromisoformat(entry.price.as_of)
    for rates in filter(None, (row, row.get("long_prompt"))):
        assert 0 < rates.get("cached_input", rates["input"]) <= rates["input"] < rates["output"]
        five_minutes = rates.get("cache_write", rates["input"])
        assert rates["input"] <= five_minutes <= rates.get("cache_write_1h", five_minutes)
    assert row.get("max_output_tokens", 0) <= row["context_tokens"]


@pytest.mark.parametrize(("vendor", "row"), [(v, row) for v, row in ROWS if "long_prompt" in row])
def test_long_prompts_cost_more(vendor: str, row: dict[str, Any]) -> None:
    """Above its threshold a model has the other price, of which every rate is higher."""
    entry = CATALOG.get(vendor, row["names"][0])
    assert entry is not None
    assert entry.price_for(entry.long_prompt_above) is entry.price
    assert entry.price_for(entry.long_prompt_above + 1) is entry.long_prompt_price
    long = row["long_prompt"]
    assert all(rate > row[name] for name, rate in long.items() if name != "above")
    assert {name for name in row if name in ("cached_input", "cache_write", "cache_write_1h")} <= long.keys()


def test_names_are_unique() -> None:
    """No name of a vendor stands twice."""
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
def test_default_models_are_known(vendor: Any) -> None:
    """The model that a vendor's requests go to unless told otherwise has a price."""
    assert CATALOG.find(vendor.name, vendor.default_model) is not None


@pytest.mark.parametrize(
    ("vendor", "model", "listed"),
    [
        ("openai", "gpt-4o-2024-11-20", "gpt-4o"),
        ("openai", "gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("openai", "gpt-4.1-nano-2025-04-14", "gpt-4.1-nano"),
        ("openai", "gpt-4o-latest", "gpt-4o"),
        ("anthropic", "claude-3-5-haiku-20241022", "claude-3-5-haiku"),
        ("anthropic", "claude-3-7-sonnet-latest", "claude-3-7-sonnet"),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("anthropic", "claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("simulated", "anything", "*"),
    ],
)
def test_dated_versions(vendor: str, model: str, listed: str) -> None:
    """A date or "-latest" at the end makes no other model."""
    found = CATALOG.find(vendor, model)
    assert found is not None
    assert found.price == CATALOG.get(vendor, listed).price  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-audio-preview",
        "gpt-4o-audio-preview-2024-12-17",
        "gpt-4o-realtime-preview-2024-12-17",
        "gpt-4o-2024-13-01",
        "gpt-4o-2024-W08-6",
        "gpt-4o-20241332",
        "gpt-4o-2024",
        "gpt-4ominous",
        "gpt-4",  # of another vendor
        "2024-08-06",
        "-2024-08-06",
        "",
        "*",
    ],
)
def test_strangers(model: str) -> None:
    """A name that only begins like one that is listed, or belongs to another vendor, is not known."""
    vendor = "anthropic" if model == "gpt-4" else "openai"
    assert CATALOG.find(vendor, model) is None


@given(st.sampled_from(NAMES), st.text(min_size=1))
def test_no_loose_match(listed: tuple[str, str], suffix: str) -> None:
    """Whatever follows a name makes it another model, unless it is a date or "-latest"."""
    vendor, name = listed
    dated = suffix[0] in "-@" and suffix[1:].replace("-", "").isdecimal()
    if vendor != "simulated" and not dated and suffix != "-latest" and (vendor, name + suffix) not in NAMES:
        assert CATALOG.find(vendor, name + suffix) is None
