"""A part of what a request reserves: charged together, granted or refused together, settled together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from outrider.core.quota import Charge, Unit

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from outrider.core.context import Target
    from outrider.core.quota import Refusal
    from outrider.policy.limit_rules import Meters


@dataclass(slots=True)
class Part:
    """What a request takes for its caller, once, or for one try at a target."""

    holder: str
    meters: Meters
    of_target: bool = False
    granted: bool = False
    held: list[Charge] = field(default_factory=list)
    refusal: Refusal | None = None
    asking: asyncio.Task[None] | None = None  # the store, for all of it or for more
    until: float = 0.0  # the caller's patience
    ready_at: float = 0.0
    covered: float = math.inf  # tokens of an answer for which the hard budgets in it are enough
    target: Target | None = None  # whose prices it was estimated with

    def add(self, charges: Sequence[Charge]) -> None:
        """More has been granted."""
        self.granted = True
        amounts = {charge.meter: charge.amount for charge in self.held}
        for meter, amount in charges:
            amounts[meter] = amounts.get(meter, 0) + amount
        self.held = [Charge(*each) for each in amounts.items()]


class Used(NamedTuple):
    """What really was used; money in nano-USD."""

    requests: int = 0
    tokens: int = 0
    money: int = 0

    def of(self, unit: Unit) -> int:
        """How much of a unit. A place is left as a whole."""
        if unit is Unit.REQUESTS:
            return self.requests
        if unit is Unit.TOKENS:
            return self.tokens
        return self.money if unit is Unit.NANO_USD else 0
