"""Keeps retries from becoming a storm."""

from __future__ import annotations


class RetryBudget:
    """Every request deposits a share of a retry; every retry takes a whole one.

    In an outage the load on a provider grows by at most `ratio`, plus a reserve that lets quiet sidecars
    retry at all.
    """

    def __init__(self, ratio: float, reserve: float = 10.0) -> None:
        self._ratio = ratio
        self._balance = self._cap = reserve

    def deposit(self) -> None:
        """A request was made."""
        self._balance = min(self._cap, self._balance + self._ratio)

    def withdraw(self) -> bool:
        """Take one retry, if there is one."""
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True
