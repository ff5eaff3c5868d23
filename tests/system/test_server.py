"""What callers find at the port: who may call, how large, over what, and what else answers there."""

import asyncio
import os
import shutil
import stat
import subprocess
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from outrider import v1
from outrider.server.app import ListenError
from tests.support.answers import (
    json_body,
    openai_completion,
    openai_events,
    openai_stream,
    silence,
    unending,
)
from tests.support.api import SERVICES
from tests.support.caller import calling
from tests.support.http2 import Pinger
from tests.support.sidecar import Failure, Running, ask, collect, provider, running, text
from tests.support.upstream import Upstream

QUICK = {"format": "simulated", "simulated": {"first_token_delay": 0, "pace": 0}}
STALLED = {"format": "simulated", "simulated": {"failure": "stalled"}}
MIB = 2**20
SHOP, DESK = "shop-token-0123456789", "desk-token-0123456789"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a caller."""
    return (("authorization", f"Bearer {token}"),)


async def refusal(sidecar: Running, request: v1.GenerateRequest, token: str | None = None) -> Failure:
    """How a request is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(sidecar.generation.Generate(request, metadata=bearer(token) if token else None))
    return Failure.of(caught.value)


# Who may call


CALLERS = {
    "shop": {"token": SHOP, "models": ["cheap", "a/*"]},
    "desk": {"token": DESK},
}
TWO = {"a": QUICK, "b": QUICK}


async def test_a_caller_gets_the_models_that_are_its_own(tmp_path: Path) -> None:
    """By route, pattern and default; a fallback that it may not use is no way around."""
    async with running(
        tmp_path,
        callers=CALLERS,
        providers=TWO,
        routes={"cheap": ["b/echo"], "best": ["b/echo"], "own": ["a/echo"]},
        default_model="best",
    ) as sidecar:
        for model in ("cheap", "own", "a/echo", "a"):
            call = sidecar.generation.Generate(ask(model), metadata=bearer(SHOP))
            assert text(await collect(call)) == "hello"
        sneaky = ask("a/echo", fallback=v1.FallbackOptions(models=["best"]))
        for request in (ask("best"), ask("b/echo"), ask(""), sneaky):
            failure = await refusal(sidecar, request, SHOP)
            assert (failure.code, failure.reason) == (
                grpc.StatusCode.PERMISSION_DENIED,
                "MODEL_NOT_ALLOWED",
            )
            assert text(await collect(sidecar.generation.Generate(request, metadata=bearer(DESK)))) == "hello"
        mine, all_ = [
            await sidecar.providers.ListModels(v1.ListModelsRequest(), metadata=bearer(token))
            for token in (SHOP, DESK)
        ]
        names = {model.name for model in mine.models}
        assert {"cheap", "own", "a/echo"} <= names
        assert not any(name == "best" or name.startswith("b/") for name in names)
        assert {"best", "b/echo"} <= {model.name for model in all_.models}


@pytest.mark.parametrize("token", [None, "wrong", "", SHOP[:-1]])
async def test_strangers_learn_nothing(tmp_path: Path, token: str | None) -> None:
    """Without a token that is known, every method answers UNAUTHENTICATED, whatever is asked."""
    async with running(tmp_path, callers=CALLERS, providers=TWO) as sidecar:
        metadata = None if token is None else bearer(token)
        calls = (
            sidecar.generation.Complete(v1.CompleteRequest(request=ask("nonsense")), metadata=metadata),
            sidecar.generation.Complete(v1.CompleteRequest(), metadata=metadata),
            sidecar.generation.CountTokens(v1.CountTokensRequest(), metadata=metadata),
            sidecar.providers.ListProviders(v1.ListProvidersRequest(), metadata=metadata),
            sidecar.providers.ListModels(v1.ListModelsRequest(), metadata=metadata),
            sidecar.providers.CheckProvider(v1.CheckProviderRequest(provider="x"), metadata=metadata),
        )
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            failure = Failure.of(caught.value)
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN")


async def test_a_new_token_in_a_file_replaces_the_old_one(tmp_path: Path) -> None:
    """Within seconds, without a restart; from then on the old one is a stranger's."""
    file, fresh = tmp_path / "token", tmp_path / "fresh"
    file.write_text("first-token-0123456789\n")
    async with running(
        tmp_path, callers={"shop": {"token_file": str(file)}}, providers={"s": QUICK}
    ) as sidecar:
        first, second = bearer("first-token-0123456789"), bearer("second-token-0123456789")
        assert text(await collect(sidecar.generation.Generate(ask(), metadata=first))) == "hello"
        fresh.write_text("second-token-0123456789\n")
        os.utime(fresh, (1, 1))  # as if it had rested for a while
        fresh.replace(file)
        async with asyncio.timeout(5):
            while True:
                try:
                    events = await collect(sidecar.generation.Generate(ask(), metadata=second))
                except grpc.aio.AioRpcError:
                    continue
                break
        assert text(events) == "hello"
        assert (await refusal(sidecar, ask(), "first-token-0123456789")).reason == "CALLER_UNKNOWN"


