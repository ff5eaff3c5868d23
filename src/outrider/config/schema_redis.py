"""Settings of the Redis that a fleet of sidecars shares."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from outrider.config.section import Section
from outrider.config.values import Duration, Secret, wrong
from outrider.core.redis_url import RedisUrl, parse_redis_url

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


def _url(value: SecretStr) -> SecretStr:
    try:
        parse_redis_url(value.get_secret_value())
    except ValueError as error:
        raise wrong(str(error)) from None
    return value


def _prefix(value: str) -> str:
    if not _PREFIX.fullmatch(value):
        raise wrong(
            'must have letters, digits and any of "._:-", at most 64, and begin with one of the first'
        )
    return value


class Redis(Section):
    """The Redis that all sidecars of a fleet share. Without a URL everything stays in this process."""

    url: Annotated[SecretStr, AfterValidator(_url)] | None = Field(
        default=None,
        description="Where it is: redis://host:6379/0, rediss:// for TLS, redis+sentinel://host1,host2/service"
        " or redis+cluster://host1,host2; it may hold user and password. None: nothing is shared.",
    )
    username: str | None = Field(default=None, description="The user of its ACL. None: the URL's, or none.")
    password: Secret | None = Field(
        default=None, description="The password. None, and no file: the URL's, or none."
    )
    password_file: Path | None = Field(
        default=None, description="A file that holds it, read again when it changes."
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file with the authorities that its certificate may be from. None: the system's.",
    )
    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        default="outrider",
        description="What the names of all keys begin with; fleets that differ in it are apart.",
    )
    timeout: Duration = Field(
        default=0.05,
        gt=0,
        le=10,
        description="Longest that a request waits for one answer; then it goes on without.",
    )
    connect_timeout: Duration = Field(
        default=1.0, gt=0, le=60, description="Until a connection stands. No request waits for it."
    )
    fleet_size: int = Field(
        default=10,
        ge=1,
        le=100_000,
        description="Sidecars that are assumed to share the limits until Redis has told how many do.",
    )

    @property
    def address(self) -> RedisUrl | None:
        """What the URL says; None where there is none."""
        return parse_redis_url(self.url.get_secret_value()) if self.url else None
