"""`outrider providers`: what a running sidecar can reach, and how it fares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1
from outrider.cli import units
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.table import print_json, print_table
from outrider.v1.provider_service_pb2_grpc import ProviderServiceStub

if TYPE_CHECKING:
    import argparse

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
