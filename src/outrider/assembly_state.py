"""From configuration to where state lives: in this process alone, or in the Redis that a fleet shares."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING, NamedTuple

from outrider import assembly, assembly_usage
from outrider.stores.memory_quota import MemoryQuotaStore

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from outrider.assembly import SecretNews
    from outrider.assembly_usage import Ledgers
    from outrider.config import Config
    from outrider.core.answers import AnswerStore
    from outrider.core.quota import QuotaStore
    from outrider.stores.redis_link import RedisLink

# Seconds after which what a sidecar that crashed had reserved is free again.
_HOLD_FOR = 900.0


class State(NamedTuple):
    """Every store, open."""

    link: RedisLink | None
    quotas: QuotaStore
    ledgers: Ledgers
    answers: AnswerStore


async def open_state(config: Config, news: SecretNews, closing: AsyncExitStack) -> State:
    """Open the stores; Redis may be away. What they need when the sidecar stops is pushed on `closing`."""
    link = assembly.redis_link(config, news)
    if link is not None:
        closing.push_async_callback(link.aclose)
        await link.start()
    answers = assembly.answers(config, link)
    closing.push_async_callback(answers.aclose)
    await answers.start()
    return State(
        link=link,
        quotas=(
            MemoryQuotaStore(hold_for=_longest_request(config))
            if link is None
            else await _fleet_quotas(config, link, closing)
        ),
        ledgers=assembly_usage.ledgers(config, link),
        answers=answers,
    )


async def _fleet_quotas(config: Config, link: RedisLink, closing: AsyncExitStack) -> QuotaStore:
    from outrider.stores.fleet import Fleet
    from outrider.stores.fleet_quota import FleetQuotaStore

    # A restarted container keeps its host name, but is another sidecar.
    fleet = Fleet(link, f"{socket.gethostname()}-{secrets.token_hex(6)}", expected=config.redis.fleet_size)
    closing.push_async_callback(fleet.aclose)
    await fleet.start()
    quotas = FleetQuotaStore(link, fleet, hold_for=_longest_request(config))
    closing.push_async_callback(quotas.aclose)
    await quotas.start()
    return quotas


def _longest_request(config: Config) -> float:
    """Seconds for which a request may hold what it has reserved."""
    of_routes = (route.timeouts for route in config.routes.values())
    timeouts = [
        *(config.timeouts_for(name) for name in config.providers),
        *(each for each in of_routes if each is not None),
    ]
    return max(_HOLD_FOR, config.limits.max_wait + max(each.total for each in timeouts))
