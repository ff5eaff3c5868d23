"""Settings of the ports, and of those who call."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from outrider.config.section import Section
from outrider.config.values import (
    Address,
    Duration,
    Listen,
    NotEmpty,
    Secret,
    Size,
    SocketPath,
    parse_address,
)

_HOUR = 3600  # seconds


class Tls(Section):
    """Encryption of the gRPC port."""

    cert_file: Path = Field(description="PEM file with the server's certificate chain.")
    key_file: Path = Field(description="PEM file with its private key.")
    client_ca_file: Path | None = Field(
        default=None,
        description="PEM file with the authorities whose client certificates are required. None: no mTLS.",
    )


class Drain(Section):
    """What happens between SIGTERM and the end."""

    delay: Duration = Field(
        default=0.0, ge=0, le=_HOUR, description="How long new calls are still served, not ready already."
    )
    grace: Duration = Field(
        default=30.0,
        ge=0,
        le=24 * _HOUR,
        description="How long calls in flight may go on before they are cut.",
    )


class Server(Section):
    """Where callers reach the sidecar."""

    listen: Listen = Field(
        default="127.0.0.1:50051",
        description="TCP address, host:port; port 0 lets the system choose; empty: no TCP.",
    )
    unix_socket: SocketPath | None = Field(
        default=None, description="Path of a Unix socket to listen on as well."
    )
    insecure: bool = Field(
        default=False,
        description="Allow a TCP address that other machines can reach without TLS. Their traffic is plain.",
    )
    tls: Tls | None = Field(default=None, description="Encryption of the TCP port.")
    max_message_bytes: Size = Field(
        default=64 * 2**20,
        ge=1024,
        le=2**31 - 1,
        description="Largest request; answers are bounded by limits.max_response_bytes.",
    )
    max_concurrent_requests: int = Field(
        default=4096, ge=1, le=1_000_000, description="Calls at the same time; more are refused at once."
    )
    reflection: bool | None = Field(
        default=None,
        description="Whether gRPC reflection answers. None: only where all addresses are this machine's.",
    )
    drain: Drain = Field(default=Drain(), description="What happens between SIGTERM and the end.")

    @property
    def address(self) -> Address | None:
        """The TCP address; None where TCP is off."""
        return parse_address(self.listen) if self.listen else None


class Admin(Section):
    """The HTTP port for metrics and probes."""

    listen: Listen = Field(
        default="127.0.0.1:9464",
        description="Address of /metrics, /livez and /readyz; empty: off. It asks for no password: beyond "
        "loopback, whoever reaches the port reads the metrics.",
    )

    @property
    def address(self) -> Address | None:
        """The TCP address; None where the port is off."""
        return parse_address(self.listen) if self.listen else None


class Caller(Section):
    """One who may call. Exactly one of `token` and `token_file` is set."""

    token: Secret | None = Field(default=None, description="The bearer token that the caller sends.")
    token_file: Path | None = Field(
        default=None, description="A file that holds it, read again when it changes."
    )
    models: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], NotEmpty] = Field(
        default=("*",),
        description='Models the caller may use: names, routes, patterns like "openai/*".',
    )
    tenant: str | None = Field(
        default=None,
        max_length=256,
        description="Whose the caller is, whatever its requests say. None: as they say.",
    )
    admin: bool = Field(default=False, description="Whether the caller may change how the sidecar works.")
