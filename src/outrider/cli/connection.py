"""The way to a running sidecar."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from outrider.cli.command_error import usage_error
from outrider.cli.files import read

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

_OPTIONS = [
    # A proxy for the internet does not lead to this machine.
    ("grpc.enable_http_proxy", 0),
    # The sidecar's own limits hold.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A sidecar that starts while somebody waits for it is met soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
# The path of a Unix socket is no host that strict servers accept.
_UNIX_OPTIONS = [*_OPTIONS, ("grpc.default_authority", "localhost")]


@dataclass(frozen=True, slots=True)
class Connection:
    """A channel to a sidecar, and what every call on it is given."""

    channel: grpc.Channel
    address: str
    timeout: float  # seconds
    metadata: tuple[tuple[str, str], ...]

    @property
    def call(self) -> dict[str, Any]:
        """Keyword arguments of a call."""
        return {"timeout": self.timeout, "metadata": self.metadata}


@contextmanager
def connect(arguments: argparse.Namespace) -> Iterator[Connection]:
    """A connection for the time of the block. Raises CommandError in place of every gRPC error within."""
    metadata = _metadata(arguments.token or os.environ.get("OUTRIDER_TOKEN", ""))
    address: str = arguments.address
    with _open(address, arguments.tls_ca) as channel:
        try:
            yield Connection(channel, address, arguments.timeout, metadata)
        except grpc.RpcError as error:
            # Imported here because `outrider health` runs often and rarely fails.
            from outrider.cli.rpc_error import to_command_error

            raise to_command_error(error, address) from None


def _open(address: str, tls_ca: Path | None) -> grpc.Channel:
    options = _UNIX_OPTIONS if address.startswith("unix:") else _OPTIONS
    if tls_ca is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(read(tls_ca)), options)


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    token = token.strip()
    if not token:
        return ()
    if not (token.isascii() and token.isprintable()):
        raise usage_error("the token holds a character that is not printable ASCII")
    return (("authorization", f"Bearer {token}"),)
