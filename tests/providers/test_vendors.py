"""The table of vendors agrees with what the vendors themselves publish."""

from __future__ import annotations

import anthropic
import groq
import openai
import pytest

from outrider.providers.credentials import LiteralKey
from outrider.providers.sdk_transport import SdkTransport
from outrider.providers.vendors import ANTHROPIC, BY_FORMAT, COMPATIBLE, GROQ, OPENAI, VENDORS, Vendor, vendor


@pytest.mark.parametrize(
    ("row", "client", "suffix"),
    [
        (OPENAI, openai.OpenAI, ""),
        (ANTHROPIC, anthropic.Anthropic, ""),
        (GROQ, groq.Groq, "/openai/v1"),
    ],
)
def test_row_is_what_the_official_client_uses(
    row: Vendor, client: type[openai.OpenAI], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Address and key variable of a vendor are those of its own client."""
    monkeypatch.delenv(f"{row.name.upper()}_BASE_URL", raising=False)
    monkeypatch.setenv(row.key_env, "sk-test")
    with client() as official:
        assert f"{official.base_url}{suffix}".rstrip("/") == row.base_url
        assert official.api_key == "sk-test"


@pytest.mark.parametrize("row", [OPENAI, ANTHROPIC, GROQ, COMPATIBLE], ids=lambda row: row.name)
async def test_every_vendor_has_both_transports(row: Vendor) -> None:
    """A row names a client that can be loaded."""
    await (await SdkTransport.load(row.sdk, "http://127.0.0.1:1", LiteralKey("sk-test"))).aclose()


def test_unknown_names_are_compatible_servers() -> None:
    """Any other name is a server that speaks Chat Completions and may need no key."""
    assert vendor("my-vllm") is COMPATIBLE
    assert vendor("groq") is GROQ
    assert all(row.needs_key == bool(row.key_env) for row in VENDORS.values())
    assert BY_FORMAT["openai"] is COMPATIBLE
