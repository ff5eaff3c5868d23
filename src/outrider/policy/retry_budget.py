"""Keeps retries from becoming a storm."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.core.ports import Clock


class RetryBudget:
    """Every request deposits a share of a retry; every retry takes a whole one.

    In an outage the load on a provider grows by at most `ratio`, and by `least` retries a second, which let
    quiet sidecars retry at all. As in Finagle: https://twitter.github.io/finagle/guide/Clients.html#retries
    """

    def __init__(self, ratio: float, clock: Clock, least: float = 10.0) -> None:
        self._ratio = ratio
        self._clock = clock
        self._least = self._balance = self._cap = least
        self._filled_at = clock()

    def deposit(self) -> None:
        """A request was made."""
        self._balance = min(self._cap, self._balance + self._ratio)

    def withdraw(self) -> bool:
        """Take one retry, if there is one."""
        now = self._clock()
        self._balance = min(self._cap, self._balance + (now - self._filled_at) * self._least)
        self._filled_at = now
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True
