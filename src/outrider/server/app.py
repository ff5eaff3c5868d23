"""The gRPC server: options, listeners, services."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from outrider.server.guard import ErrorGuard
from outrider.server.in_flight import InFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from outrider.server.health import Health

Service: TypeAlias = "tuple[object, Callable[[Any, Any], None]]"
"""A servicer, and the generated `add_…Servicer_to_server` of its service."""

# Health checks have room beyond the limit of requests: a busy sidecar is not a dead one.
_ROOM_FOR_OTHERS = 1024
_LAST_WORDS_SECONDS = 0.5  # for the statuses of calls that are cut
_GOODBYE_SECONDS = 0.1  # for callers to close their connections; who watches health does not
_MAX_INT = 2**31 - 1


class ListenError(Exception):
    """An address cannot be listened on; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. With a client CA, callers must show a certificate of it."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What the server needs to know; the configuration's names."""

    listen: str
    unix_socket: str | None
    tls: Tls | None
    max_message_bytes: int
    max_concurrent_requests: int
    reflection: bool | None


class _Register:
    """Stands in a server's place, and learns what would be served."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Nothing that a name is needed of."""

    def add_registered_method_handlers(self, name: str, handlers: Mapping[str, object]) -> None:
        self.names.append(name)


def service_names(services: Iterable[Service]) -> tuple[str, ...]:
    """The full names of services, such as "outrider.v1.GenerationService", in their order."""
    register = _Register()
    for servicer, add_to_server in services:
        add_to_server(servicer, register)
    return tuple(register.names)


class GrpcServer:
    """Serves services, health and, where it is wanted, reflection until stopped.

    `detached` gives how many requests go on whose calls have ended: they count as calls do.
    """

    def __init__(
        self,
        settings: ServerSettings,
        services: Sequence[Service],
        health: Health,
        detached: Callable[[], int] = lambda: 0,
    ) -> None:
        self._settings = settings
        self._in_flight = InFlight(settings.max_concurrent_requests, detached)
        self._server = grpc.aio.server(
            interceptors=[ErrorGuard(self._in_flight, settings.max_message_bytes)],
            options=_options(settings),
            maximum_concurrent_rpcs=settings.max_concurrent_requests + _ROOM_FOR_OTHERS,
        )
        for servicer, add_to_server in services:
            add_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(health, self._server)
        local = not settings.listen or is_loopback(settings.listen)
        if local if settings.reflection is None else settings.reflection:
            reflection.enable_server_reflection(
                (*service_names(services), "grpc.health.v1.Health", reflection.SERVICE_NAME), self._server
            )
        self.port = 0  # of the TCP listener, once started

    async def start(self) -> None:
        """Listen. Raises ListenError."""
        if self._settings.listen:
            self.port = self._listen_tcp(self._settings.listen)
        if self._settings.unix_socket:
            self._listen_unix(Path(self._settings.unix_socket))
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Refuse new calls, wait up to `grace` seconds for those that run, end the rest; all with DRAINING.

        Health answers until the last moment. grpc's own stop would refuse, and end, without a reason.
        """
        self._in_flight.refuse()
        try:
            await self._in_flight.ended(within=grace)
        finally:
            self._in_flight.cut()
            await self._in_flight.ended(within=_LAST_WORDS_SECONDS)
            await self._server.stop(_GOODBYE_SECONDS)

    def _listen_tcp(self, address: str) -> int:
        try:
            _check_free(address)
            tls = self._settings.tls
            if tls is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, _credentials(tls))
        except (RuntimeError, OSError) as error:
            raise ListenError(f"cannot listen on {address}: {_why(error)}") from error

    def _listen_unix(self, path: Path) -> None:
        try:
            _remove_stale(path)
            _check_bindable(path)
            # Mode 0660 from the first moment: the pod's containers share a group, not a user.
            umask = os.umask(0o117)
            try:
                self._server.add_insecure_port(f"unix://{path.absolute()}")
            finally:
                os.umask(umask)
        except (RuntimeError, OSError) as error:
            raise ListenError(f"cannot listen on {path}: {_why(error)}") from error


def _check_free(address: str) -> None:
    """Raise OSError where an address cannot be had: grpc says why only in a log of its own."""
    host, _, port = address.rpartition(":")
    problems: list[OSError] = []
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    for family, kind, *_, where in found:
        try:
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
        except OSError as problem:
            problems.append(problem)
    # A machine without IPv6 still has a localhost: one that is free will do.
    if len(problems) == len(found):
        raise problems[0]


def _check_bindable(path: Path) -> None:
    """The same for a Unix socket. Leaves anything that is not a socket alone."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(str(path))
    path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove the socket of a sidecar that was killed; leave that of a living one, and anything else, alone.

    Raises OSError.
    """
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def is_loopback(address: str) -> bool:
    """Whether host:port can be reached from this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """Raises ListenError where the files cannot be used: grpc would only log it."""
    check = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        check.load_cert_chain(tls.cert_file, tls.key_file, password="")  # an empty one: do not ask for it
        pair = (tls.key_file.read_bytes(), tls.cert_file.read_bytes())
        client_ca = tls.client_ca_file.read_bytes() if tls.client_ca_file else None
        if tls.client_ca_file:
            check.load_verify_locations(tls.client_ca_file)
    except OSError as error:
        files = filter(None, (tls.cert_file, tls.key_file, tls.client_ca_file))
        raise ListenError(f"cannot use the TLS files {', '.join(map(str, files))}: {_why(error)}") from error
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        # Beyond its limit grpc answers RESOURCE_EXHAUSTED, as if it were a rate limit. Ours lies below.
        ("grpc.max_receive_message_length", min(2 * settings.max_message_bytes, _MAX_INT)),
        # How large an answer may be is for limits.max_response_bytes to say.
        ("grpc.max_send_message_length", -1),
        # Two sidecars on one port would share its connections at random.
        ("grpc.so_reuseport", 0),
        # Callers ping during a long prefill; by default they would be cut off for it. Many ping every 10 s,
        # and need a margin. (The macro says MIN_RECV_PING; an option of that name is silently ignored.)
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
