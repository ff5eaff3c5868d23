"""Settings of the cache of answers."""

from typing import Annotated, Literal

from pydantic import Field

from outrider.config.section import Section
from outrider.config.values import AnyCase, Duration, Size

_MONTH = 31 * 86_400  # seconds


class RouteCache(Section):
    """What of a route is cached, and for how long."""

    mode: Annotated[Literal["default", "always", "never"], AnyCase] = Field(
        default="default", description="default: requests with temperature 0, and those that ask."
    )
    ttl: Duration = Field(default=3_600.0, gt=0, le=_MONTH, description="How long an answer may be given.")
    stale: Duration = Field(
        default=0.0,
        ge=0,
        le=_MONTH,
        description="How long beyond that it may still be given where no provider can answer.",
    )
    shared_between_tenants: bool = Field(
        default=False, description="Whether tenants, or callers without one, see each other's answers."
    )


class Cache(RouteCache):
    """The cache of answers."""

    max_bytes: Size = Field(
        default=64 * 2**20, ge=0, le=2**40, description="Bytes of answers in the sidecar's memory."
    )
