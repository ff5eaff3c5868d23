"""Recorded traffic through the whole sidecar, held against what the official SDKs make of the same bytes."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio

from outrider import v1
from tests.support import anthropic_sdk, openai_sdk
from tests.support.recorded import (
    Jukebox,
    awkward_pieces,
    compressed,
    load,
    named,
    play,
    small_pieces,
)
from tests.support.sidecar import PATIENCE, Failure, Running, ask, provider, running
from tests.support.turns import collected, next_turn
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.recorded import Recording
    from tests.support.upstream import Answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

RECORDINGS = load("openai_chat") + load("anthropic")
STREAMS = [recording for recording in RECORDINGS if recording.stream]
ANSWERED = [recording for recording in RECORDINGS if recording.whole]
UNANSWERED = [recording for recording in RECORDINGS if not recording.whole]

SDKS: dict[str, Any] = {"openai_chat": openai_sdk, "anthropic": anthropic_sdk}
VENDORS = {"api.openai.com": "openai", "api.groq.com": "groq"}


@dataclass(frozen=True)
class Bench:
    """Two sidecars before one upstream, which plays whatever it is asked for."""

    jukebox: Jukebox
    upstream: Upstream
    sidecars: dict[str, Running]  # by transport

    def generate(
        self, recording: Recording, answer: Answer, transport: str = "direct"
    ) -> AsyncIterator[v1.GenerateResponse]:
        """The stream that this answer becomes."""
        request = ask(self._model(recording, answer))
        return self.sidecars[transport].generation.Generate(request, timeout=PATIENCE)

    async def complete(
        self, recording: Recording, answer: Answer, transport: str = "direct"
    ) -> v1.CompleteResponse:
        """The same in one piece."""
        request = v1.CompleteRequest(request=ask(self._model(recording, answer)))
        return await self.sidecars[transport].generation.Complete(request, timeout=PATIENCE)

    async def ask(
        self, recording: Recording, answer: Answer, transport: str = "direct"
    ) -> v1.CompleteResponse:
        """The collected answer, asked for as it was when it was recorded."""
        if not recording.stream:
            return await self.complete(recording, answer, transport)
        return await collected(self.generate(recording, answer, transport))

    def _model(self, recording: Recording, answer: Answer) -> str:
        name = recording.wire if recording.wire == "anthropic" else VENDORS.get(recording.host, "other")
        return f"{name}/{self.jukebox.load(recording.id, answer)}"


def said(recording: Recording, answer: v1.CompleteResponse) -> Any:
    """What an answer says, in the form of what the SDK said."""
    assert [attempt.upstream_status for attempt in answer.completed.attempts] == [200]
    usage = answer.completed.usage
    assert usage.source == v1.USAGE_SOURCE_PROVIDER or (usage.input_tokens > 0 < usage.output_tokens)
    return SDKS[recording.wire].said_by(answer.message, answer.completed)


async def said_by_sdk(recording: Recording, known: dict[str, Any] = {}) -> Any:  # noqa: B006 - read once
    """What the official SDK makes of it."""
    if recording.id not in known:
        known[recording.id] = await SDKS[recording.wire].said_by_sdk(recording)
    return known[recording.id]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A sidecar for each transport, with a provider for each vendor known by name and one for all others."""
    jukebox = Jukebox()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(jukebox))
        sidecars = {
            transport: await stack.enter_async_context(
                running(
                    tmp_path_factory.mktemp(transport),
                    providers={
                        name: provider(
                            upstream.url,
                            "anthropic" if name == "anthropic" else "openai",
                            transport=transport,
                            attempts={"max_attempts": 1},
                        )
                        for name in (*VENDORS.values(), "anthropic", "other")
                    },
                    breaker={"failures": 100_000, "minimum": 100_000},
                )
            )
            for transport in ("direct", "sdk")
        }
        yield Bench(jukebox, upstream, sidecars)


