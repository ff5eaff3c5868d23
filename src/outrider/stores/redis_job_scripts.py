"""How the queue talks to Redis: its scripts, and the names of its keys."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import ResponseError

from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_link import Script

if TYPE_CHECKING:
    from outrider.stores.redis_link import Argument, RedisLink


def _script(name: str) -> Script:
    room = files("outrider.stores")
    return Script("\n".join(room.joinpath(each).read_text("utf-8") for each in ("jobs.lua", name)))


SUBMIT, CLAIM = _script("jobs_submit.lua"), _script("jobs_claim.lua")
SETTLE, READ = _script("jobs_settle.lua"), _script("jobs_read.lua")
PATIENCE = 1.0  # seconds, for what is large, and for what nobody waits for

_log = structlog.get_logger("outrider.jobs")


class JobScripts:
    """Runs them. Every call raises StoreUnavailableError, also where Redis refuses it: that is logged."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._root = f"{link.prefix}:{{jobs}}"
        self._complaint = ""  # of Redis, that was told last

    async def call(
        self,
        script: Script,
        *arguments: Argument,
        timeout: float | None = None,  # noqa: ASYNC109 - it bounds the script, not the coroutine
    ) -> Any:
        """The answer of a script."""
        try:
            return await self._link.script(script, (self._root,), arguments, timeout=timeout)
        except ResponseError as error:
            self._refused(error)
            raise StoreUnavailableError("Redis refused a script of the queue") from error

    async def run(self, *command: Argument) -> Any:
        """The answer to a command."""
        try:
            return await self._link.run(*command, timeout=PATIENCE)
        except ResponseError as error:
            self._refused(error)
            raise StoreUnavailableError("Redis refused a command of the queue") from error

    async def stirred(self) -> bytes:
        """Another value once there is something new to do."""
        return await self.run("HGET", f"{self._root}:meta", "stirred") or b""

    def request_key(self, job_id: str) -> str:
        """Where a job's request is: in a slot of its own."""
        return f"{self._link.prefix}:job:{{{job_id}}}:request"

    def result_key(self, job_id: str, token: str) -> str:
        """Where the answer of one claim is."""
        return f"{self._link.prefix}:job:{{{job_id}}}:result:{token}"

    def _refused(self, error: ResponseError) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            _log.error("redis_refuses_the_queue", error=self._complaint)
