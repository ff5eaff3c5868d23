"""What a request gets where it does not say."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider import v1


@dataclass(frozen=True, slots=True)
class Parameters:
    """Settings of requests. None: the provider decides."""

    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    effort: v1.ReasoningOptions.Effort | None = None

    def over(self, others: Parameters) -> Parameters:
        """These, and others where these do not say."""
        names = [field.name for field in fields(self)]
        chosen = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return Parameters(**{name: getattr(others, name) for name in names} | chosen)

    def fill(self, request: v1.GenerateRequest) -> None:
        """Set what is absent."""
        sampling = request.sampling
        if self.max_output_tokens is not None and not sampling.HasField("max_output_tokens"):
            sampling.max_output_tokens = self.max_output_tokens
        if self.temperature is not None and not sampling.HasField("temperature"):
            sampling.temperature = self.temperature
        if self.top_p is not None and not sampling.HasField("top_p"):
            sampling.top_p = self.top_p
        if self.effort is not None and not request.HasField("reasoning"):
            request.reasoning.effort = self.effort


AS_IT_IS = Parameters()