@named(ANSWERED)
async def test_answers_are_what_the_sdk_makes_of_them(bench: Bench, recording: Recording) -> None:
    """Row 19: text, reasoning, signatures, calls, finish reason, ids and usage, in whatever pieces."""
    whole = play(recording, [recording.body])
    answers = {
        "whole": await bench.ask(recording, whole),
        "whole, by the SDK": await bench.ask(recording, whole, "sdk"),
        "byte by byte": await bench.ask(recording, play(recording, small_pieces(recording.body))),
        "compressed": await bench.ask(recording, compressed(recording)),
        "compressed, by the SDK": await bench.ask(recording, compressed(recording), "sdk"),
        "cut inside of characters and line ends": await bench.ask(
            recording, play(recording, awkward_pieces(recording.body.replace(b"\n", b"\r\n")))
        ),
    }
    heard = {way: said(recording, answer) for way, answer in answers.items()}
    assert heard == dict.fromkeys(answers, await said_by_sdk(recording))


@named(ANSWERED)
async def test_an_answer_in_the_other_form_is_understood(bench: Bench, recording: Recording) -> None:
    """Row 5: an answer in one piece where a stream was asked for, and the other way round."""
    whole = play(recording, [recording.body])
    if recording.stream:
        answer = await bench.complete(recording, whole)
    else:
        answer = await collected(bench.generate(recording, whole))
    assert said(recording, answer) == await said_by_sdk(recording)


@named(STREAMS)
@pytest.mark.parametrize("transport", ["direct", "sdk"])
async def test_a_stream_without_its_end_is_an_error(
    bench: Bench, recording: Recording, transport: str
) -> None:
    """Row 3: cut behind an event or inside of one, it is no success, and no finish reason is made up."""
    ends = recording.ends
    for end in {ends[0], ends[len(ends) // 2], ends[-1], ends[-1] - 3, ends[-1] + 5}:
        failure, events = await fails(bench, recording, play(recording, [recording.body[:end]]), transport)
        assert failure.reason == "STREAM_TRUNCATED"
        assert failure.code == (grpc.StatusCode.ABORTED if events else grpc.StatusCode.UNAVAILABLE)
        assert not any(event.HasField("completed") for event in events)


@named(UNANSWERED)
@pytest.mark.parametrize("transport", ["direct", "sdk"])
async def test_errors_say_what_the_provider_said(bench: Bench, recording: Recording, transport: str) -> None:
    """Row 4: an error in place of an answer or in its middle is one to the caller too, in the same words."""
    for pieces in ([recording.body], small_pieces(recording.body)):
        failure, events = await fails(bench, recording, play(recording, pieces), transport)
        assert not any(event.HasField("completed") for event in events)
        assert json.dumps(failure.message)[1:100].rstrip('"').encode() in recording.body


@named(ANSWERED)
async def test_answers_go_back_as_they_came(bench: Bench, recording: Recording) -> None:
    """Row 32: signatures, redacted reasoning, opaque blocks and ids of calls, byte for byte."""
    answer = await bench.ask(recording, play(recording, [recording.body]))
    model = f"{answer.started.provider}/{answer.started.model}"
    request = next_turn(model, answer.message)
    await bench.sidecars["direct"].generation.Complete(request, timeout=PATIENCE)
    sent = bench.upstream.requests[-1].body
    for part in answer.message.parts:
        assert part.signature in sent
        assert part.reasoning.redacted in sent
        assert part.opaque.json.encode() in sent
        # Once in the call, and once in its result.
        assert not part.tool_call.id or sent.count(f'"{part.tool_call.id}"'.encode()) == 2


async def fails(
    bench: Bench, recording: Recording, answer: Answer, transport: str
) -> tuple[Failure, list[v1.GenerateResponse]]:
    """How an answer fails, and the events before that."""
    events: list[v1.GenerateResponse] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if recording.stream:
            async for event in bench.generate(recording, answer, transport):
                events.append(event)  # noqa: PERF401 - what came before the error counts
        else:
            await bench.complete(recording, answer, transport)
    return Failure.of(caught.value), events
