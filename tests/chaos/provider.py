"""A provider in a process of its own. Its answer is a digest of the prompt, so that anybody can check it.

    python -m tests.chaos.provider PORT SEED

Each line on standard input is its mood from then on: one of `MOODS`.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from random import Random
from typing import TYPE_CHECKING

from tests.support.answers import (
    broken,
    json_body,
    openai_completion,
    openai_error,
    openai_events,
    openai_stream,
    silence,
    sse,
    stream,
    unending,
)
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from tests.support.upstream import Answer, Exchange

WELL, MIXED = "well", "mixed"
FAULTS = ("down", "resets", "truncates", "silent", "slow", "errs", "limits")
MOODS = (WELL, MIXED, *FAULTS)

_SHARE = 0.3  # of faults where they are mixed
_PIECES = 4
_PAUSE, _LONG_PAUSE = 0.01, 0.2  # seconds between two of them


def digest(prompt: str) -> str:
    """What every provider answers to it."""
    return hashlib.sha256(prompt.encode()).hexdigest()


class Provider:
    """Answers as its mood is."""

    def __init__(self, random: Random) -> None:
        self.mood = WELL
        self._random = random

    async def answer(self, exchange: Exchange) -> None:
        """Play the answer to one request."""
        mood = self.mood
        if mood == MIXED:
            mood = self._random.choice(FAULTS) if self._random.random() < _SHARE else WELL
        if exchange.request.method == "GET":
            status = 200 if mood == WELL else 503
            await json_body({"object": "list", "data": []}, status)(exchange)
        else:
            asked = exchange.request.json()
            whole = digest(asked["messages"][-1]["content"])
            if asked.get("stream"):
                await self._play(mood, whole)(exchange)
            else:
                await self._in_one_piece(mood, whole)(exchange)

    def _play(self, mood: str, whole: str) -> Answer:
        size = len(whole) // _PIECES
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        if mood in (WELL, "slow"):
            return _paced(pieces, _PAUSE if mood == WELL else _LONG_PAUSE)
        if mood == "truncates":
            return unending(openai_events(*pieces)[: self._random.randrange(1, _PIECES)], "close")
        return self._fault(mood, openai_stream(*pieces))

    def _in_one_piece(self, mood: str, whole: str) -> Answer:
        if mood in (WELL, "slow"):
            return openai_completion(whole)
        return self._fault(mood, openai_completion(whole))

    def _fault(self, mood: str, good: Answer) -> Answer:
        if mood == "down":
            return json_body(openai_error("down"), 503)
        if mood == "silent":
            return silence
        if mood == "errs":
            return stream(sse(openai_error("overloaded", kind="server_error")))
        if mood == "limits":
            return json_body(openai_error("slow down"), 429, {"retry-after": "1"})
        return broken(good, after=self._random.randrange(1, 600), fault="reset")


def _paced(pieces: list[str], pause: float) -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        for event in openai_events(*pieces):
            await exchange.chunk(event)
            await asyncio.sleep(pause)
        await exchange.chunk(b"")

    return answer


async def _serve(port: int, seed: int) -> None:
    provider = Provider(Random(seed))
    moods = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(moods), sys.stdin)
    async with Upstream(provider.answer, port=port):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while line := await moods.readline():
            provider.mood = line.decode().strip()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
