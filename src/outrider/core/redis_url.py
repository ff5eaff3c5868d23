"""The URL of a Redis: one server, a Sentinel set or a Cluster, plain or by TLS."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Deployment(StrEnum):
    """How the servers behind a URL belong together."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Host(NamedTuple):
    """Where a server listens."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a URL says. `hosts` are the server, the sentinels, or some servers of the cluster."""

    deployment: Deployment
    tls: bool
    hosts: tuple[Host, ...]
    service: str = ""  # what the sentinels call the master
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """The same without user and password."""
        scheme = f"redis{'s' if self.tls else ''}"
        scheme += "" if self.deployment is Deployment.SINGLE else f"+{self.deployment}"
        path = "".join(f"/{part}" for part in (self.service, self.database) if part)
        return f"{scheme}://{','.join(map(str, self.hosts))}{path}"


_SCHEMES = {
    f"redis{'s' if tls else ''}{suffix}": (deployment, tls)
    for tls in (False, True)
    for suffix, deployment in {
        "": Deployment.SINGLE,
        "+sentinel": Deployment.SENTINEL,
        "+cluster": Deployment.CLUSTER,
    }.items()
}
_PORT, _SENTINEL_PORT = 6379, 26379


def parse_redis_url(text: str) -> RedisUrl:
    """Read a URL. Raises ValueError, whose text says what would be right and never what was given."""
    scheme, _, rest = text.strip().partition("://")
    if scheme.lower() not in _SCHEMES or not rest:
        raise ValueError(f"must be a URL such as redis://redis:6379/0; schemes: {', '.join(_SCHEMES)}")
    deployment, tls = _SCHEMES[scheme.lower()]
    authority, _, path = rest.partition("/")
    if "?" in rest or "#" in rest:
        raise ValueError("must be a URL without ? and #: write them in user and password as %3F and %23")
    user, _, hosts = authority.rpartition("@")
    username, _, password = user.partition(":")
    service, database = _path(deployment, [unquote(part) for part in path.split("/") if part])
    return RedisUrl(
        deployment,
        tls,
        _hosts(hosts, deployment),
        service,
        database,
        unquote(username),
        unquote(password),
    )


def _hosts(text: str, deployment: Deployment) -> tuple[Host, ...]:
    default = _SENTINEL_PORT if deployment is Deployment.SENTINEL else _PORT
    try:
        hosts = tuple(_host(part, default) for part in text.split(","))
    except ValueError:
        raise ValueError("must name each server as host or host:port; IPv6 addresses in brackets") from None
    if deployment is Deployment.SINGLE and len(hosts) > 1:
        raise ValueError("names several servers: use redis+sentinel:// or redis+cluster://")
    return hosts


def _host(text: str, default: int) -> Host:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.netloc != text or parts.port == 0 or not text.isascii() or " " in text:
        raise ValueError
    return Host(parts.hostname, parts.port or default)


def _path(deployment: Deployment, parts: list[str]) -> tuple[str, int]:
    """The service and the database."""
    service = ""
    if deployment is Deployment.SENTINEL:
        if not parts:
            raise ValueError("must name the service: redis+sentinel://host:26379/mymaster")
        service, *parts = parts
    if not parts:
        return service, 0
    if deployment is Deployment.CLUSTER:
        raise ValueError("must not name a database: a Cluster has only one")
    if len(parts) > 1 or not (parts[0].isascii() and parts[0].isdecimal() and len(parts[0]) < 6):
        raise ValueError("must end with the number of the database, such as redis://redis:6379/0")
    return service, int(parts[0])
