"""From the model a caller names to the targets that may answer: an ordered plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from outrider.core.context import Target
from outrider.core.errors import GenerationError, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

    from outrider import v1
    from outrider.core.context import RequestContext
    from outrider.core.ports import Batch, Handler, Stage

_LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one provider: the one used where none is named, and those that may be named alone."""

    default: str = ""
    names: Sequence[str] = ()


class RouteTable:
    """Resolves names. A name is, in this order: an alias; a model's own name, where exactly known; a
    provider, for its default model; or "provider/model". `default` names what answers where none is named.
    """

    def __init__(
        self,
        *,
        aliases: Mapping[str, tuple[Target, ...]],
        providers: Mapping[str, Models],
        default: Sequence[str] = (),
    ) -> None:
        self._aliases = aliases
        self._providers = providers
        self._owners = {
            # The first provider that has a model owns its bare name.
            model: (Target(provider, model),)
            for provider, models in reversed(list(providers.items()))
            for model in reversed(models.names)
        }
        self._default_name = default[0] if len(default) == 1 else ""
        self._default: tuple[Target, ...] = ()
        self._default = tuple(dict.fromkeys(target for name in default for target in self.resolve(name)))

    def plan(self, request: v1.GenerateRequest) -> tuple[Target, ...]:
        """The targets in the order they are tried, each once. Raises GenerationError MODEL_UNKNOWN.

        A request without a model gets the default's name: who is allowed that name is allowed the default.
        """
        request.model = request.model or self._default_name
        targets = self.resolve(request.model)
        if not request.HasField("fallback"):
            return targets
        if request.fallback.disabled:
            return targets[:1]
        if request.fallback.models:
            others = (target for name in request.fallback.models for target in self.resolve(name))
            return tuple(dict.fromkeys((targets[0], *others)))
        return targets

    def resolve(self, name: str) -> tuple[Target, ...]:
        """The targets of one name, at least one. Raises GenerationError MODEL_UNKNOWN."""
        found = self._aliases.get(name) if name else self._default
        found = found or self._owners.get(name) or self._by_provider(name)
        if not found:
            raise GenerationError(Reason.MODEL_UNKNOWN, self._explain(name))
        return found

    def names(self) -> Iterator[tuple[str, tuple[Target, ...]]]:
        """Every name that a caller may use and where it leads: aliases first."""
        yield from self._aliases.items()
        for provider, models in self._providers.items():
            for model in dict.fromkeys((models.default, *models.names)):
                if model:
                    target = Target(provider, model)
                    yield str(target), (target,)

    @property
    def default(self) -> tuple[Target, ...]:
        """Where a request goes that names no model."""
        return self._default

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
        known = [*self._aliases, *self._owners, *(str(t[0]) for _, t in self.names())]
        close = get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "name an alias, or 'provider/model'"
        return f"unknown model {name!r}; {hint}"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request gets where it does not say."""

    max_output_tokens: int | None = None
    temperature: float | None = None

    def fill(self, request: v1.GenerateRequest) -> None:
        """Set what is absent."""
        if self.max_output_tokens is not None and not request.sampling.HasField("max_output_tokens"):
            request.sampling.max_output_tokens = self.max_output_tokens
        if self.temperature is not None and not request.sampling.HasField("temperature"):
            request.sampling.temperature = self.temperature


def route(table: RouteTable, defaults: Defaults) -> Stage:
    """The stage that turns a request's model into its plan."""

    def stage(inner: Handler) -> Handler:
        def handle(context: RequestContext) -> AsyncGenerator[Batch, None]:
            plan = table.plan(context.request)
            defaults.fill(context.request)
            return inner(replace(context, plan=plan))

        return handle

    return stage
