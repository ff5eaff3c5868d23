"""What is recorded of providers, and how it is played again."""

from __future__ import annotations

import asyncio
import json
import math
import resource
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import Progress
from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import Batch, Call
from outrider.providers.recorder import Recorder, RecordingProvider
from outrider.providers.recording import Exchange, digest, read, write
from outrider.providers.recordings import Recordings
from outrider.providers.simulated import SimulatedProvider, Simulation
from tests.support.paused_clock import now, paused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz"
USAGE = v1.Usage(input_tokens=3, output_tokens=2)
COMPLETED = v1.GenerateResponse(
    completed=v1.Completed(finish_reason=v1.FINISH_REASON_STOP, usage=USAGE, response_id="r")
)
DOWN = GenerationError(Reason.PROVIDER_OVERLOADED, "busy", upstream_status=503, retry_after=2.0)


def text(words: str, part: int = 0) -> v1.GenerateResponse:
    return v1.GenerateResponse(text_delta=v1.TextDelta(text=words, part=part))


def tool_call(arguments: str, **fields: str) -> v1.GenerateResponse:
    return v1.GenerateResponse(
        tool_call_delta=v1.ToolCallDelta(part=1, arguments_json=arguments, **fields)  # type: ignore[arg-type]
    )


def call(words: str = "hello", model: str = "m", **fields: Any) -> Call:
    message = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=words)])
    return Call(v1.GenerateRequest(messages=[message], **fields), model, True, 5.0, Progress(), [])


class Provider:
    """Gives out batches, raises errors and waits, as it is told for each call."""

    name = "p"

    def __init__(self, *answers: list[Any]) -> None:
        self._answers = list(answers)
        self.closed = False

    async def generate(self, call: Call) -> AsyncGenerator[Batch, None]:
        for step in self._answers.pop(0):
            if isinstance(step, GenerationError):
                raise step
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                yield step

    async def count_tokens(self, request: v1.GenerateRequest, model: str) -> int | None:
        return 7

    async def check(self) -> None: ...

    async def aclose(self) -> None:
        self.closed = True


async def record(folder: Path, *answers: list[Any], calls: list[Call] | None = None) -> None:
    """Let these answers be given and recorded, and change what was given, as everybody behind it does."""
    provider = RecordingProvider(Provider(*answers), Recorder(folder, lambda: [KEY]))
    for number in range(len(answers)):
        try:
            async with aclosing(provider.generate(calls[number] if calls else call())) as batches:
                async for batch in batches:
                    for event in batch:
                        event.sequence = 99
                    batch.insert(0, v1.GenerateResponse())
        except GenerationError:
            continue
    await provider.aclose()


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def replayed(recordings: Recordings, attempt: Call, **times: float) -> Batch:
    play = recordings.play(attempt, **({"first_delay": 0.0, "pace": 0.0} | times))
    async with aclosing(play) as batches:
        return [event async for batch in batches for event in batch]


async def test_an_exchange_is_a_readable_file(tmp_path: Path) -> None:
    """Named by time, provider, model and digest; with request and answer as they were at the provider."""
    folder = tmp_path / "deep" / "recordings"
    attempt = call("grüße", "org/model:1", attribution=v1.Attribution(user="ada"), idempotency_key="i")
    await record(folder, [[text("a"), text("b")], 0.01, [COMPLETED]], calls=[attempt])
    (file,) = files(folder)
    name = digest(attempt.request)
    time, rest = file.name.split("-", 1)
    assert (rest, time[8], len(time)) == (f"p-org_model_1-{name[:12]}.json", "T", 23)
    content = file.read_text()
    assert '"text": "grüße"' in content
    assert "ada" not in content
    recorded = json.loads(content)
    assert (recorded["digest"], recorded["outcome"], recorded["error"]) == (name, "completed", None)
    assert (recorded["provider"], recorded["model"], recorded["streaming"]) == ("p", "org/model:1", True)
    assert list(recorded["request"]) == ["messages"]
    assert [event.get("text_delta", {}).get("text") for event in recorded["events"]] == ["a", "b", None]
    first, second, last = (event["at"] for event in recorded["events"])
    assert 0 <= first == second < last
    assert "sequence" not in recorded["events"][0]
    assert (folder / ".gitignore").read_text() == "*\n"
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


async def test_what_is_recorded_is_answered(tmp_path: Path) -> None:
    """Text, reasoning, tool calls and usage; for any provider and model, and as often as is asked."""
    events = [
        v1.GenerateResponse(reasoning_delta=v1.ReasoningDelta(text="hm", signature=b"\x00\xff")),
        tool_call('{"city":', id="c", name="weather"),
        tool_call(' "Oslo"}'),
        COMPLETED,
    ]
    copies = [[v1.GenerateResponse.FromString(event.SerializeToString())] for event in events]
    await record(tmp_path, copies)
    recordings = Recordings(tmp_path)
    for _ in range(2):
        attempt = call(model="another")
        assert await replayed(recordings, attempt) == events
        progress = attempt.progress
        assert (progress.upstream_status, progress.usage, progress.output_chars) == (200, USAGE, 18)


