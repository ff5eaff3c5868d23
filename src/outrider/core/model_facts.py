"""What is known of a model: how much it reads, and what it does not take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Capability(StrEnum):
    """What a request may need of a model. The names are those of the configuration and of the catalogue."""

    VISION = "vision"
    AUDIO = "audio"
    FILES = "files"
    TOOLS = "tools"
    JSON_SCHEMA = "json_schema"
    REASONING = "reasoning"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts, not guesses: a model of which nothing is known lacks nothing, and reads any length."""

    context_tokens: int = 0  # of prompt and answer together; 0: not known
    lacks: frozenset[Capability] = frozenset()
    configured: bool = False  # whoever runs the sidecar has said so

    def corrected(self, context_tokens: int | None, given: Mapping[Capability, bool]) -> ModelFacts:
        """The same, with what the configuration knows better."""
        lacks = {each for each in self.lacks if each not in given}
        lacks.update(each for each, has in given.items() if not has)
        return ModelFacts(context_tokens or self.context_tokens, frozenset(lacks), configured=True)


UNKNOWN = ModelFacts()
