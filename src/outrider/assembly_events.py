"""From the configuration of events to the bus and the channels that they leave by."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from outrider.assembly import credential, unheard
from outrider.events.bus import EventBus
from outrider.events.delivery import Delivery
from outrider.events.outlets import Outlets
from outrider.server.event_feed import EventFeed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AsyncExitStack

    from outrider.assembly import SecretNews
    from outrider.config import Config, KafkaEvents
    from outrider.events.kafka_channel import KafkaChannel
    from outrider.stores.redis_link import RedisLink


class MissingPackageError(Exception):
    """What is configured needs a Python package that is not installed; the text says which."""


@dataclass(frozen=True, slots=True)
class Events:
    """Where events are emitted, who watches them, and where else they go."""

    bus: EventBus
    feed: EventFeed
    outlets: Outlets


def open_events(
    config: Config, bus: EventBus, link: RedisLink | None, news: SecretNews, closing: AsyncExitStack
) -> Events:
    """All of it, delivering until `closing` closes. Raises MissingPackageError."""
    channels = outlets(config, bus, link, news)
    closing.push_async_callback(channels.aclose)
    channels.start()
    return Events(bus, EventFeed(bus), channels)


def event_bus(config: Config) -> EventBus:
    """Where events are emitted."""
    return EventBus(config.events.source or f"/outrider/{socket.gethostname()}", time.time)


def outlets(config: Config, bus: EventBus, link: RedisLink | None, news: SecretNews = unheard) -> Outlets:
    """The configured channels, which gather from now on. Raises MissingPackageError."""
    return Outlets([*_redis(config, bus, link), *_kafka(config, bus, news), *_webhooks(config, bus, news)])


def event_secrets(config: Config) -> Callable[[], Iterator[str]]:
    """What must never be logged, as it is at the moment of asking. URLs are not: no line has one."""
    events = config.events
    kept = [credential(hook.secret, hook.secret_file) for hook in events.webhooks]
    if events.kafka:
        kept.append(credential(events.kafka.password, events.kafka.password_file))
    return lambda: filter(None, (each.read() for each in kept))


def _redis(config: Config, bus: EventBus, link: RedisLink | None) -> Iterator[Delivery]:
    settings = config.events.redis
    if settings is None or link is None:
        return
    from outrider.events.redis_channel import RedisChannel

    channel = RedisChannel(link, settings.stream or f"{link.prefix}:events", settings.max_length)
    delivery = Delivery(bus, channel, SystemRandom(), capacity=config.events.buffer)
    link.on_change(lambda available: delivery.hurry() if available else None)
    yield delivery


def _kafka(config: Config, bus: EventBus, news: SecretNews) -> Iterator[Delivery]:
    settings = config.events.kafka
    if settings is not None:
        channel = _kafka_channel(settings, news)
        yield Delivery(bus, channel, SystemRandom(), capacity=config.events.buffer)


def _kafka_channel(settings: KafkaEvents, news: SecretNews) -> KafkaChannel:
    try:
        from outrider.events.kafka_channel import KafkaChannel
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"events.kafka needs the Python package {error.name}: pip install 'outrider[kafka]'"
        ) from None
    return KafkaChannel(settings.topic, _kafka_options(settings, news))


def _kafka_options(settings: KafkaEvents, news: SecretNews) -> Callable[[], dict[str, Any]]:
    """What AIOKafkaProducer is given, with password and authorities as they are at the moment of asking."""
    password = credential(settings.password, settings.password_file, news, "events.kafka.password_file")
    wire = "SSL" if settings.tls else "PLAINTEXT"

    def options() -> dict[str, Any]:
        made: dict[str, Any] = {"bootstrap_servers": list(settings.brokers), "security_protocol": wire}
        if settings.tls:
            made["ssl_context"] = ssl.create_default_context(cafile=settings.ca_file)
        if settings.username:
            made |= {
                "security_protocol": f"SASL_{wire}",
                "sasl_mechanism": settings.mechanism.upper(),
                "sasl_plain_username": settings.username,
                "sasl_plain_password": password.read(),
            }
        return made

    return options


def _webhooks(config: Config, bus: EventBus, news: SecretNews) -> Iterator[Delivery]:
    if not config.events.webhooks:
        return
    from outrider.events.webhook_channel import WebhookChannel

    for number, settings in enumerate(config.events.webhooks):
        url = settings.url.get_secret_value()
        setting = f"events.webhooks[{number}].secret_file"
        secret = credential(settings.secret, settings.secret_file, news, setting)
        channel = WebhookChannel(f"webhook {urlsplit(url).hostname}", url, secret.read, settings.timeout)
        yield Delivery(bus, channel, SystemRandom(), capacity=config.events.buffer, types=settings.types)
