"""Every setting there is: its name, kind, default, bounds and meaning. Durations are seconds, sizes bytes."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from outrider.config.checks import findings
from outrider.config.schema_provider import Attempts, Provider, Timeouts
from outrider.config.schema_server import Admin, Caller, Server
from outrider.config.section import Section
from outrider.config.values import Alias, AnyCase, Duration, Name, NotEmpty, Size, TargetName

_DAY = 86_400  # seconds

_Section = TypeVar("_Section", bound=Section)


class ModelAlias(Section):
    """A name for models that are tried in order. Written as a mapping, or as the list of targets alone."""

    targets: Annotated[tuple[TargetName, ...], NotEmpty] = Field(
        description='Where it leads, as "provider/model", in the order they are tried.'
    )


def _alias_of_list(value: object) -> object:
    return {"targets": value} if isinstance(value, list | tuple) else value


class Defaults(Section):
    """What a request gets where it does not say."""

    max_output_tokens: int | None = Field(
        default=None, ge=1, le=2**31 - 1, description="Tokens of an answer. None: the provider's."
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Randomness. None: the provider's."
    )


class Breaker(Section):
    """When a provider that fails is left alone."""

    failures: int = Field(
        default=10, ge=1, le=100_000, description="Failures in a row that open the breaker."
    )
    open_for: Duration = Field(
        default=30.0,
        gt=0,
        le=_DAY,
        description="How long before one probe is let through; each that fails doubles it, up to ten times.",
    )


class Limits(Section):
    """What no answer may exceed."""

    max_response_bytes: Size = Field(
        default=64 * 2**20,
        ge=1024,
        le=4 * 2**30,
        description="Bytes of one answer as the provider sends them.",
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
    models: Mapping[Alias, Annotated[ModelAlias, BeforeValidator(_alias_of_list)]] = Field(
        default={}, description="Names for models, each with its targets in the order they are tried."
    )
    default_model: str | None = Field(
        default=None, description="The model of requests that name none: an alias, a model, or a provider."
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
    breaker: Breaker = Field(default=Breaker(), description="When a provider that fails is left alone.")
    limits: Limits = Field(default=Limits(), description="What no answer may exceed.")
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


def _merged(common: _Section, own: _Section | None) -> _Section:
    return common.model_copy(update=_written(own)) if own else common


def _written(section: Section) -> dict[str, Any]:
    return {name: getattr(section, name) for name in section.model_fields_set}
