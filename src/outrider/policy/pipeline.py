"""The way of one request, outermost first:

account        settles one record for success, error and cancel alike; outermost, so that it sees them all
authenticate   refuses unknown callers, before they learn anything
validate       refuses what no provider could answer, naming every field that is wrong
route          turns the model's name into a plan, an ordered tuple of targets; what follows depends on it
admit          refuses what this caller may not have, before anything is spent
reserve        holds it to limits and budgets; before the cache, so that both are asked in one round trip
cache          gives stored answers again, and one answer to all who ask the same at the same time
attempt        tries the targets: breaker, limits, timeouts, retries; innermost, it calls the providers

A stage wraps the handler inside it. Handlers yield batches, the events of one network read, so that a stage
costs per read and not per token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider.core.ports import Handler, Stage


def compose(stages: Sequence[Stage], handler: Handler) -> Handler:
    """Wrap a handler in stages; the first one is outermost."""
    for stage in reversed(stages):
        handler = stage(handler)
    return handler
