"""Every setting there is: its name, kind, default, bounds and meaning. Durations are seconds, sizes bytes."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from outrider.config.checks import findings
from outrider.config.schema_cache import Cache, RouteCache
from outrider.config.schema_events import Events
from outrider.config.schema_health import Health, Hedging
from outrider.config.schema_idempotency import Idempotency
from outrider.config.schema_jobs import Jobs
from outrider.config.schema_limits import Budget, LimitRule, Tier
from outrider.config.schema_provider import Attempts, Provider, Timeouts
from outrider.config.schema_recorder import Recorder
from outrider.config.schema_redis import Redis
from outrider.config.schema_resume import Resume
from outrider.config.schema_routes import Defaults, Route, route_of_list
from outrider.config.schema_server import Admin, Caller, Server
from outrider.config.schema_usage import Usage
from outrider.config.section import Section
from outrider.config.values import Alias, AnyCase, Duration, Name, Size

_DAY = 86_400  # seconds

_Section = TypeVar("_Section", bound=Section)


class Breaker(Section):
    """When a target that fails is left alone."""

    failures: int = Field(
        default=10, ge=1, le=100_000, description="Failures in a row that open the breaker."
    )
    ratio: float = Field(
        default=0.5, gt=0, le=1, description="Share of failures in the window that opens it."
    )
    window: Duration = Field(default=30.0, gt=0, le=_DAY, description="How far back failures count.")
    minimum: int = Field(
        default=50, ge=1, le=1_000_000, description="Calls in the window below which the share says nothing."
    )
    open_for: Duration = Field(
        default=30.0,
        gt=0,
        le=_DAY,
        description="How long before one probe is let through; each that fails doubles it, up to ten times.",
    )


class Limits(Section):
    """What no answer may exceed, and how much callers may have."""

    max_response_bytes: Size = Field(
        default=64 * 2**20,
        ge=1024,
        le=4 * 2**30,
        description="Bytes of one answer as the provider sends them.",
    )
    max_wait: Duration = Field(
        default=10.0, ge=0, le=3_600, description="Longest that a request is held for a limit; then it fails."
    )
    reserve_output_tokens: int = Field(
        default=1_024,
        ge=1,
        le=1_000_000,
        description="Tokens that are reserved for an answer whose request names no maximum.",
    )
    rules: tuple[LimitRule, ...] = Field(
        default=(), description="Limits by scope; of those over the same dimensions the most exact holds."
    )


class Log(Section):
    """What is written to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = Field(
        default="info", description="The least important lines written."
    )
    format: Annotated[Literal["auto", "json", "console"], AnyCase] = Field(
        default="auto", description="Form of the lines. auto: console on a terminal, json elsewhere."
    )


class Tokens(Section):
    """How tokens are counted."""

    vocabulary_dir: Path | None = Field(
        default=None, description="Directory with tiktoken vocabularies. None: tokens are estimated."
    )


_Usd = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=9)]


class Price(Section):
    """USD per million tokens, to the nano-dollar."""

    input: _Usd = Field(description="Input tokens.")
    output: _Usd = Field(description="Output tokens, reasoning included.")
    cached_input: _Usd | None = Field(
        default=None, description="Input read from the provider's cache. None: as input."
    )
    cache_write: _Usd | None = Field(default=None, description="Input written to the cache. None: as input.")
    cache_write_1h: _Usd | None = Field(
        default=None, description="Input written for an hour. None: as cache_write."
    )


class Config(Section):
    """The configuration of one sidecar. It is valid as a whole: every name in it leads somewhere."""

    server: Server = Field(default=Server(), description="Where callers reach the sidecar.")
    admin: Admin = Field(default=Admin(), description="The HTTP port for metrics and probes.")
    callers: Mapping[Alias, Caller] = Field(
        default={}, description="Who may call, by name. None at all: everyone who reaches the port may."
    )
    providers: Mapping[Name, Provider] = Field(
        default={},
        description="Where answers come from, by name. None at all: those whose keys the environment holds.",
    )
    routes: Mapping[Alias, Annotated[Route, BeforeValidator(route_of_list)]] = Field(
        default={}, description="Names for models, each with its targets and how they are chosen from."
    )
    default_model: str | None = Field(
        default=None, description="The model of requests that name none: a route, a model, or a provider."
    )
    primary_provider: Annotated[Name, AnyCase] | None = Field(
        default=None, description="The provider whose default model answers where no default_model is set."
    )
    fallback_provider: Annotated[Name, AnyCase] | None = Field(
        default=None,
        description="The provider whose default model is tried when the primary provider cannot answer.",
    )
    defaults: Defaults = Field(default=Defaults(), description="What a request gets where it does not say.")
    timeouts: Timeouts = Field(default=Timeouts(), description="Limits of time for one attempt.")
    attempts: Attempts = Field(default=Attempts(), description="How a target is tried again.")
    breaker: Breaker = Field(default=Breaker(), description="When a target that fails is left alone.")
    health: Health = Field(default=Health(), description="When providers are asked whether they answer.")
    hedging: Hedging = Field(
        default=Hedging(), description="When a second target is asked beside one that is slow to begin."
    )
    limits: Limits = Field(default=Limits(), description="What no answer may exceed, and who may have what.")
    tiers: Mapping[Alias, Tier] = Field(default={}, description="Named sets of limits, for limits.rules.")
    budgets: tuple[Budget, ...] = Field(
        default=(), description="What may be spent, by scope; the most exact of a unit and period holds."
    )
    cache: Cache = Field(default=Cache(), description="Which answers are kept, and for how long.")
    jobs: Jobs = Field(default=Jobs(), description="Requests that are left with the sidecar.")
    resume: Resume = Field(default=Resume(), description="Streams that callers can come back to.")
    idempotency: Idempotency = Field(
        default=Idempotency(), description="Requests that run once, however often they are sent."
    )
    redis: Redis = Field(default=Redis(), description="The Redis that all sidecars of a fleet share.")
    usage: Usage = Field(default=Usage(), description="The ledger of what requests used and cost.")
    events: Events = Field(default=Events(), description="Where events go, besides to who watches them.")
    recorder: Recorder = Field(default=Recorder(), description="Requests and answers, written down.")
    log: Log = Field(default=Log(), description="What is written to standard error.")
    tokens: Tokens = Field(default=Tokens(), description="How tokens are counted.")
    prices: Mapping[str, Price] = Field(
        default={}, description='Prices that replace the built-in ones, by model or "provider/model".'
    )

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        found = tuple(findings(self))
        if found:
            text = "; ".join(finding.message for finding in found)
            raise PydanticCustomError("findings", "{text}", {"text": text, "findings": found})
        return self

    def timeouts_for(self, provider: str) -> Timeouts:
        """The timeouts of a configured provider: the common ones, with its own over them."""
        return _merged(self.timeouts, self.providers[provider].timeouts)

    def attempts_for(self, provider: str) -> Attempts:
        """The attempts of a configured provider: the common ones, with its own over them."""
        return _merged(self.attempts, self.providers[provider].attempts)

    def cache_for(self, route: str) -> RouteCache:
        """The cache settings of a configured route: the common ones, with its own over them."""
        return _merged(self.cache, self.routes[route].cache)


def _merged(common: _Section, own: _Section | None) -> _Section:
    return common.model_copy(update=_written(own)) if own else common


def _written(section: Section) -> dict[str, Any]:
    return {name: getattr(section, name) for name in section.model_fields_set}
