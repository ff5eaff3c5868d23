"""Settings of routes: names for models, and how requests are spread over their targets."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from outrider.config.schema_cache import RouteCache
from outrider.config.schema_limits import Tier
from outrider.config.schema_provider import Timeouts
from outrider.config.section import Section
from outrider.config.values import AnyCase, NotEmpty, TargetName


class Defaults(Section):
    """What a request gets where it does not say."""

    max_output_tokens: int | None = Field(
        default=None, ge=1, le=2**31 - 1, description="Tokens of an answer. None: the provider's."
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="Randomness. None: the provider's."
    )


class Parameters(Defaults):
    """What a request of a route gets where it does not say."""

    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Share of probability that is drawn from. None: the provider's."
    )
    reasoning_effort: (
        Annotated[Literal["none", "minimal", "low", "medium", "high", "max"], AnyCase] | None
    ) = Field(default=None, description="How much a reasoning model thinks. None: the provider's default.")


class RouteTarget(Section):
    """Where a route leads."""

    target: TargetName = Field(description='As "provider/model".')
    weight: float = Field(
        default=1.0,
        ge=0,
        le=1_000_000,
        description="How many requests it gets, next to the others, where the strategy is weighted.",
    )


def _target_of_name(value: object) -> object:
    return {"target": value} if isinstance(value, str) else value


class Route(Section):
    """A name for targets. Written as a mapping, or as the list of targets alone."""

    strategy: Annotated[
        Literal["ordered", "weighted", "least_latency", "cheapest", "most_available"], AnyCase
    ] = Field(default="ordered", description="How the targets are ordered, for each request.")
    targets: Annotated[tuple[Annotated[RouteTarget, BeforeValidator(_target_of_name)], ...], NotEmpty] = (
        Field(description='Where it leads, each as "provider/model", or as a mapping with target and weight.')
    )
    timeouts: Timeouts | None = Field(
        default=None, description="Instead of the providers'; what is left out is theirs."
    )
    parameters: Parameters | None = Field(
        default=None, description="Instead of the common defaults; what is left out is common."
    )
    on_content_filter: bool = Field(
        default=False, description="Whether the next target is asked where one has withheld its answer."
    )
    limits: Tier | None = Field(default=None, description="Limits for all requests of the route together.")
    cache: RouteCache | None = Field(default=None, description="Instead of the common ones.")

    @property
    def names(self) -> tuple[str, ...]:
        """The targets, as "provider/model"."""
        return tuple(each.target for each in self.targets)


def route_of_list(value: object) -> object:
    """The short form of a route is the list of its targets."""
    return {"targets": value} if isinstance(value, list | tuple) else value
