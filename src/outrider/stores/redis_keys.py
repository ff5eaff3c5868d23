"""The idempotency keys of a fleet, in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from outrider.core.keys import Claim
from outrider.core.store_errors import StoreUnavailableError
from outrider.core.streams import LEASE_SECONDS
from outrider.stores.redis_link import Script

if TYPE_CHECKING:
    from outrider.stores.redis_link import RedisLink

FORM: Final = 1  # of the values; sidecars that write another one use other names

_LEASE_MS = int(LEASE_SECONDS * 1_000)

# A value is "+" once its request was answered, else "-", then digest and id of the request.

# KEYS: key. ARGV: value, milliseconds from now. Gives the value that holds.
_HOLD: Final = Script("""
local found = redis.call('GET', KEYS[1])
if found and string.sub(found, 2) ~= string.sub(ARGV[1], 2) then return found end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
""")

# KEYS: key. ARGV: value.
_RELEASE: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
""")


class RedisKeys:
    """See the port, SharedKeys. `keep` is in seconds."""

    def __init__(self, link: RedisLink, *, keep: float) -> None:
        self._link = link
        self._keep_ms = int(keep * 1_000)

    async def hold(self, name: str, claim: Claim) -> Claim:
        """Claim a key, or hold on to it."""
        kept = self._keep_ms if claim.ended else _LEASE_MS
        found: bytes = await self._script(_HOLD, name, _write(claim), kept)
        return _read(found)

    async def release(self, name: str, claim: Claim) -> None:
        """Give a key up."""
        await self._script(_RELEASE, name, _write(claim))

    async def _script(self, script: Script, name: str, *args: str | int) -> Any:
        key = f"{self._link.prefix}:idempotency:{FORM}:{{{name}}}"
        try:
            return await self._link.script(script, (key,), args)
        except ResponseError as error:
            raise StoreUnavailableError("Redis refused a script of the idempotency keys") from error


def _write(claim: Claim) -> str:
    return f"{'+' if claim.ended else '-'}{claim.digest}:{claim.request_id}"


def _read(value: bytes) -> Claim:
    digest, _, request_id = value[1:].decode().partition(":")
    return Claim(request_id, digest, ended=value.startswith(b"+"))