# Over what


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates of their own making: server.pem, client.pem and stranger.pem."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("certificates")
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for name in ("server", "client", "stranger"):
        names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        path = folder / f"{name}.pem"
        command = [openssl, "req", *options, *names, "-keyout", path, "-out", path]
        subprocess.run(command, check=True, capture_output=True)
    return folder


def presenting(folder: Path, name: str | None) -> grpc.ChannelCredentials:
    """Trust in the server's certificate, and perhaps a certificate to show."""
    own = (folder / f"{name}.pem").read_bytes() if name else None
    return grpc.ssl_channel_credentials((folder / "server.pem").read_bytes(), own, own)


async def test_tls_and_client_certificates(tmp_path: Path, certificates: Path) -> None:
    """Trusted callers are served on any address; without TLS, or without a known certificate, nobody is."""
    pem = str(certificates / "server.pem")
    tls = {"cert_file": pem, "key_file": pem}
    async with running(
        tmp_path, server={"listen": "0.0.0.0:0", "tls": tls}, providers={"s": QUICK}
    ) as sidecar:
        port = sidecar.sidecar.port
        async with calling(port, presenting(certificates, None)) as caller:
            assert text(await collect(caller.generation.Generate(ask()))) == "hello"
        assert (await refusal(sidecar, ask())).code == grpc.StatusCode.UNAVAILABLE
    tls["client_ca_file"] = str(certificates / "client.pem")
    async with running(tmp_path, server={"tls": tls}, providers={"s": QUICK}) as sidecar:
        port = sidecar.sidecar.port
        async with calling(port, presenting(certificates, "client")) as caller:
            assert text(await collect(caller.generation.Generate(ask()))) == "hello"
        for name in (None, "stranger"):
            async with calling(port, presenting(certificates, name)) as caller:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await collect(caller.generation.Generate(ask()))
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_tls_files_that_do_not_fit(tmp_path: Path, certificates: Path) -> None:
    """The sidecar does not start, and names them: a key of another certificate, or no PEM at all."""
    server, client, nothing = certificates / "server.pem", certificates / "client.pem", tmp_path / "nothing"
    nothing.write_text("not a certificate")
    for tls in (
        {"cert_file": str(server), "key_file": str(client)},
        {"cert_file": str(nothing), "key_file": str(nothing)},
        {"cert_file": str(server), "key_file": str(server), "client_ca_file": str(nothing)},
    ):
        with pytest.raises(ListenError, match=f"^cannot use the TLS files {', '.join(tls.values())}: "):
            async with running(tmp_path, server={"tls": tls}):
                pass


@pytest.mark.parametrize("authority", [None, "localhost"])
async def test_a_unix_socket(tmp_path: Path, authority: str | None) -> None:
    """For the owner and its group alone, for callers that name an authority and for those that do not."""
    path = tmp_path / "outrider.sock"
    options: dict[str, object] = {"grpc.default_authority": authority} if authority else {}
    async with (
        running(tmp_path, server={"listen": "", "unix_socket": str(path)}, providers={"s": QUICK}),
        calling(f"unix://{path}", options=options) as caller,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert text(await collect(caller.generation.Generate(ask()))) == "hello"


async def test_pings_in_a_long_prefill(tmp_path: Path) -> None:
    """Row 14: a caller that pings every second, let alone every 10 s, over a silent stream is not cut off.

    The first ping is free, and two that come too early are forgiven: the fourth shows what a second is worth.
    """
    method, message = "/outrider.v1.GenerationService/Generate", ask().SerializeToString()
    async with (
        running(tmp_path, providers={"s": STALLED}) as sidecar,
        Pinger(sidecar.sidecar.port, method, message) as pinger,
    ):
        for _ in range(3):
            assert await pinger.ping()
        await asyncio.sleep(1.02)
        assert await pinger.ping()
        async with asyncio.timeout(1):
            while await pinger.ping():
                pass
        assert pinger.goaway == b"too_many_pings"


# How much


async def test_large_prompts_and_answers(tmp_path: Path) -> None:
    """Row 17: 5 MiB pass both ways, streamed and in one piece, as the caller and the provider sent them."""
    prompt, answer = "p" * (5 * MIB), "a" * (5 * MIB)
    pieces = [answer[i : i + 64 * 1024] for i in range(0, len(answer), 64 * 1024)]
    async with (
        Upstream(openai_stream(*pieces), openai_completion(answer)) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}) as sidecar,
        calling(sidecar.sidecar.port) as caller,
    ):
        # Streamed, it fits callers that have never heard of message sizes.
        assert text(await collect(caller.generation.Generate(ask(text=prompt)))) == answer
        whole = await sidecar.generation.Complete(v1.CompleteRequest(request=ask(text=prompt)))
        assert whole.message.parts[0].text == answer
        assert [each.json()["messages"][0]["content"] for each in upstream.requests] == [prompt, prompt]


