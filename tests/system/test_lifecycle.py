"""From start to end: signals, drains, addresses that are taken, and what is left behind."""

import asyncio
import json
import os
import stat
from contextlib import aclosing
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import grpc
import pytest

from outrider import v1
from outrider.core.errors import Reason
from outrider.server.app import ListenError
from tests.support.answers import gated, json_body, openai_events, openai_stream, silence, stream, unending
from tests.support.caller import NOT_SERVING, SERVING, calling, fetch
from tests.support.process import COMMAND, launch, serving
from tests.support.sidecar import Failure, ask, collect, provider, running, text
from tests.support.upstream import Answer, Exchange, Upstream

QUICK = {"simulated": {"first_token_delay": 0, "pace": 0}}
ENDLESS = unending(openai_events("Hel")[:1])


def held(gate: asyncio.Event) -> Answer:
    """A stream that goes on after its first delta once the gate is open."""
    first, *rest = openai_events("Hel", "lo")

    async def answer(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        await exchange.chunk(first)
        await gate.wait()
        for piece in (*rest, b""):
            await exchange.chunk(piece)

    return answer


async def cut_short(call: grpc.aio.UnaryStreamCall[v1.GenerateRequest, v1.GenerateResponse]) -> Failure:
    """How a stream ends that cannot go on."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(call)
    return Failure.of(caught.value)


async def test_sigterm_drains(tmp_path: Path) -> None:
    """Rows 15 and 16: health turns first, then new calls are refused, the stream ends whole, exit 0."""
    gate = asyncio.Event()
    async with (
        Upstream(held(gate)) as upstream,
        serving(
            tmp_path,
            server={"drain": {"delay": 1, "grace": 20}},
            providers={"p": provider(upstream.url), "s": {"format": "simulated", **QUICK}},
        ) as sidecar,
        calling(sidecar.port) as caller,
        aclosing(caller.health.watch()) as statuses,
    ):
        assert await anext(statuses) == SERVING
        call = caller.generation.Generate(ask("p/m"))
        await call.read()
        sidecar.signal(SIGTERM)
        assert await anext(statuses) == NOT_SERVING
        # The delay: still served, by callers who have not yet noticed.
        async with calling(sidecar.port) as newcomer:
            assert text(await collect(newcomer.generation.Generate(ask("s/echo")))) == "hello"
            assert await newcomer.health.check("readiness") == NOT_SERVING
            assert await newcomer.health.check("liveness") == SERVING
        assert await fetch(sidecar.admin_port, "/livez") == (200, "alive\n")
        assert await fetch(sidecar.admin_port, "/readyz") == (503, "draining\n")
        # The grace: nobody new, whoever asks is told why, and the rest of the answer.
        failure = await refused(sidecar.port)
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert (failure.retry_delay, failure.pushback) == (1.0, "1000")
        assert await caller.health.check("liveness") == SERVING
        assert (await fetch(sidecar.admin_port, "/metrics"))[0] == 200
        gate.set()
        rest = []
        while (event := await call.read()) is not grpc.aio.EOF:
            rest.append(event)
        assert await call.code() == grpc.StatusCode.OK
        assert rest[-1].HasField("completed")
        assert await sidecar.ended(within=3) == 0
    outcomes = [line["outcome"] for line in sidecar.events("request")]
    assert set(outcomes) == {"succeeded"}


async def refused(port: int) -> Failure:
    """The first refusal of a new caller."""
    async with asyncio.timeout(5), calling(port) as caller:
        while True:
            try:
                await collect(caller.generation.Generate(ask("s/echo")))
            except grpc.aio.AioRpcError as error:
                return Failure.of(error)


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    """Row 16: exit 1 without the grace, and the caller still learns what has happened."""
    async with (
        Upstream(ENDLESS) as upstream,
        serving(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
        calling(sidecar.port) as caller,
    ):
        call = caller.generation.Generate(ask())
        await anext(aiter(call))
        sidecar.signal(SIGINT)
        await sidecar.logged("draining")
        sidecar.signal(SIGTERM)
        failure = await cut_short(call)
        assert await sidecar.ended(within=2) == 1
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "DRAINING")


async def test_grace_that_runs_out_ends_streams_with_a_status(tmp_path: Path) -> None:
    """Rows 13 and 16: what the caller has is its own, with usage and sequence; the sidecar exits in time."""
    async with (
        Upstream(ENDLESS) as upstream,
        serving(
            tmp_path, server={"drain": {"grace": 0.3}}, providers={"p": provider(upstream.url)}
        ) as sidecar,
        calling(sidecar.port) as caller,
    ):
        call = caller.generation.Generate(ask())
        waiting = asyncio.ensure_future(caller.generation.Complete(v1.CompleteRequest(request=ask())))
        await upstream.received(2)
        sidecar.signal(SIGTERM)
        events: list[v1.GenerateResponse] = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for event in call:
                events.append(event)  # noqa: PERF401 - what came before the error counts
        with pytest.raises(grpc.aio.AioRpcError) as caught_waiting:
            await waiting
        await upstream.connections[0].closed(within=1)
        assert await sidecar.ended(within=2) == 0
    failure, in_one_piece = Failure.of(caught.value), Failure.of(caught_waiting.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "DRAINING")
    assert failure.failure is not None
    assert failure.failure.last_sequence == len(events) == 2
    assert failure.failure.partial_usage.source == v1.USAGE_SOURCE_ESTIMATED
    # Nothing of this answer had left: another sidecar may be asked.
    assert (in_one_piece.code, in_one_piece.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    outcomes = {(line["outcome"], line["reason"]) for line in sidecar.events("request")}
    assert outcomes == {("failed", "DRAINING")}


async def test_whoever_watches_health_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Row 16: an idle sidecar exits at once, whatever the grace, and tells the watcher before."""
    async with (
        serving(
            tmp_path, server={"drain": {"grace": 60}}, providers={"s": {"format": "simulated"}}
        ) as sidecar,
        calling(sidecar.port) as caller,
    ):
        watching = caller.health.watch()
        assert await anext(watching) == SERVING
        sidecar.signal(SIGINT)
        assert await anext(watching) == NOT_SERVING
        assert await sidecar.ended(within=2) == 0
        with pytest.raises(grpc.aio.AioRpcError):
            await anext(watching)


@pytest.mark.parametrize("moment", ["before the first event", "in mid-stream", "in one piece"])
async def test_a_cancel_from_within_leaves_nobody_hanging(tmp_path: Path, moment: str) -> None:
    """Row 13: the sidecar cancels a handler's task, its own way: the caller has a status within 1 s."""
    gate = asyncio.Event()
    answers = {"in mid-stream": held(gate)}
    async with (
        Upstream(answers.get(moment, gated(gate, openai_stream("late")))) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
    ):
        if moment == "in one piece":
            call = asyncio.ensure_future(sidecar.generation.Complete(v1.CompleteRequest(request=ask())))
        else:
            call = asyncio.ensure_future(collect(sidecar.generation.Generate(ask())))
        await upstream.received()
        (handler,) = (task for task in asyncio.all_tasks() if "/outrider.v1." in task.get_name())
        handler.cancel(Reason.DRAINING)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(1):
                await call
        await upstream.connections[0].closed(within=1)
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}
    assert Failure.of(caught.value).reason == "DRAINING"


