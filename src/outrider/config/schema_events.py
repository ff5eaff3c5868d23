"""Settings of where events go."""

import base64
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from outrider.config.section import Section
from outrider.config.values import AnyCase, Duration, NotEmpty, Secret, parse_address, wrong
from outrider.core.events import is_beginning

_VISIBLE_ASCII = re.compile(r"[!-~]*")
_STREAM = re.compile(r"[!-~]{1,256}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_KEY_BYTES = range(24, 65)


def _source(value: str) -> str:
    if not _VISIBLE_ASCII.fullmatch(value):
        raise wrong("must be printable ASCII without spaces, such as /outrider/checkout-7d9f")
    return value


def _stream(value: str) -> str:
    if not _STREAM.fullmatch(value):
        raise wrong("must be printable ASCII without spaces, at most 256 characters")
    return value


def _broker(value: str) -> str:
    try:
        port = parse_address(value).port
    except ValueError:
        port = 0
    if not port:
        raise wrong('must be "host:port", such as "kafka:9092"')
    return value


def _topic(value: str) -> str:
    if not _TOPIC.fullmatch(value) or value in {".", ".."}:
        raise wrong('must be the name of a topic: letters, digits and any of "._-", at most 249')
    return value


def _url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not _VISIBLE_ASCII.fullmatch(text):
        raise wrong("must be a URL, such as https://hooks.example.com/outrider")
    if "@" in parts.netloc or parts.fragment:
        raise wrong("must be a URL without user and fragment")
    return value


def _signing_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if len(key) not in _KEY_BYTES:
        raise wrong("must be whsec_ and 24 to 64 random bytes in base64, as of `openssl rand -base64 32`")
    return SecretStr(text)


def _type(value: str) -> str:
    if not is_beginning(value):
        raise wrong('must be a type of events or its beginning, such as "dev.outrider.job"')
    return value


class RedisEvents(Section):
    """A stream in the shared Redis."""

    stream: Annotated[str, AfterValidator(_stream)] | None = Field(
        default=None, description='Its key. None: that of redis.prefix and ":events".'
    )
    max_length: int = Field(
        default=100_000, ge=1, le=100_000_000, description="About how many events it keeps."
    )


class KafkaEvents(Section):
    """A topic of Kafka. Needs the extra `kafka`."""

    brokers: Annotated[tuple[Annotated[str, AfterValidator(_broker)], ...], NotEmpty] = Field(
        description='Some brokers of the cluster, as "host:port".'
    )
    topic: Annotated[str, AfterValidator(_topic)] = Field(
        default="outrider-events", description="The topic, which has to be there unless brokers make topics."
    )
    tls: bool = Field(default=False, description="Whether brokers are spoken to by TLS.")
    ca_file: Path | None = Field(
        default=None,
        description="PEM file with the authorities that their certificates may be from. None: the system's.",
    )
    username: str | None = Field(default=None, description="Who we are, by SASL. None: nobody.")
    password: Secret | None = Field(default=None, description="The password of that user.")
    password_file: Path | None = Field(
        default=None, description="A file that holds it, read again when it changes."
    )
    mechanism: Annotated[Literal["plain", "scram-sha-256", "scram-sha-512"], AnyCase] = Field(
        default="scram-sha-512", description="How the password is shown; plain only by TLS."
    )


class Webhook(Section):
    """A URL that events are sent to. Exactly one of `secret` and `secret_file` is set."""

    url: Annotated[SecretStr, AfterValidator(_url)] = Field(
        description="Where to; it may hold a token, and is kept secret but for its host."
    )
    secret: Annotated[SecretStr, AfterValidator(_signing_secret)] | None = Field(
        default=None, description="What signs them: whsec_ and 24 to 64 random bytes in base64."
    )
    secret_file: Path | None = Field(
        default=None, description="A file that holds it, read again when it changes."
    )
    types: tuple[Annotated[str, AfterValidator(_type)], ...] = Field(
        default=(), description="Types of events, or their beginnings. Empty: every type."
    )
    timeout: Duration = Field(
        default=10.0, gt=0, le=300, description="Until it has answered; then it is tried again."
    )


class Events(Section):
    """Where events go, besides to those who watch them. Nothing of it is on by default."""

    source: Annotated[str, AfterValidator(_source)] = Field(
        default="",
        description="The sidecar's name in its events, a URI reference. Empty: by its host's name.",
    )
    buffer: int = Field(
        default=10_000,
        ge=100,
        le=1_000_000,
        description="Events that wait for one channel; beyond it the oldest are lost.",
    )
    redis: RedisEvents | None = Field(
        default=None, description="A stream in the Redis of the fleet. None: no stream."
    )
    kafka: KafkaEvents | None = Field(default=None, description="A topic of Kafka. None: no topic.")
    webhooks: tuple[Webhook, ...] = Field(default=(), description="URLs that events are sent to, signed.")
