"""`outrider models`, `outrider providers` and `outrider version`."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING

import google.protobuf
import grpc
import pytest
from google.protobuf.json_format import Parse
from google.protobuf.timestamp_pb2 import Timestamp

from outrider import __version__, v1
from tests.cli.stand_in import Status

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.cli.stand_in import StandIn

MODELS = [
    v1.Model(
        name="fast",
        targets=["groq/llama", "openai/gpt"],
        is_default=True,
        context_tokens=128_000,
        price=v1.Price(input_nano_usd_per_million=50_000_000, output_nano_usd_per_million=1_250_000_000),
    ),
    v1.Model(name="local/llama", targets=["local/llama"]),
]
PROVIDERS = [
    v1.Provider(
        name="openai",
        format="openai",
        transport="direct",
        base_url="https://api.openai.com/v1",
        status=v1.PROVIDER_STATUS_DISABLED,
        status_reason="no key:\nset one\x1b[2J",
        default_model="gpt",
    ),
    v1.Provider(name="sim", format="simulated", status=v1.PROVIDER_STATUS_SERVING),
]


def test_models_are_shown_with_targets_and_prices(run: Run, stand_in: StandIn) -> None:
    """Prices are dollars per million tokens; what is unknown is a dash, never a zero."""
    stand_in.models = MODELS
    result = run("models")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "MODEL           LEADS TO                     IN $/M  OUT $/M  CONTEXT",
        "fast (default)  groq/llama, then openai/gpt  $0.05   $1.25    128,000",
        "local/llama                                  -       -        -",
    ]


def test_models_of_one_provider_are_asked_for(run: Run, stand_in: StandIn) -> None:
    """--provider is left to the sidecar; no models at all is an empty table."""
    result = run("models", "--provider", "groq")
    assert result.out.splitlines() == ["MODEL  LEADS TO  IN $/M  OUT $/M  CONTEXT"]
    assert stand_in.requests == [v1.ListModelsRequest(provider="groq")]


def test_providers_are_shown_with_their_health(run: Run, stand_in: StandIn) -> None:
    """A reason stays on its line and cannot command the terminal."""
    stand_in.providers = PROVIDERS
    result = run("providers")
    assert (result.code, result.err) == (0, "")
    heading, *rows = (line.split() for line in result.out.splitlines())
    assert heading == ["PROVIDER", "STATUS", "WHY", "FORMAT", "TRANSPORT", "ADDRESS", "DEFAULT", "MODEL"]
    why = ["no", "key:", "set", "one\ufffd[2J"]
    assert rows == [
        ["openai", "disabled", *why, "openai", "direct", "https://api.openai.com/v1", "gpt"],
        ["sim", "serving", "simulated"],
    ]


def test_targets_are_shown_with_how_they_fare(run: Run, stand_in: StandIn) -> None:
    """Below the providers: what each target lets through, its share of successes, and when it is called."""
    until = Timestamp(seconds=1_700_000_000)
    targets = [
        v1.ProviderTarget(model="gpt", state=v1.TARGET_STATE_CLOSED, success_rate=0.984),
        v1.ProviderTarget(model="gpt-mini", state=v1.TARGET_STATE_OPEN, success_rate=0, until=until),
        v1.ProviderTarget(state=v1.TARGET_STATE_PAUSED, until=until),
    ]
    stand_in.providers = [v1.Provider(name="openai", targets=targets)]
    below = run("providers").out.partition("\n\n")[2].splitlines()
    assert below == [
        "TARGET                 CALLS   SUCCESS  NEXT CALL (UTC)",
        "openai/gpt             closed      98%  now",
        "openai/gpt-mini        open         0%  2023-11-14 22:13:20",
        "openai/(other models)  paused        -  2023-11-14 22:13:20",
    ]


def test_json_is_the_answer_of_the_api(run: Run, stand_in: StandIn) -> None:
    """--json prints the response in the API's field names, with empty lists where there is nothing."""
    stand_in.models, stand_in.providers = MODELS, PROVIDERS
    assert Parse(run("models", "--json").out, v1.ListModelsResponse()).models == MODELS
    assert Parse(run("providers", "--json").out, v1.ListProvidersResponse()).providers == PROVIDERS
    stand_in.models = []
    assert json.loads(run("models", "--json").out) == {"models": []}


@pytest.mark.parametrize("command", ["models", "providers"])
def test_listing_errors_have_the_same_exit_codes(run: Run, stand_in: StandIn, command: str) -> None:
    """A caller without a token is refused as with `generate`, in words or as JSON."""
    stand_in.refusal = Status(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    assert run(command).code == 3
    result = run(command, "--json")
    assert (result.code, json.loads(result.out)["error"]["code"]) == (3, "UNAUTHENTICATED")


def test_versions_are_those_that_run(run: Run) -> None:
    """Outrider's own version, and those of Python, gRPC and protobuf."""
    expected = {
        "outrider": __version__,
        "python": platform.python_version(),
        "grpc": grpc.__version__,
        "protobuf": google.protobuf.__version__,
    }
    assert dict(line.split() for line in run("version").out.splitlines()) == expected
    assert json.loads(run("version", "--json").out) == expected
    assert run("--version").out == f"outrider {__version__}\n"
