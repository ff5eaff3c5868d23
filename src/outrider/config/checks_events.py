"""Rules that hold between the settings of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.config.tree import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outrider.config.schema import Config
    from outrider.config.schema_events import KafkaEvents


def event_findings(config: Config) -> Iterator[Finding]:
    """Everything about events that does not go together."""
    events = config.events
    if events.redis and config.redis.url is None:
        yield Finding(("events", "redis"), "there is no Redis to write to; set redis.url")
    if events.kafka:
        yield from _kafka(events.kafka)
    for position, webhook in enumerate(events.webhooks):
        at = ("events", "webhooks", position)
        if webhook.secret and webhook.secret_file:
            yield Finding((*at, "secret_file"), "set either secret or secret_file, not both")
        elif not webhook.secret and not webhook.secret_file:
            yield Finding(at, "has nothing to sign with; set secret or secret_file")


def _kafka(kafka: KafkaEvents) -> Iterator[Finding]:
    at = ("events", "kafka")
    if kafka.password and kafka.password_file:
        yield Finding((*at, "password_file"), "set either password or password_file, not both")
    if kafka.username and not (kafka.password or kafka.password_file):
        yield Finding((*at, "username"), "has no password; set password or password_file")
    if not kafka.username and (kafka.password or kafka.password_file):
        yield Finding(at, "has a password, but no username")
    if kafka.ca_file and not kafka.tls:
        yield Finding((*at, "ca_file"), "is of no use without TLS; set tls: true")
    if kafka.username and kafka.mechanism == "plain" and not kafka.tls:
        yield Finding((*at, "mechanism"), "plain would show the password to the network; set tls: true")
