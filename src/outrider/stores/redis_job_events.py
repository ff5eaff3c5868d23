"""Events of running answers in Redis: a stream for each try, whose ids are the sequence numbers."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from outrider import v1
from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.job_events import KEPT_FOR, Tail
from outrider.stores.redis_link import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outrider.core.jobs import Claim
    from outrider.stores.redis_link import Argument, RedisLink

# What was published already is refused by its id.
_PUBLISH = Script("""
for place = 3, #ARGV, 2 do
  redis.pcall('XADD', KEYS[1], ARGV[place] .. '-0', 'event', ARGV[place + 1])
end
redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
""")
_PATIENCE = 1.0  # seconds
_TRIES = 1_000  # whose sizes are remembered: as many as run here at once


class RedisJobEvents:
    """Bounded for each try, and gone some time after its last event. Raises StoreUnavailableError."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._tails: OrderedDict[str, Tail] = OrderedDict()  # by token: only its worker writes

    async def publish(self, claim: Claim, events: Sequence[v1.GenerateResponse]) -> None:
        """Add events of a try."""
        tail = self._tails.setdefault(claim.token, Tail())
        self._tails.move_to_end(claim.token)
        if len(self._tails) > _TRIES:
            self._tails.popitem(last=False)
        parts: list[Argument] = []
        for event in events:
            data = event.SerializeToString()
            tail.add(event.sequence, len(data))
            parts += (event.sequence, data)
        where = self._key(claim.job.job_id, claim.tries)
        try:
            await self._link.script(
                _PUBLISH, (where,), (tail.first, int(KEPT_FOR * 1_000), *parts), timeout=_PATIENCE
            )
        except ResponseError as error:
            raise StoreUnavailableError("Redis refused events") from error

    async def after(self, job_id: str, tries: int, sequence: int) -> Sequence[v1.GenerateResponse]:
        """Those of a try with a higher sequence number."""
        where = self._key(job_id, tries)
        try:
            entries = await self._link.run("XRANGE", where, sequence + 1, "+", timeout=_PATIENCE)
        except ResponseError as error:
            raise StoreUnavailableError("Redis refused events") from error
        return [v1.GenerateResponse.FromString(fields[1]) for _, fields in entries]

    def _key(self, job_id: str, tries: int) -> str:
        return f"{self._link.prefix}:job:{{{job_id}}}:events:{tries}"
