"""From configuration to parts: what each is built with.

Formats, the official clients and vocabularies are imported where they are chosen: most sidecars need one of
them, and what is not imported costs neither memory nor time to start.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import structlog

from outrider import assembly_recorder, v1
from outrider.config import Simulated
from outrider.core.context import Principal, Target
from outrider.core.pricing import PriceBook
from outrider.core.tokens import LocalTokenCounter
from outrider.policy.cache import Cache
from outrider.policy.cache_rules import CacheMode, CachePlan, CacheRules
from outrider.providers.credentials import KeyFile, LiteralKey
from outrider.providers.direct_transport import DirectTransport
from outrider.providers.http_provider import HttpProvider
from outrider.providers.signatures import signer
from outrider.providers.vendors import BY_FORMAT, vendor
from outrider.server.app import ServerSettings, Tls
from outrider.server.callers import Callers
from outrider.stores.memory_answers import MemoryAnswers
from outrider.stores.tiered_answers import TieredAnswers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pydantic import SecretStr

    from outrider import config as configuration
    from outrider.config import Config
    from outrider.core.answers import AnswerStore
    from outrider.core.catalog import Catalog, Rates
    from outrider.core.ports import Clock, Provider, TokenCounter, Transport, WireFormat
    from outrider.providers.credentials import Credential
    from outrider.providers.vendors import Vendor
    from outrider.stores.redis_link import RedisLink

    SecretNews: TypeAlias = Callable[[str, bool, str], None]  # setting, whether a new one is used, problem

_SIMULATED = "simulated"

_log = structlog.get_logger("outrider")


def unheard(setting: str, taken: bool, problem: str) -> None:
    """The SecretNews of those whom no change of a secret concerns."""


def credentials(config: Config, news: SecretNews = unheard) -> dict[str, Credential]:
    """Each provider's key, or the place where it will be."""
    return {
        name: credential(each.api_key, each.api_key_file, news, f"providers.{name}.api_key_file")
        for name, each in config.providers.items()
    }


def missing_keys(config: Config, keys: Mapping[str, Credential]) -> dict[str, str]:
    """The providers that have no key now, and why."""
    return {
        name: f"no key: {keys[name].problem}"
        for name, settings in config.providers.items()
        if _vendor(name, settings).needs_key and keys[name].read() is None
    }


async def open_providers(config: Config, keys: Mapping[str, Credential]) -> dict[str, Provider]:
    """Every configured provider, in its order; those without a key too, as it may still come."""
    providers = {
        name: await _open_provider(name, settings, keys[name], config.limits.max_response_bytes)
        for name, settings in config.providers.items()
    }
    return assembly_recorder.recorded(config, providers, secrets(config, keys))


def redis_link(config: Config, news: SecretNews = unheard) -> RedisLink | None:
    """The way to the Redis that a fleet shares, where there is one."""
    redis = config.redis
    if redis.url is None:
        return None
    from outrider.stores.redis_link import RedisLink

    password = credential(redis.password, redis.password_file, news, "redis.password_file")
    return RedisLink(
        redis.url.get_secret_value(),
        username=redis.username or "",
        password=password.read,
        prefix=redis.prefix,
        timeout=redis.timeout,
        connect_timeout=redis.connect_timeout,
        ca_file=str(redis.ca_file) if redis.ca_file else None,
    )


def price_book(config: Config, catalog: Catalog) -> PriceBook:
    """Published prices, with the configured ones over them."""
    return PriceBook(catalog, {name: _rates(price) for name, price in config.prices.items()})


def answers(config: Config, link: RedisLink | None) -> TieredAnswers:
    """Where answers are stored: in memory, in front of Redis where that is configured."""
    memory = MemoryAnswers(config.cache.max_bytes)
    if link is None:
        return TieredAnswers(memory)
    from outrider.stores.redis_answers import RedisAnswers

    return TieredAnswers(memory, RedisAnswers(link))


def cache(config: Config, answers: AnswerStore, book: PriceBook, clock: Clock) -> Cache:
    """The cache of answers, over where they are stored."""

    def rules(settings: configuration.RouteCache) -> CacheRules:
        return CacheRules(
            CacheMode(settings.mode), settings.ttl, settings.stale, settings.shared_between_tenants
        )

    plan = CachePlan(rules(config.cache), {name: rules(config.cache_for(name)) for name in config.routes})
    return Cache(answers, plan, price=book.cost, clock=clock)


def token_counter(config: Config) -> TokenCounter:
    """Counts with the vocabularies at hand, else by estimate; what is wrong with them is logged."""
    folder = config.tokens.vocabulary_dir
    if folder is None:
        return LocalTokenCounter({})
    from outrider.vocabulary import load_vocabularies

    counters, warnings = load_vocabularies(folder)
    for warning in warnings:
        _log.warning("vocabulary", problem=warning)
    return LocalTokenCounter(counters)


