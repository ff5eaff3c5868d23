"""Rules that hold between settings. Each finds all that is wrong and says what would be right."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from outrider.config.errors import quoted, suggestion
from outrider.config.tree import Finding
from outrider.config.vendors import SIMULATED, VENDORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outrider.config.schema import Config
    from outrider.config.schema_provider import Provider
    from outrider.config.tree import KeyPath


def findings(config: Config) -> Iterator[Finding]:
    """Everything in a configuration that does not go together."""
    return chain(
        _listeners(config),
        _callers(config),
        *(_provider(name, provider) for name, provider in config.providers.items()),
        _targets(config),
        _named_providers(config),
        _default_model(config),
    )


def _listeners(config: Config) -> Iterator[Finding]:
    server, address = config.server, config.server.address
    at = ("server", "listen")
    if address is None and server.unix_socket is None:
        yield Finding(at, "empty, and server.unix_socket is not set: callers need one of the two")
    if address and not (address.loopback or server.tls or server.insecure):
        yield Finding(
            at,
            "other machines can reach this address: set server.tls, or listen on 127.0.0.1, or set "
            "server.insecure: true where the network itself is trusted",
        )
    if address and address.port and address == config.admin.address:
        written = ("admin", "listen") if config.admin.model_fields_set else at
        yield Finding(written, "server.listen and admin.listen are the same address; use another port")


def _callers(config: Config) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for name, caller in config.callers.items():
        if caller.token and caller.token_file:
            yield Finding(("callers", name, "token_file"), "set either token or token_file, not both")
        elif not caller.token and not caller.token_file:
            yield Finding(("callers", name), "has no token; set token or token_file")
        if caller.token:
            owner = owners.setdefault(caller.token.get_secret_value(), name)
            if owner != name:
                message = f"the same token as caller {quoted(owner)}; each caller needs its own"
                yield Finding(("callers", name, "token"), message)


def _provider(name: str, provider: Provider) -> Iterator[Finding]:
    at = ("providers", name)
    simulated = (provider.format or name) == SIMULATED
    if provider.api_key and provider.api_key_file:
        yield Finding((*at, "api_key_file"), "set either api_key or api_key_file, not both")
    if provider.simulated and not simulated:
        yield Finding((*at, "simulated"), "only a provider with format: simulated has these settings")
    if not (provider.base_url or simulated or name in VENDORS):
        yield Finding(at, f"needs a base_url; only {', '.join(VENDORS)} have one of their own")


def _targets(config: Config) -> Iterator[Finding]:
    for alias, model in config.models.items():
        for position, target in enumerate(model.targets):
            provider = target.partition("/")[0]
            if provider not in config.providers:
                yield _unknown_provider(("models", alias, "targets", position), provider, config)


def _named_providers(config: Config) -> Iterator[Finding]:
    for key in ("primary_provider", "fallback_provider"):
        name = getattr(config, key)
        if name and name not in config.providers:
            yield _unknown_provider((key,), name, config)


def _unknown_provider(path: KeyPath, name: str, config: Config) -> Finding:
    message = f"provider {quoted(name)} is not configured; {suggestion(name, config.providers)}"
    return Finding(path, message, refers_to=name)


def _default_model(config: Config) -> Iterator[Finding]:
    name = config.default_model
    listed = [model for provider in config.providers.values() for model in provider.models]
    known = [*config.models, *listed, *config.providers]
    if name and name not in known and name.partition("/")[0] not in config.providers:
        message = f'{quoted(name)} is neither an alias, nor in the models of a provider, nor "provider/model"'
        yield Finding(("default_model",), f"{message}; {suggestion(name, known)}", refers_to=name)
