"""The kinds of value a setting can have: each checks itself, and says what would be right."""

import re
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError

FAILURE_KINDS = (
    "unreachable",
    "rate_limited",
    "overloaded",
    "error",
    "unauthorized",
    "quota_spent",
    "context_too_long",
    "malformed",
    "truncated",
    "stalled",
    "content_filter",
)
"""The failures that the simulated provider can play."""

_DURATION = re.compile(r"(\d{1,18}(?:\.\d*)?|\.\d+)\s*(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d{1,18})\s*([kMG]i?B|KiB|B)?")
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "kiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]|_(?!_)){0,63}")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t -~\x80-\U0010ffff]*")
_VISIBLE_ASCII = re.compile(r"[!-~]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_LONGEST_SOCKET_PATH = 107  # bytes; sun_path of Linux holds 108 with its end marker


class Address(NamedTuple):
    """A host and a port to listen on."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it. A host name other than `localhost` counts as reachable."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def wrong(message: str) -> PydanticCustomError:
    """The error that a check of a value raises. `message` says what would be right, never what was given."""
    return PydanticCustomError("wrong", "{message}", {"message": message})


def parse_address(text: str) -> Address:
    """Split `host:port`; an IPv6 host stands in brackets. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError
    if host.startswith("[") and host.endswith("]"):
        return Address(str(ip_address(host[1:-1])), int(port))
    if not _HOST_NAME.fullmatch(host):
        raise ValueError
    return Address(host, int(port))


def _duration(value: object) -> object:
    if isinstance(value, int | float):
        return value
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise wrong("must be a duration: 500ms, 2s, 1m, 1h, or a number of seconds")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def _size(value: object) -> object:
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(str(value).strip())
    if not match:
        raise wrong("must be a size: 64MiB, 10MB, or a number of bytes")
    return int(match[1]) * _BYTES[match[2] or "B"]


def _listen(value: str) -> str:
    if value:
        try:
            parse_address(value)
        except ValueError:
            raise wrong('must be "host:port", such as "127.0.0.1:50051" or "[::1]:50051"') from None
    return value


def _socket_path(value: str) -> str:
    if not PurePosixPath(value).is_absolute() or "\0" in value:
        raise wrong("must be an absolute path, such as /run/outrider/outrider.sock")
    if len(value.encode()) > _LONGEST_SOCKET_PATH:
        raise wrong(f"must be a path of at most {_LONGEST_SOCKET_PATH} bytes")
    return value


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not _VISIBLE_ASCII.fullmatch(value):
        raise wrong("must be a URL, such as https://api.openai.com/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise wrong("must be a URL without user, query and fragment; a key goes into api_key")
    return value.rstrip("/")


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not _VISIBLE_ASCII.fullmatch(text):
        raise wrong("must be printable ASCII without spaces")
    return SecretStr(text)


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise wrong('a name has lower-case letters, digits, ".", "-" and single "_", at most 64')
    return value


def _alias(value: str) -> str:
    if not _ALIAS.fullmatch(value):
        raise wrong('an alias has letters, digits and any of "._:@+-", at most 128')
    return value


def _target(value: str) -> str:
    provider, _, model = value.partition("/")
    if not (provider and model.strip()):
        raise wrong('must be "provider/model", such as "openai/gpt-5-mini"')
    return value


def _header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise wrong("must be the name of an HTTP header")
    return value


def _header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise wrong("must be the value of an HTTP header: no line breaks or control characters")
    return value


def _failure_kind(value: str) -> str:
    if value.removesuffix("_midway") not in FAILURE_KINDS:
        raise wrong(f"must be one of {', '.join(FAILURE_KINDS)}; or one of them with _midway")
    return value


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise wrong("must not be empty")
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Duration = Annotated[float, BeforeValidator(_duration)]  # seconds
Size = Annotated[int, BeforeValidator(_size)]  # bytes
Listen = Annotated[str, AfterValidator(_listen)]
SocketPath = Annotated[str, AfterValidator(_socket_path)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
Name = Annotated[str, AfterValidator(_name)]
Alias = Annotated[str, AfterValidator(_alias)]
TargetName = Annotated[str, AfterValidator(_target)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
FailureKind = Annotated[str, AfterValidator(_failure_kind)]
NotEmpty = AfterValidator(_not_empty)  # of a list
AnyCase = BeforeValidator(_lower)