def model_describer(catalog: Catalog, book: PriceBook) -> Callable[[Target], v1.Model]:
    """What is known of a model: its limits and its price."""

    def describe(target: Target) -> v1.Model:
        model, entry = v1.Model(), catalog.find(*target)
        if entry is not None:
            model.context_tokens, model.max_output_tokens = entry.context_tokens, entry.max_output_tokens
        price = book.find(*target)
        if price is not None:
            model.price.CopyFrom(price)
        return model

    return describe


def callers(config: Config, news: SecretNews) -> Callers:
    """Who may call."""

    def known(name: str, settings: configuration.Caller) -> tuple[Principal, Callable[[], str]]:
        token = credential(settings.token, settings.token_file, news, f"callers.{name}.token_file")
        principal = Principal(name, settings.models, settings.tenant or "", settings.admin)
        return principal, lambda: token.read() or ""

    return Callers({name: known(name, settings) for name, settings in config.callers.items()})


def server_settings(config: Config) -> ServerSettings:
    """How the gRPC server listens."""
    server, tls = config.server, config.server.tls
    return ServerSettings(
        listen=server.listen,
        unix_socket=server.unix_socket,
        tls=Tls(tls.cert_file, tls.key_file, tls.client_ca_file) if tls else None,
        max_message_bytes=server.max_message_bytes,
        max_concurrent_requests=server.max_concurrent_requests,
        reflection=server.reflection,
    )


def descriptions(config: Config) -> Iterator[v1.Provider]:
    """The providers as ProviderService tells of them."""
    for name, settings in config.providers.items():
        row = _vendor(name, settings)
        yield v1.Provider(
            name=name,
            format=settings.format or row.format,
            transport=settings.transport,
            base_url=_base_url(row, settings),
            default_model=default_model(name, settings),
        )


def secrets(config: Config, keys: Mapping[str, Credential]) -> Callable[[], Iterator[str]]:
    """What must never be logged, as it is at the moment of asking."""
    tokens = [credential(caller.token, caller.token_file) for caller in config.callers.values()]
    redis = config.redis
    own = [credential(redis.password, redis.password_file)]
    if redis.address is not None and redis.address.password:
        own.append(LiteralKey(redis.address.password))

    def now() -> Iterator[str]:
        for each in (*keys.values(), *tokens, *own):
            secret = each.read()
            if secret:
                yield secret

    return now


def _rates(price: configuration.Price) -> Rates:
    return {
        "input": price.input,
        "output": price.output,
        "cached_input": price.cached_input,
        "cache_write": price.cache_write,
        "cache_write_1h": price.cache_write_1h,
    }


async def _open_provider(
    name: str, settings: configuration.Provider, key: Credential, max_response_bytes: int
) -> Provider:
    row = _vendor(name, settings)
    if row.format == _SIMULATED:
        from outrider.providers.simulated import SimulatedProvider, Simulation

        own = settings.simulated or Simulated()
        simulation = Simulation(**own.model_dump(exclude={"replay"}))
        return SimulatedProvider(name, simulation, await assembly_recorder.recordings(own))
    return HttpProvider(
        name,
        _wire_format(row, settings),
        await _open_transport(row, settings, key),
        key,
        needs_key=row.needs_key,
        max_response_bytes=max_response_bytes,
    )


async def _open_transport(row: Vendor, settings: configuration.Provider, key: Credential) -> Transport:
    base_url = _base_url(row, settings)
    if settings.transport == "sdk":
        from outrider.providers.sdk_transport import SdkTransport

        return await SdkTransport.load(row.sdk, base_url, key, headers=settings.headers)
    return DirectTransport(
        base_url, key, auth_header=row.auth_header, auth_prefix=row.auth_prefix, headers=settings.headers
    )


def _wire_format(row: Vendor, settings: configuration.Provider) -> WireFormat:
    signed_by = signer(row.format, _base_url(row, settings))
    if row.format == "anthropic":
        from outrider.providers.anthropic_format import AnthropicFormat

        return AnthropicFormat(signer=signed_by)
    from outrider.providers.openai_format import OpenAIFormat
    from outrider.providers.profiles import COMPATIBLE, PROFILES

    profile = PROFILES.get(row.name, COMPATIBLE)
    return OpenAIFormat(replace(profile, signer=signed_by, done_marker=settings.done_marker))


def _base_url(row: Vendor, settings: configuration.Provider) -> str:
    return settings.base_url or row.base_url


def _vendor(name: str, settings: configuration.Provider) -> Vendor:
    """The row for a provider: by its name, unless it is told to speak another format."""
    row = vendor(name)
    return row if settings.format in (None, row.format) else BY_FORMAT[settings.format]


def default_model(name: str, settings: configuration.Provider) -> str:
    """The model of a provider that is used where none is named; empty where there is none."""
    return settings.default_model or _vendor(name, settings).default_model


def credential(
    key: SecretStr | None, file: Path | None, news: SecretNews = unheard, setting: str = ""
) -> Credential:
    """A secret as it is written, or the file that holds it and that `setting` names."""
    if file is not None:
        return KeyFile(file, on_change=partial(news, setting))
    return LiteralKey(key.get_secret_value() if key else "")
