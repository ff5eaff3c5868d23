"""Settings of limits and budgets: how much there is, for whom, and over which time."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field

from outrider.config.section import Section
from outrider.config.values import Alias, AnyCase

Dimension = Literal["provider", "model", "caller", "tenant", "project", "agent", "user", "route"]
Scope = Mapping[Dimension, Annotated[str, Field(max_length=512)]]

_MOST = 10**12  # tokens and requests; far below what a double counts exactly

_SCOPE: Any = Field(
    default={},
    description='Dimensions and their values; "*", also at the end of a value, stands for anything, and each '
    "value is counted on its own. Left out: all requests together.",
)


class Tier(Section):
    """How much there is. What is left out is not limited."""

    requests_per_minute: float | None = Field(
        default=None, gt=0, le=10_000_000, description="Requests per minute."
    )
    requests_per_day: int | None = Field(
        default=None, ge=1, le=_MOST, description="Requests in a calendar day, in UTC."
    )
    tokens_per_minute: float | None = Field(
        default=None, gt=0, le=_MOST, description="Tokens per minute, of prompt and answer together."
    )
    max_concurrency: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Requests at the same time."
    )
    burst: float | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Requests that may come at once. None: ten seconds' worth, at least 1.",
    )

    @property
    def is_empty(self) -> bool:
        """Whether it limits nothing."""
        limits = (
            self.requests_per_minute,
            self.requests_per_day,
            self.tokens_per_minute,
            self.max_concurrency,
        )
        return all(limit is None for limit in limits)


class LimitRule(Tier):
    """A limit for whatever fits its scope: a tier's numbers, with its own over them."""

    scope: Scope = _SCOPE
    tier: Alias | None = Field(default=None, description="The tier whose numbers hold. None: only its own.")


class Budget(Section):
    """What may be spent in a period. At least one of `usd` and `tokens` is set."""

    scope: Scope = _SCOPE
    usd: Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=9)] | None = Field(
        default=None, description="Money, in USD."
    )
    tokens: int | None = Field(
        default=None, ge=1, le=_MOST, description="Tokens, of prompt and answer together."
    )
    period: Annotated[Literal["day", "week", "month", "total"], AnyCase] = Field(
        default="month", description="Calendar time in UTC after which all of it is there again."
    )
    soft: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.5, 0.8, 0.95), description="Shares of it at which a warning is given, once per period."
    )
    hard: bool = Field(
        default=True, description="Whether more is refused. Otherwise it is only warned of and counted."
    )
