"""What sidecars tell each other of targets that are unwell: hints, on which each decides for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class HintStore(Protocol):
    """Where hints are shared. A hint is a name and the seconds for which it is worth something."""

    async def exchange(self, own: Mapping[str, float]) -> Mapping[str, float]:
        """Leave one's own hints in place of those left before; gives the others' with what remains of them.

        Hints outlive whoever left them. Raises StoreUnavailableError.
        """