async def test_a_request_over_the_limit_is_the_callers_fault(tmp_path: Path) -> None:
    """Row 17: INVALID_ARGUMENT that names both sizes, not the RESOURCE_EXHAUSTED of a rate limit."""
    async with (
        Upstream(openai_stream("fine")) as upstream,
        running(
            tmp_path, server={"max_message_bytes": "1MiB"}, providers={"p": provider(upstream.url)}
        ) as sidecar,
    ):
        failure = await refusal(sidecar, ask(text="x" * (MIB + 1)))
        assert upstream.requests == []
        assert text(await collect(sidecar.generation.Generate(ask(text="x" * (MIB - 100))))) == "fine"
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert f"at most {MIB} " in failure.message
    assert failure.pushback is None


async def test_an_answer_over_the_limit_is_the_providers_fault(tmp_path: Path) -> None:
    """Row 17: RESPONSE_TOO_LARGE, in one piece as in a stream, and no rate limit either."""
    async with (
        Upstream(openai_completion("x" * 50_000)) as upstream,
        running(
            tmp_path, limits={"max_response_bytes": 20_000}, providers={"p": provider(upstream.url)}
        ) as sidecar,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await sidecar.generation.Complete(v1.CompleteRequest(request=ask()))
        assert len(upstream.requests) == 1
    failure = Failure.of(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "RESPONSE_TOO_LARGE")
    assert failure.pushback == "-1"


async def test_calls_over_the_limit_are_shed_and_health_is_not(tmp_path: Path) -> None:
    """A busy sidecar says so with a time to come back; its probes go on, and a place that is free is used."""
    async with (
        Upstream(unending(openai_events("a")[:1]), openai_stream("fine")) as upstream,
        running(
            tmp_path, server={"max_concurrent_requests": 1}, providers={"p": provider(upstream.url)}
        ) as sidecar,
        calling(sidecar.sidecar.port) as caller,
    ):
        call = caller.generation.Generate(ask())
        await call.read()
        failure = await refusal(sidecar, ask())
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "LOAD_SHED")
        assert (failure.retry_delay, failure.pushback) == (1.0, "1000")
        await asyncio.gather(*(caller.health.check() for _ in range(20)))
        call.cancel()
        await upstream.connections[0].closed()
        assert text(await collect(sidecar.generation.Generate(ask()))) == "fine"


# What else answers


OTHER = {"listen": "0.0.0.0:0", "insecure": True}


@pytest.mark.parametrize(
    ("server", "on"),
    [({}, True), ({"reflection": False}, False), (OTHER, False), ({**OTHER, "reflection": True}, True)],
)
async def test_reflection(tmp_path: Path, server: dict[str, object], on: bool) -> None:
    """It lists every service where only this machine can ask, elsewhere where the configuration says so."""
    async with running(tmp_path, server=server, providers={"s": QUICK}) as sidecar:
        if not on:
            method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await sidecar.channel.unary_unary(method)(b"")
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
            return
        stub = reflection_pb2_grpc.ServerReflectionStub(sidecar.channel)
        asking = reflection_pb2.ServerReflectionRequest(list_services="*")
        answers = stub.ServerReflectionInfo(iter([asking]))
        answer = await answers.read()
        answers.cancel()
    assert {service.name for service in answer.list_services_response.service} == {
        *SERVICES,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_providers_as_they_are(tmp_path: Path) -> None:
    """Listed in the order of the configuration; one without a key is disabled, and stops nobody."""
    async with (
        Upstream(json_body({"data": []})) as well,
        Upstream(json_body({"error": {"message": "bad key"}}, 401)) as refusing,
        Upstream(silence) as upstream,
    ):
        gone = upstream.url
        async with running(
            tmp_path,
            providers={
                "well": provider(well.url),
                "refusing": provider(refusing.url),
                "gone": provider(gone),
                "anthropic": {},
                "s": QUICK,
            },
        ) as sidecar:
            await upstream.__aexit__(None, None, None)
            listed = (await sidecar.providers.ListProviders(v1.ListProvidersRequest())).providers
            assert [each.name for each in listed] == ["well", "refusing", "gone", "anthropic", "s"]
            serving, disabled = v1.PROVIDER_STATUS_SERVING, v1.PROVIDER_STATUS_DISABLED
            assert [each.status for each in listed] == [serving, serving, serving, disabled, serving]
            assert (listed[0].base_url, listed[3].format) == (well.url, "anthropic")
            assert "key" in listed[3].status_reason
            found = {}
            for name in ("well", "refusing", "gone", "anthropic", "s"):
                check = await sidecar.providers.CheckProvider(v1.CheckProviderRequest(provider=name))
                found[name] = (check.provider.status, check.reason)
            not_serving = v1.PROVIDER_STATUS_NOT_SERVING
            assert found == {
                "well": (serving, ""),
                "refusing": (not_serving, "PROVIDER_CREDENTIALS_REFUSED"),
                "gone": (not_serving, "PROVIDER_UNREACHABLE"),
                "anthropic": (disabled, "PROVIDER_NOT_CONFIGURED"),
                "s": (serving, ""),
            }
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await sidecar.providers.CheckProvider(v1.CheckProviderRequest(provider="nobody"))
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
            failure = await refusal(sidecar, ask("anthropic/claude"))
            assert (failure.code, failure.reason) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "PROVIDER_NOT_CONFIGURED",
            )


