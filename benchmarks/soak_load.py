"""The load of the soak: callers of every kind, many of them ill-mannered, until time is up.

Run as a process: prints how many calls of each kind ended in which status, and ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Final

import grpc
import uvloop

from outrider import v1
from outrider.v1.generation_service_pb2_grpc import GenerationServiceStub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from outrider.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub

_CALLERS: Final = 48
_CHANNELS: Final = 8
_CHANNEL_CALLS: Final = 500  # then a channel is closed and opened anew, as callers are that restart
_DEADLINE: Final = 15  # seconds of a call
_SLOW_READS, _SLOW_PAUSE = 20, 0.05  # of a slow reader, and seconds between two of them


def _request(model: str) -> v1.GenerateRequest:
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="Tell me about sidecars, please.")])
    return v1.GenerateRequest(model=model, messages=[message])


class Callers:
    """Makes calls of all kinds, chosen at random but the same in each run."""

    def __init__(self, port: int, only: str = "") -> None:
        wanted = only.split(",") if only else [kind.__name__ for kind in _KINDS]
        self._kinds = {kind: weight for kind, weight in _KINDS.items() if kind.__name__ in wanted}
        self._address = f"127.0.0.1:{port}"
        self._random = Random(1)
        self.counts: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Call for so long, then leave nothing open."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(_CHANNELS):
                group.create_task(self._channel(until))

    async def _channel(self, until: float) -> None:
        while time.monotonic() < until:
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(self._address, options=options) as channel:
                stub: GenerationServiceAsyncStub = GenerationServiceStub(channel)
                left = iter(range(_CHANNEL_CALLS))
                async with asyncio.TaskGroup() as group:
                    for _ in range(_CALLERS // _CHANNELS):
                        group.create_task(self._caller(stub, left, until))

    async def _caller(self, stub: GenerationServiceAsyncStub, left: object, until: float) -> None:
        kinds, weights = zip(*self._kinds.items(), strict=True)
        for _ in left:  # type: ignore[attr-defined]
            if time.monotonic() > until:
                return
            kind = self._random.choices(kinds, weights)[0]
            try:
                await kind(self, stub)
                status = "OK"
            except grpc.aio.AioRpcError as error:
                status = error.code().name
            self.counts[f"{kind.__name__} {status}"] += 1

    async def unary(self, stub: GenerationServiceAsyncStub) -> None:
        """An answer in one piece."""
        await stub.Complete(v1.CompleteRequest(request=_request("mock/unary")), timeout=_DEADLINE)

    async def burst(self, stub: GenerationServiceAsyncStub) -> None:
        """A stream that comes at once."""
        async for _ in stub.Generate(_request("mock/burst"), timeout=_DEADLINE):
            pass

    async def paced(self, stub: GenerationServiceAsyncStub) -> None:
        """A stream at a model's pace."""
        async for _ in stub.Generate(_request("mock/paced-10-50"), timeout=_DEADLINE):
            pass

    async def cancel(self, stub: GenerationServiceAsyncStub) -> None:
        """Leaves after a moment, mostly in mid-stream, sometimes before anything came."""
        call = stub.Generate(_request("mock/paced-10"), timeout=_DEADLINE)
        await asyncio.sleep(self._random.uniform(0, 0.3))
        call.cancel()

    async def slow_reader(self, stub: GenerationServiceAsyncStub) -> None:
        """Reads far slower than the provider sends, then leaves."""
        call = stub.Generate(_request("mock/paced-1-5000"), timeout=_DEADLINE)
        for _ in range(_SLOW_READS):
            await call.read()
            await asyncio.sleep(_SLOW_PAUSE)
        call.cancel()

    async def fault(self, stub: GenerationServiceAsyncStub) -> None:
        """A provider that fails, before or in the middle of its answer, or is not there."""
        model = self._random.choice(
            ("faulty/fault-overloaded", "faulty/fault-reset", "faulty/fault-truncated", "absent/any")
        )
        if self._random.random() < 0.5:
            await stub.Complete(v1.CompleteRequest(request=_request(model)), timeout=_DEADLINE)
        async for _ in stub.Generate(_request(model), timeout=_DEADLINE):
            pass

    async def stall(self, stub: GenerationServiceAsyncStub) -> None:
        """A provider that falls silent in mid-stream."""
        async for _ in stub.Generate(_request("faulty/fault-stall"), timeout=_DEADLINE):
            pass


_KINDS: Final[dict[Callable[[Callers, GenerationServiceAsyncStub], Awaitable[None]], float]] = {
    Callers.unary: 10,
    Callers.burst: 5,
    Callers.paced: 5,
    Callers.cancel: 5,
    Callers.slow_reader: 1,
    Callers.fault: 4,
    Callers.stall: 1,
}


def main() -> None:
    """Arguments: the port, for how many seconds, and the kinds of calls to make, if not all."""
    callers = Callers(int(sys.argv[1]), *sys.argv[3:])
    uvloop.run(callers.run(float(sys.argv[2])))
    print(json.dumps(callers.counts), flush=True)


if __name__ == "__main__":
    main()
