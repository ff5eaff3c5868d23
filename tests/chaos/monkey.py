"""Kills processes at random, each again and again, and spoils the mood of providers."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.chaos.provider import MOODS

if TYPE_CHECKING:
    from random import Random

    from tests.chaos.world import Mortal, World

PAUSE = (0.2, 1.2)  # seconds between two strikes
AWAY = (0.1, 2.5)  # seconds that a dead process stays so
_BAG = ("sidecar", "redis", "provider", "provider", "mood", "mood", "mood")  # until it is empty, then again


class Monkey:
    """Strikes until it is told to stop; then everything comes back. What it does follows from its random."""

    def __init__(self, world: World, random: Random) -> None:
        self.strikes: Counter[str] = Counter()
        self._world = world
        self._random = random
        self._down: set[str] = set()

    async def run(self, seconds: float) -> None:
        """Strike for so long."""
        bag: list[str] = []
        async with asyncio.TaskGroup() as group:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while True:
                        if not bag:
                            bag = self._random.sample(_BAG, len(_BAG))
                        self._strike(bag.pop(), group)
                        await asyncio.sleep(self._random.uniform(*PAUSE))
        self._world.heal()

    def _strike(self, what: str, group: asyncio.TaskGroup) -> None:
        random, world = self._random, self._world
        sidecar, provider = random.choice(world.sidecars), random.choice(world.providers)
        mood, away = random.choice(MOODS), random.uniform(*AWAY)
        if what == "mood":
            provider.behave(mood)
            self.strikes[mood] += 1
            return
        victims: dict[str, Mortal] = {"sidecar": sidecar, "redis": world.redis, "provider": provider}
        victim = victims[what]
        if victim.name not in self._down:
            self._down.add(victim.name)
            self.strikes[f"kill -9 {what}"] += 1
            group.create_task(self._kill(victim, away))

    async def _kill(self, victim: Mortal, away: float) -> None:
        await victim.kill()
        await asyncio.sleep(away)
        await victim.start()
        self._down.discard(victim.name)