async def test_a_failure_is_recorded_and_fails_again(tmp_path: Path) -> None:
    """With its reason, status and delay; before and after content; then what came at the next try."""
    await record(tmp_path, [DOWN], [[text("a")], DOWN], [[text("b"), COMPLETED]])
    recordings = Recordings(tmp_path)
    for expected in ([], ["a"]):
        attempt, got = call(), []
        with pytest.raises(GenerationError) as caught:
            async with aclosing(recordings.play(attempt, first_delay=0, pace=0)) as batches:
                async for batch in batches:
                    got += [event.text_delta.text for event in batch]
        assert got == expected
        fact = caught.value.fact
        assert (fact.reason, fact.upstream_status, fact.retry_after) == (Reason.PROVIDER_OVERLOADED, 503, 2.0)
        assert (fact.message, attempt.progress.upstream_status) == ("recorded: busy", 503)
    for _ in range(2):
        assert [event.text_delta.text for event in await replayed(recordings, call())] == ["b", ""]


async def test_a_cancelled_exchange_is_recorded(tmp_path: Path) -> None:
    """As far as it went; it is played only where nothing better was recorded."""
    recorder = Recorder(tmp_path, list)
    provider = RecordingProvider(Provider([[text("a")], 60.0]), recorder)

    async def ask() -> None:
        async with aclosing(provider.generate(call())) as batches:
            async for _ in batches:
                begun.set()

    begun = asyncio.Event()
    task = asyncio.create_task(ask())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await provider.aclose()
    assert json.loads(files(tmp_path)[0].read_text())["outcome"] == "cancelled"
    with pytest.raises(GenerationError, match="the caller had left"):
        await replayed(Recordings(tmp_path), call())
    await record(tmp_path, [[COMPLETED]])
    assert await replayed(Recordings(tmp_path), call()) == [COMPLETED]


async def test_what_was_not_recorded_fails_clearly(tmp_path: Path) -> None:
    """With the digest, as do files that nobody can read; any difference counts that may change an answer."""
    await record(tmp_path, [[COMPLETED]])
    recordings = Recordings(tmp_path)
    for attempt in (call("other"), call(sampling=v1.Sampling(temperature=1))):
        with pytest.raises(GenerationError) as caught:
            await replayed(recordings, attempt)
        assert caught.value.reason is Reason.NOT_RECORDED
        assert digest(attempt.request) in caught.value.fact.message
    for broken in ("{", "[]", '{"form": 2}', '{"form": 1, "events": [{"text_delta": 3}]}', "\x00"):
        files(tmp_path)[0].write_text(broken)
        with pytest.raises(GenerationError, match=files(tmp_path)[0].name) as caught:
            await replayed(Recordings(tmp_path), call())
        assert caught.value.reason is Reason.NOT_RECORDED
    with pytest.raises(ValueError, match="is not a folder"):
        Recordings(tmp_path / "nowhere")


async def test_recordings_are_played_as_they_are_now(tmp_path: Path) -> None:
    """Once played, too: what is edited is said, what is broken or gone fails until it is mended."""
    await record(tmp_path, [[text("first"), COMPLETED]], [[text("second"), COMPLETED]])
    recordings, (first, second) = Recordings(tmp_path), files(tmp_path)

    async def said() -> str:
        return "".join(event.text_delta.text for event in await replayed(recordings, call()))

    assert [await said(), await said(), await said()] == ["first", "second", "second"]
    whole = second.read_text()
    second.write_text(whole.replace("second", "edited"))
    assert await said() == "edited"
    second.write_text("{")
    with pytest.raises(GenerationError, match=second.name):
        await said()
    second.write_text(whole)
    first.unlink()
    with pytest.raises(GenerationError, match=first.name) as caught:
        await said()
    assert caught.value.reason is Reason.NOT_RECORDED
    first.write_text(whole.replace('"completed",', '"cancelled",'))
    assert await said() == "second"


async def test_no_key_is_recorded(tmp_path: Path) -> None:
    """Row 28: in no value, however it is written; also where it was cut between deltas."""
    answer = [[text(KEY[:9])], [text(KEY[9:20])], [text(KEY[20:] + " end")], [text("clean", part=1)]]
    leak = GenerationError(Reason.PROVIDER_CREDENTIALS_REFUSED, f"key {KEY} is wrong")
    attempts = [call(f'my "key" is {KEY}?api_key={KEY}\n'), call("x")]
    await record(tmp_path, [*answer, [COMPLETED]], [leak], calls=attempts)
    for file in files(tmp_path):
        content = file.read_text()
        assert KEY[:9] not in content
        assert KEY[-9:] not in content
        assert "[redacted]" in content
        read(content)
    spoken = [event.text_delta.text for event in read(files(tmp_path)[0].read_text()).events]
    assert spoken == ["[redacted] end", "", "", "clean", ""]


