"""Rules that hold between settings. Each finds all that is wrong and says what would be right."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from outrider.config.checks_events import event_findings
from outrider.config.checks_simulated import simulated_findings
from outrider.config.errors import quoted, suggestion
from outrider.config.tree import Finding, dotted
from outrider.config.vendors import SIMULATED, VENDORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from outrider.config.schema import Config
    from outrider.config.schema_provider import Provider
    from outrider.config.tree import KeyPath


def findings(config: Config) -> Iterator[Finding]:
    """Everything in a configuration that does not go together."""
    return chain(
        _listeners(config),
        _callers(config),
        *(_provider(name, provider) for name, provider in config.providers.items()),
        _routes(config),
        _named_providers(config),
        _default_model(config),
        _redis(config),
        _limits(config),
        _budgets(config),
        event_findings(config),
        _jobs(config),
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


def _jobs(config: Config) -> Iterator[Finding]:
    if config.jobs.ttl > config.jobs.max_ttl:
        yield Finding(("jobs", "ttl"), "is above jobs.max_ttl; set both")


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
    format_ = provider.format or name
    simulated = format_ == SIMULATED
    if provider.api_key and provider.api_key_file:
        yield Finding((*at, "api_key_file"), "set either api_key or api_key_file, not both")
    if provider.simulated and not simulated:
        yield Finding((*at, "simulated"), "only a provider with format: simulated has these settings")
    elif provider.simulated:
        yield from simulated_findings((*at, "simulated"), provider.simulated)
    if not provider.done_marker and format_ in (SIMULATED, "anthropic"):
        yield Finding((*at, "done_marker"), "only a provider with format: openai has this setting")
    if not (provider.base_url or simulated or name in VENDORS):
        yield Finding(at, f"needs a base_url; only {', '.join(VENDORS)} have one of their own")


def _routes(config: Config) -> Iterator[Finding]:
    for name, route in config.routes.items():
        at = ("routes", name, "targets")
        for position, target in enumerate(route.names):
            provider = target.partition("/")[0]
            if provider not in config.providers:
                yield _unknown_provider((*at, position), provider, config)
            if target in route.names[:position]:
                yield Finding((*at, position), f"{quoted(target)} stands here twice; write it once")
        if not any(each.weight for each in route.targets):
            yield Finding(at, "every weight is 0; one at least must be above")
        if route.limits is not None and route.limits.is_empty:
            yield Finding(("routes", name, "limits"), "limits nothing; set numbers")


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
    known = [*config.routes, *listed, *config.providers]
    if name and name not in known and name.partition("/")[0] not in config.providers:
        message = f'{quoted(name)} is neither a route, nor in the models of a provider, nor "provider/model"'
        yield Finding(("default_model",), f"{message}; {suggestion(name, known)}", refers_to=name)


def _redis(config: Config) -> Iterator[Finding]:
    redis, address = config.redis, config.redis.address
    if redis.password and redis.password_file:
        yield Finding(("redis", "password_file"), "set either password or password_file, not both")
    if address and address.password and (redis.password or redis.password_file):
        yield Finding(("redis", "url"), "holds a password, and another one is set beside it; keep one")
    if address and redis.ca_file and not address.tls:
        yield Finding(("redis", "ca_file"), "is of no use without TLS; write rediss:// in redis.url")


def _limits(config: Config) -> Iterator[Finding]:
    first: dict[Any, str] = {
        _scope_of({"provider": name}): f"providers.{name}.limits"
        for name, provider in config.providers.items()
        if provider.limits.limits_rates
    }
    first |= {
        _scope_of({"route": name}): f"routes.{name}.limits"
        for name, route in config.routes.items()
        if route.limits is not None
    }
    for position, rule in enumerate(config.limits.rules):
        at = ("limits", "rules", position)
        if rule.tier is not None and rule.tier not in config.tiers:
            message = f"tier {quoted(rule.tier)} is not configured; {suggestion(rule.tier, config.tiers)}"
            yield Finding((*at, "tier"), message)
        elif rule.tier is None and rule.is_empty:
            yield Finding(at, "limits nothing; set a tier, or numbers such as requests_per_minute")
        yield from _names(at, rule.scope, config)
        yield from _repeated(at, _scope_of(rule.scope), first)


def _budgets(config: Config) -> Iterator[Finding]:
    first: dict[Any, str] = {}
    for position, budget in enumerate(config.budgets):
        at = ("budgets", position)
        if budget.usd is None and budget.tokens is None:
            yield Finding(at, "has no amount; set usd or tokens")
        yield from _names(at, budget.scope, config)
        for unit in ("usd", "tokens"):
            if getattr(budget, unit) is not None:
                yield from _repeated(at, (_scope_of(budget.scope), unit, budget.period), first)


def _names(at: KeyPath, scope: Mapping[Any, str], config: Config) -> Iterator[Finding]:
    """Names in a scope that nothing bears: such a rule would limit nothing, in silence."""
    provider, slash, _ = scope.get("model", "*").partition("/")
    if not slash and not provider.endswith("*"):
        yield Finding((*at, "scope", "model"), 'must be "provider/model", or "provider/*"')
    elif slash and provider not in config.providers:
        yield _unknown_provider((*at, "scope", "model"), provider, config)
    provider, caller = scope.get("provider", "*"), scope.get("caller", "*")
    if not provider.endswith("*") and provider not in config.providers:
        yield _unknown_provider((*at, "scope", "provider"), provider, config)
    if config.callers and not caller.endswith("*") and caller not in config.callers:
        message = f"caller {quoted(caller)} is not configured; {suggestion(caller, config.callers)}"
        yield Finding((*at, "scope", "caller"), message)
    route = scope.get("route", "*")
    if not route.endswith("*") and route not in config.routes:
        message = f"route {quoted(route)} is not configured; {suggestion(route, config.routes)}"
        yield Finding((*at, "scope", "route"), message)


def _scope_of(scope: Mapping[Any, str]) -> frozenset[tuple[str, str]]:
    return frozenset(scope.items())


def _repeated(at: KeyPath, what: object, first: dict[Any, str]) -> Iterator[Finding]:
    before = first.setdefault(what, dotted(at))
    if before != dotted(at):
        yield Finding((*at, "scope"), f"the same scope as {before}; set what holds for it in one place")