async def test_a_caller_that_does_not_read_cannot_hold_up_the_end(tmp_path: Path) -> None:
    """Row 16: a stream that is stuck in flow control is cut when the grace has run out."""
    async with (
        Upstream(stream(openai_events(*["x" * 1_000_000] * 20))) as upstream,
        serving(
            tmp_path, server={"drain": {"grace": 0.2}}, providers={"p": provider(upstream.url)}
        ) as sidecar,
        calling(sidecar.port, options={"grpc.max_receive_message_length": -1}) as caller,
    ):
        unread = caller.generation.Generate(ask())
        await unread.read()
        sidecar.signal(SIGTERM)
        assert await sidecar.ended(within=3) == 0


async def test_a_killed_sidecar_is_followed_by_another(tmp_path: Path) -> None:
    """SIGKILL leaves the socket's file behind; the next sidecar takes its place, with the same mode."""
    path = tmp_path / "outrider.sock"
    config = {"server": {"listen": "", "unix_socket": str(path)}, "providers": {"simulated": QUICK}}
    async with serving(tmp_path, **config) as killed:
        killed.signal(SIGKILL)
        await killed.ended()
    assert path.is_socket()
    async with (
        serving(tmp_path, **config),
        calling(f"unix://{path}", options={"grpc.default_authority": "localhost"}) as caller,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert text(await collect(caller.generation.Generate(ask()))) == "hello"


async def test_addresses_that_are_taken_are_named(tmp_path: Path) -> None:
    """A second sidecar ends with 1 and one line; the first goes on."""
    async with serving(tmp_path, providers={"simulated": QUICK}) as sidecar:
        address = f"127.0.0.1:{sidecar.port}"
        code, log = await ends(tmp_path, server={"listen": address})
        assert (code, log) == (1, f"outrider: cannot listen on {address}: Address already in use\n")
        assert await fetch(sidecar.admin_port, "/readyz") == (200, "ready\n")


async def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    """The socket of a living sidecar and a file that is no socket are refused, not removed."""
    path, file = tmp_path / "outrider.sock", tmp_path / "notes"
    file.write_text("mine")
    async with running(
        tmp_path, server={"unix_socket": str(path)}, providers={"simulated": QUICK}
    ) as sidecar:
        refusals = {
            path: "Address already in use",
            file: "Address already in use",
            tmp_path / "no" / "folder": "No such file or directory",
        }
        for each, why in refusals.items():
            with pytest.raises(ListenError, match=f"^cannot listen on {each}: {why}$"):
                await started(tmp_path, {"server": {"listen": "", "unix_socket": str(each)}})
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{sidecar.sidecar.admin_port}: "):
            await started(tmp_path, {"admin": {"listen": f"127.0.0.1:{sidecar.sidecar.admin_port}"}})
        async with calling(f"unix://{path}") as caller:
            assert text(await collect(caller.generation.Generate(ask()))) == "hello"
    assert file.read_text() == "mine"


async def started(folder: Path, config: dict[str, dict[str, str]]) -> None:
    """Start a sidecar that cannot listen."""
    async with running(folder, **{"admin": {"listen": "127.0.0.1:0"}, **config}):
        pass


async def ends(tmp_path: Path, **config: object) -> tuple[int, str]:
    """Exit code and log of a sidecar that cannot serve."""
    child = await launch(tmp_path, **config)
    return await child.ended(), child.log


async def test_what_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    """An address for everyone without TLS is a configuration error, 2; TLS files that are none end with 1."""
    open_to_all = {"server": {"listen": "0.0.0.0:0"}}
    tls = {"cert_file": "/nowhere/cert.pem", "key_file": "/nowhere/key.pem"}
    (code, log), (tls_code, tls_log) = await asyncio.gather(
        ends(tmp_path, **open_to_all), ends(tmp_path, server={"tls": tls})
    )
    assert code == 2
    assert "server.listen: " in log
    assert "other machines can reach this address: set server.tls" in log
    assert tls_code == 1
    files = "/nowhere/cert.pem, /nowhere/key.pem"
    assert tls_log == f"outrider: cannot use the TLS files {files}: No such file or directory\n"


@pytest.mark.parametrize("where", ["closed", "full"])
async def test_standard_error_is_not_needed(tmp_path: Path, where: str) -> None:
    """Closed, or on a disk that is full: it serves, and drains with 0."""
    path = tmp_path / "outrider.sock"
    file = tmp_path / "outrider.yaml"
    simulated = {"simulated": QUICK}
    file.write_text(
        json.dumps(
            {
                "server": {"listen": "", "unix_socket": str(path)},
                "admin": {"listen": ""},
                "providers": simulated,
            }
        )
    )
    redirection = "2>&-" if where == "closed" else "2>/dev/full"
    process = await asyncio.create_subprocess_shell(
        f"exec {COMMAND} serve --config {file} {redirection}", env={"PATH": os.environ["PATH"]}
    )
    try:
        async with calling(f"unix://{path}") as caller, asyncio.timeout(10):
            events = await collect(caller.generation.Generate(ask(), wait_for_ready=True))
        assert text(events) == "hello"
        process.terminate()
        async with asyncio.timeout(5):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_variables_of_other_services_have_their_effect(tmp_path: Path) -> None:
    """The names that users' services set already: who is asked, how often, for how long, and for how much."""
    error, large = json_body({"error": {"message": "no"}}, 500), openai_stream(*["x" * 1000] * 50)
    async with (
        Upstream(error, error, silence) as groq,
        Upstream(error, openai_stream("fine"), large, silence) as openai,
    ):
        env = {
            "GROQ_API_KEY": "gsk-test-0123456789",
            "OPENAI_API_KEY": "sk-test-0123456789",
            "OUTRIDER_PROVIDERS__GROQ__BASE_URL": groq.url,
            "OUTRIDER_PROVIDERS__OPENAI__BASE_URL": openai.url,
            "OUTRIDER_SERVER__LISTEN": "127.0.0.1:0",
            "GROQ_MODEL": "groq-model",
            "GROQ_TIMEOUT": "0.5",
            "GROQ_MAX_RETRIES": "2",
            "LLM_PRIMARY_PROVIDER": "groq",
            "LLM_FALLBACK_PROVIDER": "openai",
            "LLM_RETRY_MAX_ATTEMPTS": "2",
            "LLM_RETRY_BASE_DELAY": "0.01",
            "LLM_RESPONSE_TIMEOUT": "0.6",
            "LLM_MAX_RESPONSE_SIZE": "20000",
            "LLM_MAX_TOKENS": "77",
            "LLM_TEMPERATURE": "0.25",
        }
        async with serving(tmp_path, env=env) as sidecar, calling(sidecar.port) as caller:
            events = await collect(caller.generation.Generate(ask()))
            too_large = await cut_short(caller.generation.Generate(ask("openai")))
            too_slow = await cut_short(caller.generation.Generate(ask("openai")))
        tries = [(each.provider, each.reason) for each in events[-1].completed.attempts]
        sent = groq.requests[0].json()
    assert tries == [
        ("groq", "PROVIDER_ERROR"),
        ("groq", "PROVIDER_ERROR"),
        ("groq", "TOTAL_TIMEOUT"),
        ("openai", "PROVIDER_ERROR"),
        ("openai", ""),
    ]
    assert (sent["model"], sent["temperature"]) == ("groq-model", 0.25)
    assert 77 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))
    assert too_large.reason == "RESPONSE_TOO_LARGE"
    assert too_slow.reason == "TOTAL_TIMEOUT"
    assert [round(each.duration.ToMilliseconds() / 100) for each in too_slow.failure.attempts] == [6, 6]
