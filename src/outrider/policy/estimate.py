"""What a request is going to use at a target, as far as it can be told before: tokens and money."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from outrider import v1
from outrider.core.quota import Charge, Unit
from outrider.policy.limit_rules import most

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from outrider.core.context import Target
    from outrider.core.ports import TokenCounter
    from outrider.core.quota import Meter

# Counting is linear in the text; up to this size it takes well under a millisecond.
_INLINE_BYTES = 8_192
_MANY = 1_000_000  # tokens: enough for what one of them costs to be exact


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of the prompt, and as many of an answer as are reserved; money in nano-USD."""

    input_tokens: int = 0
    output_tokens: int = 0
    input_price: int = 0  # of the whole prompt
    output_price: float = 0.0  # of one token
    tokens_per_char: float = 0.0  # of an answer

    def of_unit(self, unit: Unit, output_tokens: int | None = None) -> int:
        """How much of a unit the prompt and an answer need; without a number, the answer that is reserved."""
        tokens = self.output_tokens if output_tokens is None else output_tokens
        if unit is Unit.TOKENS:
            return self.input_tokens + tokens
        if unit is Unit.NANO_USD:
            return self.input_price + math.ceil(tokens * self.output_price)
        return 1

    def tokens_for(self, unit: Unit, amount: float) -> float:
        """Tokens of an answer for which so much of a unit is enough; infinite where they take none."""
        if unit is Unit.TOKENS:
            return amount
        if unit is Unit.NANO_USD and self.output_price:
            return amount // self.output_price
        return math.inf

    def charges(self, meters: Iterable[Meter]) -> list[Charge]:
        """What a request takes of each meter. A price of nothing takes nothing."""
        wanted = ((meter, self.of_unit(meter.unit)) for meter in meters)
        return [Charge(meter, amount) for meter, amount in wanted if amount > 0]

    def within(self, meters: Iterable[Meter]) -> Estimate:
        """The same with an answer no longer than these meters could ever allow, of one token at least."""
        tokens: float = self.output_tokens
        for meter in meters:
            room = most(meter.bound) - self.of_unit(meter.unit, 0)
            tokens = min(tokens, self.tokens_for(meter.unit, room))
        fitting = max(1, int(tokens))
        return self if fitting == self.output_tokens else replace(self, output_tokens=fitting)


class Estimator:
    """Estimates. `output_tokens` are reserved for an answer whose request names no maximum."""

    def __init__(
        self,
        counter: TokenCounter,
        cost: Callable[[str, str, v1.Usage], v1.Cost | None],
        output_tokens: int,
        on_unpriced: Callable[[Target], None] = lambda _: None,
    ) -> None:
        self._counter = counter
        self._cost = cost
        self._on_unpriced = on_unpriced
        self.output_tokens = output_tokens

    async def estimate(
        self, request: v1.GenerateRequest, target: Target, meters: Iterable[Meter], *, money: bool
    ) -> Estimate:
        """For a request that is held to these meters. Long prompts are counted on a thread."""
        if request.ByteSize() > _INLINE_BYTES:
            count, _ = await asyncio.to_thread(self._counter.count_input, request, target.model)
        else:
            count, _ = self._counter.count_input(request, target.model)
        sampling = request.sampling
        named = sampling.HasField("max_output_tokens")
        input_price, output_price = self._prices(target, count) if money else (0, 0.0)
        estimate = Estimate(
            input_tokens=count,
            output_tokens=sampling.max_output_tokens if named else self.output_tokens,
            input_price=input_price,
            output_price=output_price,
            tokens_per_char=self._counter.count_output(_MANY, target.model) / _MANY,
        )
        return estimate if named else estimate.within(meters)

    def _prices(self, target: Target, input_tokens: int) -> tuple[int, float]:
        """Of a prompt, and of one token of the answer to it: a long prompt may make that dearer too."""
        cost = self._cost(*target, v1.Usage(input_tokens=input_tokens, output_tokens=_MANY))
        if cost is None:
            self._on_unpriced(target)
            return 0, 0.0
        return cost.total_nano_usd - cost.output_nano_usd, cost.output_nano_usd / _MANY
