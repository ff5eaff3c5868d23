"""What became of jobs, for as long as Redis cannot be told."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from outrider.core.jobs import Claim, OnEnded

Letter: TypeAlias = "Callable[[], Awaitable[bool]]"
"""Tells Redis; may be called again where that failed. Gives whether the claim was still good."""

_MOST = 1_000  # more were not begun before Redis went away

_log = structlog.get_logger("outrider.jobs")


class JobOutbox:
    """Bounded: of what has no room, the lease ends, and another sidecar does it again."""

    def __init__(self) -> None:
        self._letters: OrderedDict[str, tuple[Claim, Letter]] = OrderedDict()  # by token

    def __len__(self) -> int:
        return len(self._letters)

    def add(self, claim: Claim, letter: Letter) -> None:
        """Tell it later."""
        self._letters[claim.token] = claim, letter
        if len(self._letters) > _MOST:
            self._letters.popitem(last=False)

    async def flush(self, on_counted: OnEnded) -> None:
        """Tell everything, and call back with what counted. Raises StoreUnavailableError."""
        while self._letters:
            token, (claim, letter) = next(iter(self._letters.items()))
            counts = await letter()
            if self._letters.pop(token, None) is None:
                continue
            if counts:
                on_counted(claim.job, claim.traceparent)
            else:
                _log.info("job_was_given_to_another", job=claim.job.job_id)
