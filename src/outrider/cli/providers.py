"""`outrider providers`: what a running sidecar can reach, and how it fares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1
from outrider.cli import units
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.table import Styled, print_json, print_table
from outrider.v1.provider_service_pb2_grpc import ProviderServiceStub

if TYPE_CHECKING:
    import argparse

    from outrider.cli.table import Cell

_STATES = {"closed": "green", "half open": "yellow", "paused": "yellow", "open": "red"}
_TARGET_COLUMNS = ("TARGET", "CALLS", "SUCCESS", "NEXT CALL (UTC)")
_COLUMNS = ("PROVIDER", "STATUS", "WHY", "FORMAT", "TRANSPORT", "ADDRESS", "DEFAULT MODEL")


def run(arguments: argparse.Namespace) -> int:
    """Print the providers. Raises CommandError."""
    with connect(arguments) as sidecar:
        stub = ProviderServiceStub(sidecar.channel)
        response = stub.ListProviders(v1.ListProvidersRequest(), **sidecar.call)
    if arguments.json:
        print_json(response)
    else:
        print_table(_COLUMNS, [_row(provider) for provider in response.providers])
        targets = [_target_row(each.name, target) for each in response.providers for target in each.targets]
        if targets:
            print()
            print_table(_TARGET_COLUMNS, targets, numbers=("SUCCESS",))
    return ExitCode.OK


def status_name(provider: v1.Provider) -> str:
    """A provider's status in words: "not serving"."""
    return units.words(units.name_of(v1.ProviderStatus, provider.status, "PROVIDER_STATUS_"))


def _row(provider: v1.Provider) -> tuple[str, ...]:
    return (
        provider.name,
        status_name(provider),
        provider.status_reason,
        provider.format,
        provider.transport,
        provider.base_url,
        provider.default_model,
    )


def _target_row(provider: str, target: v1.ProviderTarget) -> tuple[Cell, ...]:
    state = units.words(units.name_of(v1.TargetState, target.state, "TARGET_STATE_"))
    return (
        f"{provider}/{target.model or '(other models)'}",
        Styled(state, _STATES.get(state, "")),
        f"{target.success_rate:.0%}" if target.HasField("success_rate") else "-",
        units.moment(target.until) if target.HasField("until") else "now",
    )
