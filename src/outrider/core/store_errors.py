"""What goes wrong between the sidecar and its shared store."""

from __future__ import annotations


class StoreUnavailableError(Exception):
    """The shared store did not answer in time, or at all. Never reaches a caller."""


class StoreRewoundError(StoreUnavailableError):
    """The shared store may have forgotten what it had confirmed: send what was sent last once more."""
