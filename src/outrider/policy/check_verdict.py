"""What a check that failed tells of a provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outrider.core.errors import Reason

if TYPE_CHECKING:
    from outrider.core.errors import GenerationError

_DOWN = frozenset(
    {
        Reason.PROVIDER_UNREACHABLE,
        Reason.PROVIDER_OVERLOADED,
        Reason.PROVIDER_ERROR,
        Reason.PROVIDER_NOT_CONFIGURED,
        Reason.CONNECT_TIMEOUT,
        Reason.FIRST_EVENT_TIMEOUT,
        Reason.TOTAL_TIMEOUT,
    }
)
_UNAUTHORIZED = 401


def says_down(error: GenerationError) -> bool:
    """Whether no call to the provider would do better.

    One that does not know the question, or says that it is asked too often, is there. So is one that forbids
    the question alone: a key may be good for answers and not for lists of models.
    """
    refused = error.reason is Reason.PROVIDER_CREDENTIALS_REFUSED
    return error.reason in _DOWN or (refused and error.fact.upstream_status in (0, _UNAUTHORIZED))