async def test_a_disk_that_fails_disturbs_nobody(tmp_path: Path) -> None:
    """Requests go on; it is said once, and nothing half-written stays."""
    folder = tmp_path / "recordings"
    folder.write_text("a file in the folder's place")
    with structlog.testing.capture_logs() as lines:
        await record(folder, *([[COMPLETED]] for _ in range(3)))
    assert [line["event"] for line in lines] == [
        "RECORDING every request and every answer in clear text: never do so in production",
        "not everything is recorded",
    ]
    assert names(tmp_path) == ["recordings"]


async def test_a_full_disk_disturbs_nobody(tmp_path: Path) -> None:
    """As before, where the file can be opened but not be written as a whole."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with structlog.testing.capture_logs() as lines:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            await record(tmp_path, [[COMPLETED]], [[COMPLETED]])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [line["log_level"] for line in lines] == ["warning", "warning"]
    assert names(tmp_path) == [".gitignore"]


async def test_the_recorder_is_bounded(tmp_path: Path) -> None:
    """What is too large, or comes too fast, is lost and said once; the answer is not held up."""
    large = [[text("x" * 2**20)] for _ in range(17)]
    with structlog.testing.capture_logs() as lines:
        await record(tmp_path, [*large, [COMPLETED]], [[COMPLETED]])
        recorder = Recorder(tmp_path, list)
        request = call().request.SerializeToString()
        for _ in range(1_000):
            recorder.put(Exchange("p", "m", True, 0.0, request, (), None))
        assert len(recorder._waiting) <= 256
        await recorder.aclose()
    assert [line["event"] for line in lines].count("not everything is recorded") == 2
    assert len(files(tmp_path)) >= 1


async def test_the_rest_is_the_providers(tmp_path: Path) -> None:
    """Counting, checking and closing."""
    inner = Provider()
    provider = RecordingProvider(inner, Recorder(tmp_path, list))
    assert (provider.name, await provider.count_tokens(v1.GenerateRequest(), "m")) == ("p", 7)
    await provider.check()
    await provider.aclose()
    assert inner.closed
    assert files(tmp_path) == []


@paused
async def test_a_recording_is_played_at_the_configured_pace(tmp_path: Path) -> None:
    """First delay, then the pace between two events; whatever it took when it was recorded."""
    events = tuple((0.0, event.SerializeToString()) for event in (text("a"), text("b"), COMPLETED))
    exchange = Exchange("p", "m", True, 0.0, call().request.SerializeToString(), events, None)
    name, content = write(exchange, ())
    (tmp_path / f"p-{name[:12]}.json").write_text(content)
    recordings = Recordings(tmp_path)
    began, times = now(), []
    async with aclosing(recordings.play(call(), first_delay=3.0, pace=0.5)) as batches:
        async for batch in batches:
            times.append(round(now() - began, 3))
            assert len(batch) == 1
    assert times == [3.0, 3.5, 4.0]


async def test_the_simulated_provider_replays(tmp_path: Path) -> None:
    """Whatever its model and script."""
    await record(tmp_path, [[text("recorded"), COMPLETED]])
    provider = SimulatedProvider("s", Simulation(script="scripted"), Recordings(tmp_path))
    async with aclosing(provider.generate(call(model="echo"))) as batches:
        events = [event async for batch in batches for event in batch]
    assert [event.text_delta.text for event in events] == ["recorded", ""]


@given(
    st.lists(
        st.one_of(
            st.builds(text, st.text(max_size=20), st.integers(0, 3)),
            st.builds(tool_call, st.text(max_size=20)),
            st.just(COMPLETED),
        ),
        max_size=8,
    ),
    st.none() | st.floats(0, 1e6),
)
def test_any_answer_is_read_as_it_was_written(events: list[v1.GenerateResponse], wait: float | None) -> None:
    """Whatever it holds."""
    error = GenerationError(Reason.PROVIDER_ERROR, "x", retry_after=wait)
    recorded = tuple((0.5, event.SerializeToString()) for event in events)
    _, content = write(Exchange("p", "m", False, 0.0, b"", recorded, error.fact), ())
    recording = read(content)
    assert list(recording.events) == events
    failure = recording.failure()
    assert (failure.reason, failure.fact.retry_after) == (Reason.PROVIDER_ERROR, wait)


def test_no_delay_is_for_ever() -> None:
    """JSON knows no infinity."""
    error = GenerationError(Reason.PROVIDER_QUOTA_SPENT, "x", retry_after=math.inf)
    _, content = write(Exchange("p", "m", False, 0.0, b"", (), error.fact), ())
    assert read(content).failure().fact.retry_after is None
