"""Asking the providers, through a running sidecar, whether they answer and accept the key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from outrider import v1
from outrider.cli.connection import connect
from outrider.cli.providers import status_name
from outrider.cli.units import seconds_of
from outrider.core.errors import Reason
from outrider.v1.provider_service_pb2_grpc import ProviderServiceStub

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of asking one provider. That it has no key is not a fault: it takes no calls."""

    provider: str
    ok: bool
    status: str
    reason: str
    message: str
    seconds: float


def check_live(arguments: argparse.Namespace, providers: Iterable[str]) -> list[Finding]:
    """Ask them all at the same time. Raises CommandError where no sidecar answers."""
    with connect(arguments) as sidecar:
        stub = ProviderServiceStub(sidecar.channel)
        calls = {
            name: stub.CheckProvider.future(v1.CheckProviderRequest(provider=name), **sidecar.call)
            for name in providers
        }
        return [_finding(name, call) for name, call in calls.items()]


def _finding(name: str, call: grpc.Future[v1.CheckProviderResponse]) -> Finding:
    try:
        response = call.result()
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return Finding(name, False, "unknown", "", "the running sidecar has another configuration", 0.0)
    provider = response.provider
    return Finding(
        provider=name,
        ok=response.reason in ("", Reason.PROVIDER_NOT_CONFIGURED),
        status=status_name(provider),
        reason=response.reason,
        message=provider.status_reason,
        seconds=seconds_of(response.latency),
    )
