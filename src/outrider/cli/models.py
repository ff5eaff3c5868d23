"""`outrider models`: what a running sidecar lets its caller name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider import v1
from outrider.cli import units
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.table import model_cells, print_json, print_table
from outrider.v1.provider_service_pb2_grpc import ProviderServiceStub

if TYPE_CHECKING:
    import argparse

_COLUMNS = ("MODEL", "LEADS TO", "IN $/M", "OUT $/M", "CONTEXT")
_UNKNOWN = "-"


def run(arguments: argparse.Namespace) -> int:
    """Print the models. Raises CommandError."""
    request = v1.ListModelsRequest(provider=arguments.provider)
    with connect(arguments) as sidecar:
        response = ProviderServiceStub(sidecar.channel).ListModels(request, **sidecar.call)
    if arguments.json:
        print_json(response)
    else:
        print_table(_COLUMNS, [_row(model) for model in response.models])
    return ExitCode.OK


def _row(model: v1.Model) -> tuple[str, ...]:
    price = model.price if model.HasField("price") else None
    return (
        *model_cells(model.name, model.targets, default=model.is_default),
        units.usd(price.input_nano_usd_per_million) if price else _UNKNOWN,
        units.usd(price.output_nano_usd_per_million) if price else _UNKNOWN,
        f"{model.context_tokens:,}" if model.context_tokens else _UNKNOWN,
    )
