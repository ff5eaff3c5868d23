"""What the health monitor remembers of one provider, so that its word does not change to and fro."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.core.context import Target

_ENOUGH = 2  # good checks in a row, after failures
_MOST = 32


class ProviderWatch:
    """Checks prove less than calls: a provider whose calls failed has to pass two of them, and twice as many
    each time that calls then fail again.
    """

    def __init__(self, now: float) -> None:
        self.checked_at = now
        self.down_since = now
        self.is_checked = False  # a check runs
        self.is_failing = False  # it went down while it was watched
        self.failed_checks = 0  # in a row
        self._good_checks = 0  # in a row, while it does not serve
        self._needed = 1
        self._doubt = _ENOUGH  # good checks that are needed after calls failed
        self._is_unproven = False  # no call has succeeded since checks brought it back
        self._open: set[Target] = set()

    @property
    def is_trusted(self) -> bool:
        """Whether enough checks were good."""
        return self._good_checks >= self._needed

    def opened(self, target: Target) -> bool:
        """A breaker has opened. Whether that is news, and not a probe that failed as expected."""
        is_news = target not in self._open or self._is_unproven
        self._open.add(target)
        self._good_checks = 0
        return is_news

    def closed(self, target: Target) -> None:
        """A breaker has closed: a call has succeeded."""
        self._open.discard(target)
        self.proved_well()

    def proved_well(self) -> None:
        """A call has succeeded."""
        self.is_failing = False
        self._is_unproven, self._doubt = False, _ENOUGH
        self.failed_checks = self._good_checks = 0

    def went_down_by_calls(self) -> None:
        """It is taken for down, as its calls fail."""
        if self._is_unproven:
            self._doubt = min(_MOST, self._doubt * 2)
        self._needed, self._is_unproven = self._doubt, False
        self.is_failing = True

    def went_down_by_checks(self) -> None:
        """It is taken for down, as it does not answer."""
        self._needed = _ENOUGH
        self.is_failing = True

    def is_said_to_be_down(self) -> None:
        """It was down when it was last heard of. To be checked at once."""
        self._needed = _ENOUGH
        self.is_failing = True
        self.checked_at = -math.inf

    def came_up_by_checks(self) -> None:
        """It is taken for well, as it answers checks again."""
        self._is_unproven = True
        self.is_failing = False
        self._good_checks = 0

    def check_succeeded(self) -> bool:
        """Count a good check. Whether it follows one that was not."""
        came_back = self.failed_checks > 0
        self.failed_checks = 0
        self._good_checks += 1
        return came_back

    def check_failed(self) -> None:
        """Count a bad check."""
        self.failed_checks += 1
        self._good_checks = 0
