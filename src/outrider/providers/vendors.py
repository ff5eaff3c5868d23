"""The vendors that Outrider knows by name: what differs between them is data.

Addresses and key variables are those of the official clients (openai 3.52, anthropic 2.11, groq 1.7); headers
are those of https://platform.openai.com/docs/api-reference, https://docs.anthropic.com/en/api/overview and
https://console.groq.com/docs/api-reference, read in November 2026. Default models are each vendor's small
current one, from the clients' own lists of models.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vendor:
    """One row. Everything in it is a default that the configuration may replace."""

    name: str
    format: str  # of the wire: "openai", "anthropic" or "simulated"
    base_url: str = ""  # the paths of the wire format are appended to it
    auth_header: str = "Authorization"
    auth_prefix: str = "Bearer "
    key_env: str = ""
    default_model: str = ""
    needs_key: bool = True
    sdk: str = ""  # Python package of the official client; empty where there is none


OPENAI = Vendor(
    name="openai",
    format="openai",
    base_url="https://api.openai.com/v1",
    key_env="OPENAI_API_KEY",
    default_model="gpt-6-luna",
    sdk="openai",
)

ANTHROPIC = Vendor(
    name="anthropic",
    format="anthropic",
    base_url="https://api.anthropic.com",
    auth_header="x-api-key",
    auth_prefix="",
    key_env="ANTHROPIC_API_KEY",
    default_model="claude-haiku-5-5",
    sdk="anthropic",
)

GROQ = Vendor(
    name="groq",
    format="openai",
    base_url="https://api.groq.com/openai/v1",
    key_env="GROQ_API_KEY",
    default_model="openai/gpt-oss-20b",
    sdk="groq",
)

SIMULATED = Vendor(name="simulated", format="simulated", default_model="echo", needs_key=False)

COMPATIBLE = Vendor(name="compatible", format="openai", needs_key=False, sdk="openai")
"""Any other server that speaks OpenAI's Chat Completions; it needs a `base_url` and may need a key."""

VENDORS = {vendor.name: vendor for vendor in (OPENAI, ANTHROPIC, GROQ, SIMULATED)}


def vendor(name: str) -> Vendor:
    """The row of a vendor; COMPATIBLE for a name that is not known."""
    return VENDORS.get(name, COMPATIBLE)


BY_FORMAT = {row.format: row for row in (COMPATIBLE, ANTHROPIC, SIMULATED)}
"""The rows for servers that speak a known format under a name of their own."""
