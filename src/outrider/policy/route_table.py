"""The names that callers may use for models, and where each leads."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING

from outrider.core.context import RouteSettings, Target
from outrider.core.errors import GenerationError, Reason
from outrider.policy.parameters import AS_IT_IS, Parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from outrider import v1

_LONGEST_NAME = 128


class Strategy(StrEnum):
    """How a route orders its targets."""

    ORDERED = "ordered"  # as configured
    WEIGHTED = "weighted"  # by chance, in proportion to weights
    LEAST_LATENCY = "least_latency"  # the quickest to its first token, lately
    CHEAPEST = "cheapest"  # for the request at hand
    MOST_AVAILABLE = "most_available"  # the one whose calls succeed most, lately


@dataclass(frozen=True, slots=True)
class Route:
    """A name for targets. Every target that can answer a request stays in its plan, as a fallback."""

    settings: RouteSettings
    targets: tuple[Target, ...]  # at least one, each once
    strategy: Strategy = Strategy.ORDERED
    weights: Mapping[Target, float] = field(default_factory=dict)  # 1 where none is given; 0: a fallback only
    parameters: Parameters = AS_IT_IS
    active: Target | None = None  # goes first, whatever the strategy says
    changed: bool = False  # while the sidecar ran

    @property
    def name(self) -> str:
        """As requests have it in their `model`."""
        return self.settings.name

    def weight(self, target: Target) -> float:
        """How much of the requests a target gets, next to the others."""
        return self.weights.get(target, 1.0)


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one provider: the one used where none is named, and those that may be named alone."""

    default: str = ""
    names: Sequence[str] = ()


class RouteTable:
    """Resolves names. A name is, in this order: a route; a model's own name, where exactly known; a
    provider, for its default model; or "provider/model". `default` names what answers where none is named.
    """

    def __init__(
        self,
        *,
        routes: Sequence[Route] = (),
        providers: Mapping[str, Models],
        default: Sequence[str] = (),
    ) -> None:
        self._routes = {route.name: route for route in routes}
        self._providers = providers
        self._owners = {
            # The first provider that has a model owns its bare name.
            model: (Target(provider, model),)
            for provider, models in reversed(list(providers.items()))
            for model in reversed(models.names)
        }
        self._default_names = tuple(default)
        self._default_name = default[0] if len(default) == 1 else ""
        for name in default:
            self.resolve(name)

    @property
    def default(self) -> tuple[Target, ...]:
        """Where a request goes that names no model."""
        return tuple(dict.fromkeys(target for name in self._default_names for target in self.resolve(name)))

    @property
    def routes(self) -> tuple[Route, ...]:
        """In their order."""
        return tuple(self._routes.values())

    def route(self, name: str) -> Route | None:
        """The route of this name, if there is one."""
        return self._routes.get(name)

    def replace(self, route: Route) -> None:
        """Let a route that is there be another one from now on."""
        self._routes[route.name] = route

    def settle_name(self, request: v1.GenerateRequest) -> str:
        """Give a request without a model the default's name, where it has one: who is allowed that name is
        allowed the default.
        """
        if not request.model and self._default_name:
            request.model = self._default_name
        return request.model

    def plan(self, request: v1.GenerateRequest) -> tuple[Target, ...]:
        """The targets in the order in which they are listed, each once. Raises GenerationError MODEL_UNKNOWN.

        It is all that can be told without a look at what the request needs, and at how the targets fare.
        """
        targets, others = self.resolve(self.settle_name(request)), self.fallbacks(request)
        return targets if others is None else tuple(dict.fromkeys((targets[0], *others)))

    def fallbacks(self, request: v1.GenerateRequest) -> tuple[Target, ...] | None:
        """What a request itself names to be tried after its first target; None where it does not say."""
        if not request.HasField("fallback"):
            return None
        if request.fallback.disabled:
            return ()
        names = request.fallback.models
        return tuple(target for name in names for target in self.resolve(name)) if names else None

    def resolve(self, name: str) -> tuple[Target, ...]:
        """The targets of one name, at least one. Raises GenerationError MODEL_UNKNOWN."""
        route = self._routes.get(name)
        found = route.targets if route else self._owners.get(name)
        found = found or (self._by_provider(name) if name else self.default)
        if not found:
            raise GenerationError(Reason.MODEL_UNKNOWN, self._explain(name))
        return found

    def names(self) -> Iterator[tuple[str, tuple[Target, ...]]]:
        """Every name that a caller may use and where it leads: routes first."""
        yield from ((route.name, route.targets) for route in self._routes.values())
        for provider, models in self._providers.items():
            for model in dict.fromkeys((models.default, *models.names)):
                if model:
                    target = Target(provider, model)
                    yield str(target), (target,)

    def _by_provider(self, name: str) -> tuple[Target, ...]:
        provider, _, model = name.partition("/")
        models = self._providers.get(provider)
        if models is None:
            return ()
        model = model or models.default
        return (Target(provider, model),) if model else ()

    def _explain(self, name: str) -> str:
        if not name:
            return "no model is named, and no default model is configured"
        name = name[:_LONGEST_NAME]  # looking for what is similar takes time with every letter
        known = [*self._routes, *self._owners, *(str(t[0]) for _, t in self.names())]
        close = get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "name a route, or 'provider/model'"
        return f"unknown model {name!r}; {hint}"