async def test_models_and_where_they_lead(tmp_path: Path) -> None:
    """Aliases first, with all their targets; the default is marked; prices where they are known."""
    async with running(
        tmp_path,
        providers={"openai": {"api_key": "sk-test-0123456789", "models": ["gpt-house"]}, "s": QUICK},
        routes={"fast": ["s/echo", "openai/gpt-house"]},
        default_model="fast",
        prices={"openai/gpt-house": {"input": 1, "output": 2}},
    ) as sidecar:
        models = (await sidecar.providers.ListModels(v1.ListModelsRequest())).models
        of_s = (await sidecar.providers.ListModels(v1.ListModelsRequest(provider="s"))).models
    by_name = {model.name: model for model in models}
    assert models[0].name == "fast"
    assert list(models[0].targets) == ["s/echo", "openai/gpt-house"]
    assert [model.name for model in models if model.is_default] == ["fast"]
    assert by_name["openai/gpt-house"].price.input_nano_usd_per_million == 10**9
    assert {model.name for model in of_s} == {"fast", "s/echo"}


async def test_tokens_are_counted_here_or_there(tmp_path: Path) -> None:
    """LOCAL asks nobody and says ESTIMATED; PROVIDER asks who can count, and falls back where none can."""
    local, there = v1.CountTokensRequest.METHOD_LOCAL, v1.CountTokensRequest.METHOD_PROVIDER
    async with (
        Upstream(json_body({"input_tokens": 42})) as anthropic,
        Upstream(openai_stream("never")) as openai,
        running(
            tmp_path,
            providers={"a": provider(anthropic.url, "anthropic"), "o": provider(openai.url)},
        ) as sidecar,
    ):
        counts = {}
        for name in ("a/m", "o/m"):
            for method in (local, there):
                request = v1.CountTokensRequest(request=ask(name, "some words to count"), method=method)
                counts[name, method] = await sidecar.generation.CountTokens(request)
        assert [each.target for each in anthropic.requests] == ["/v1/messages/count_tokens"]
        assert openai.requests == []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await sidecar.generation.CountTokens(v1.CountTokensRequest(request=ask("nonsense")))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    counted = counts["a/m", there]
    assert (counted.input_tokens, counted.source) == (42, v1.USAGE_SOURCE_PROVIDER)
    assert (counted.provider, counted.model) == ("a", "m")
    for key in (("a/m", local), ("o/m", local), ("o/m", there)):
        assert counts[key].source == v1.USAGE_SOURCE_ESTIMATED
        assert 0 < counts[key].input_tokens < 42


async def test_unknown_methods_are_unimplemented(tmp_path: Path) -> None:
    """Whatever a caller makes up."""
    async with running(tmp_path, providers={"s": QUICK}) as sidecar:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await sidecar.channel.unary_unary("/outrider.v1.GenerationService/Nothing")(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["Generate", "Complete"])
async def test_bytes_that_are_no_message_are_the_callers_fault(tmp_path: Path, method: str) -> None:
    """INVALID_ARGUMENT, as for any other request that is wrong."""
    async with running(tmp_path, providers={"s": QUICK}) as sidecar:
        path = f"/outrider.v1.GenerationService/{method}"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await sidecar.channel.unary_unary(path)(b"\xff\xff\xff")
    failure = Failure.of(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
