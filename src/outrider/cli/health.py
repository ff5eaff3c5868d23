"""`outrider health`: whether a sidecar serves. Run often by containers, so it imports little."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from outrider.cli.command_error import CommandError
from outrider.cli.connection import connect
from outrider.cli.exit_codes import ExitCode
from outrider.cli.units import name_of

if TYPE_CHECKING:
    import argparse

_INTERVAL = 0.1  # seconds between two looks at a sidecar that is not ready


def run(arguments: argparse.Namespace) -> int:
    """Print the status; OK where it is SERVING, else FAILED. Raises CommandError where there is none."""
    try:
        with connect(arguments) as sidecar:
            stub = HealthStub(sidecar.channel)
            if arguments.wait is None:
                status = _check(stub, arguments.service, sidecar.timeout)
            else:
                status = _wait(stub, arguments)
            if arguments.all:
                _print_all(stub, sidecar.timeout)
            else:
                print(_name(status))
    except CommandError as error:
        # Callers such as a container's health check know two answers.
        error.exit_code = ExitCode.FAILED
        raise
    return ExitCode.OK if status == HealthCheckResponse.SERVING else ExitCode.FAILED


def _check(stub: HealthStub, service: str, timeout: float, *, patiently: bool = False) -> int:
    try:
        request = HealthCheckRequest(service=service)
        status: int = stub.Check(request, timeout=timeout, wait_for_ready=patiently).status
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        message = f"no service '{service}'; `outrider health --all` lists what there is"
        raise CommandError(message, ExitCode.FAILED, "NOT_FOUND") from None
    return status


def _wait(stub: HealthStub, arguments: argparse.Namespace) -> int:
    """Ask until the answer is SERVING or time is up, which includes the time until a sidecar is there."""
    deadline = time.monotonic() + arguments.wait
    while True:
        try:
            status = _check(stub, arguments.service, deadline - time.monotonic(), patiently=True)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            message = f"no sidecar answered at {arguments.address} within {arguments.wait:g} s"
            raise CommandError(message, ExitCode.FAILED, "DEADLINE_EXCEEDED") from None
        if status == HealthCheckResponse.SERVING or time.monotonic() + _INTERVAL >= deadline:
            return status
        time.sleep(_INTERVAL)


def _print_all(stub: HealthStub, timeout: float) -> None:
    from outrider.cli.table import print_table

    statuses = stub.List(HealthListRequest(), timeout=timeout).statuses
    rows = [(name or "(overall)", _name(statuses[name].status)) for name in sorted(statuses)]
    print_table(("NAME", "STATUS"), rows)


def _name(status: int) -> str:
    return name_of(HealthCheckResponse.ServingStatus, status, "")
