"""How long to wait before the next try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter. Seconds."""

    base: float = 1.0
    factor: float = 2.0
    cap: float = 8.0

    def delay(self, retry: int, random: Random) -> float:
        """The wait before retry 1, 2, …: anything between 0 and the exponential ceiling.

        Full jitter spreads the retries of many callers best:
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        return random.uniform(0, self.ceiling(retry))

    def ceiling(self, retry: int) -> float:
        """The longest wait before this retry."""
        # Past 64 doublings any sensible base is over its cap; the bound keeps floats finite.
        return min(self.cap, self.base * self.factor ** min(retry - 1, 64))
