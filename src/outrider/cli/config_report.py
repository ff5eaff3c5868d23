"""What a configuration amounts to: who may call where, which providers, which models. Never a key."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from outrider import assembly, assembly_routes
from outrider.core.catalog import load_catalog
from outrider.providers.vendors import vendor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from outrider import v1
    from outrider.config import Config, Server
    from outrider.config import Provider as ProviderSettings
    from outrider.providers.credentials import Credential


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that is served."""

    protocol: str
    address: str
    reach: str


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider, and whether there is a key for it."""

    name: str
    format: str
    transport: str
    base_url: str
    key: str  # "found", "missing" or "not needed"
    key_source: str  # where it is, or where it should be


@dataclass(frozen=True, slots=True)
class Model:
    """A name, and where it leads."""

    name: str
    targets: tuple[str, ...]
    default: bool


@dataclass(frozen=True, slots=True)
class ConfigReport:
    """The whole of it."""

    listeners: tuple[Listener, ...]
    callers: tuple[str, ...]
    providers: tuple[Provider, ...]
    models: tuple[Model, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def report(config: Config, environ: Mapping[str, str]) -> ConfigReport:
    """Tell what a sidecar with this configuration would do, from the same parts that it would be built of."""
    keys = assembly.credentials(config)
    missing = assembly.missing_keys(config, keys)

    def describe(provider: v1.Provider) -> Provider:
        name = provider.name
        key = _key(config.providers[name], keys[name], vendor(name).key_env, environ, needed=name in missing)
        return Provider(name, provider.format, provider.transport, provider.base_url, *key)

    return ConfigReport(
        listeners=tuple(_listeners(config)),
        callers=tuple(config.callers),
        providers=tuple(map(describe, assembly.descriptions(config))),
        models=tuple(_models(config, keys)),
    )


def _listeners(config: Config) -> Iterator[Listener]:
    server, admin = config.server, config.admin
    if server.address:
        yield Listener("gRPC", server.listen, _reach(server))
    if server.unix_socket:
        yield Listener("gRPC", f"unix://{server.unix_socket}", "this machine, by file permission")
    if admin.address:
        yield Listener(
            "HTTP", admin.listen, "this machine" if admin.address.loopback else "other machines, plain"
        )


def _reach(server: Server) -> str:
    if server.tls:
        return "TLS, with client certificates" if server.tls.client_ca_file else "TLS"
    return "this machine" if server.address and server.address.loopback else "other machines, plain"


def _key(
    settings: ProviderSettings, key: Credential, variable: str, environ: Mapping[str, str], *, needed: bool
) -> tuple[str, str]:
    found = key.read()
    if settings.api_key_file:
        place = f"file {settings.api_key_file}"
        return ("found", place) if found else ("missing", f"{place}: {key.problem}")
    if found:
        # The configuration does not tell where a value came from; the variable that holds it does.
        holders = (name for name in (variable, *sorted(environ)) if environ.get(name, "").strip() == found)
        return "found", next(holders, "the configuration")
    if needed:
        return "missing", f"set {variable}" if variable else "set api_key or api_key_file"
    return "not needed", ""


def _models(config: Config, keys: Mapping[str, Credential]) -> Iterator[Model]:
    """The models that are configured by name; the catalogue's others can be named too."""
    routes = assembly_routes.route_table(config, keys, load_catalog())
    named = {route.name: route.targets for route in routes.routes}
    named |= {str(target): (target,) for target in assembly_routes.known_targets(config, routes)}
    for name, targets in named.items():
        yield Model(name, tuple(map(str, targets)), targets == routes.default)
