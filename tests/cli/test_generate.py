"""`outrider generate`: what it asks for and what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from outrider import v1
from tests.cli.answers import COMPLETED, FAILED, STARTED, SUCCEEDED, answer, completed, reasoning, text

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run
    from tests.cli.stand_in import StandIn


def test_standard_output_is_the_answer_and_nothing_else(run: Run, stand_in: StandIn) -> None:
    """A pipe gets the text as it came, byte for byte, without a line break of our own."""
    stand_in.script = answer("Hello, ", "wörld\r\n", "\x1b[1mdone")
    assert run("generate", "hi").out == "Hello, wörld\r\n\x1b[1mdone"


def test_summary_is_on_standard_error(run: Run, stand_in: StandIn) -> None:
    """Model, finish reason, tokens, cost, times and number of attempts, on lines that begin anew."""
    stand_in.script = answer("Hello")
    assert run("generate", "hi").err.splitlines() == [
        "",
        "model     openai/gpt",
        "finish    stop",
        "tokens    12 in · 34 out",
        "cost      $0.000123",
        "time      first token 112 ms · total 1.25 s",
        "attempts  1",
    ]


def test_summary_tells_what_is_out_of_the_ordinary(run: Run, stand_in: StandIn) -> None:
    """Cached and reasoning tokens, estimates, other tries, waits, warnings and the model that answered."""
    usage = v1.Usage(
        input_tokens=1200,
        output_tokens=34,
        cached_input_tokens=1000,
        cache_write_input_tokens=100,
        reasoning_output_tokens=30,
        source=v1.USAGE_SOURCE_ESTIMATED,
    )
    end = completed(
        finish_reason=v1.FINISH_REASON_MAX_TOKENS,
        usage=usage,
        cost=v1.Cost(total_nano_usd=1_500_000_000, estimated=True),
        attempts=[FAILED, SUCCEEDED],
        response_model="gpt-2026-10-01",
        warnings=[v1.Warning(code="SETTING_NOT_SUPPORTED", field="sampling.top_k", message="left out")],
    )
    end.completed.timings.waited.FromMilliseconds(400)
    stand_in.script = [STARTED, text("Hello"), end]
    assert run("generate", "hi").err.splitlines() == [
        "",
        "model     openai/gpt, answered as gpt-2026-10-01",
        "finish    max tokens",
        "tokens    1,200 in (1,000 cached, 100 written to the cache) · 34 out (30 reasoning) · estimated",
        "cost      $1.50 · estimated",
        "time      first token 112 ms · total 1.25 s · waited 400 ms",
        "attempts  1 anthropic/claude failed after 812 ms (PROVIDER_OVERLOADED, HTTP 529)",
        "          2 openai/gpt succeeded after 1.24 s (waited 400 ms)",
        "warning   sampling.top_k: left out",
    ]


def test_what_is_unknown_is_said_to_be(run: Run, stand_in: StandIn) -> None:
    """A price or count that is not known is not zero; a finish reason that is not is the provider's word."""
    end = completed(
        usage=None,
        cost=None,
        finish_reason=v1.FINISH_REASON_OTHER,
        provider_finish_reason="bored",
    )
    stand_in.script = [STARTED, text("Hello"), end]
    err = run("generate", "hi").err
    assert "tokens    unknown\n" in err
    assert "cost      unknown\n" in err
    assert "finish    other (bored)\n" in err


def test_stored_answer_is_marked(run: Run, stand_in: StandIn) -> None:
    """The summary says that an answer comes from the cache, and how old it is."""
    started = v1.Started(provider="openai", model="gpt", cache_status=v1.CACHE_STATUS_HIT)
    started.cache_age.FromSeconds(90)
    stand_in.script = [v1.GenerateResponse(started=started), text("Hello"), COMPLETED]
    assert "cache     a stored answer, 90 s old\n" in run("generate", "hi").err


def test_an_idempotency_key_is_sent(run: Run, stand_in: StandIn) -> None:
    """As a stream and in one piece; the summary says that an answer is not new."""
    started = v1.Started(provider="openai", model="gpt", replayed=True)
    stand_in.script = [v1.GenerateResponse(started=started), text("Hello"), COMPLETED]
    assert "key       used before: " in run("generate", "--key", "k", "hi").err
    assert "key       used before: " in run("generate", "--key", "k", "--no-stream", "hi").err
    stream, piece = stand_in.requests
    assert isinstance(stream, v1.GenerateRequest)
    assert isinstance(piece, v1.CompleteRequest)
    assert stream.idempotency_key == piece.request.idempotency_key == "k"


def test_values_of_a_newer_sidecar_are_shown_as_numbers(run: Run, stand_in: StandIn) -> None:
    """An enum value that this version does not know does not end the command."""
    attempts = [v1.Attempt(provider="openai", model="gpt", outcome=98), FAILED]  # type: ignore[arg-type]
    stand_in.script = [STARTED, text("Hello"), completed(finish_reason=99, attempts=attempts)]
    result = run("generate", "hi")
    assert result.code == 0
    assert "finish    99\n" in result.err
    assert "1 openai/gpt 98\n" in result.err


def test_reasoning_stays_off_pipes(run: Run, stand_in: StandIn) -> None:
    """Without a terminal, reasoning is shown only when asked for, and never as the answer."""
    stand_in.script = [STARTED, reasoning("Hm, "), reasoning("well."), text("Hello"), COMPLETED]
    silent = run("generate", "hi")
    assert (silent.out, "Hm" in silent.err) == ("Hello", False)
    shown = run("generate", "hi", "--reasoning")
    assert (shown.out, shown.err.startswith("Hm, well.\n\n\nmodel ")) == ("Hello", True)


def test_tool_calls_are_lines_of_json(run: Run, stand_in: StandIn) -> None:
    """Each call is put together from its deltas and shown whole, beside the answer."""
    calls = [
        v1.ToolCallDelta(part=1, id="a", name="weather", arguments_json='{"city":'),
        v1.ToolCallDelta(part=2, id="b", name="time", arguments_json="{}"),
        v1.ToolCallDelta(part=1, arguments_json='"Bonn"}'),
    ]
    stand_in.script = [
        STARTED,
        text("Let me look."),
        *(v1.GenerateResponse(tool_call_delta=call) for call in calls),
        COMPLETED,
    ]
    for options in ((), ("--no-stream",)):
        result = run("generate", "hi", *options)
        assert result.out == "Let me look."
        assert result.err.splitlines()[1:3] == [
            r'{"id": "a", "name": "weather", "arguments_json": "{\"city\":\"Bonn\"}"}',
            r'{"id": "b", "name": "time", "arguments_json": "{}"}',
        ]


def test_answer_in_one_piece_looks_the_same(run: Run, stand_in: StandIn) -> None:
    """`--no-stream` asks for the whole answer at once and shows what the stream would have shown."""
    stand_in.script = [STARTED, reasoning("Hm."), text("Hello, "), text("world"), COMPLETED]
    streamed = run("generate", "hi", "--reasoning")
    whole = run("generate", "hi", "--reasoning", "--no-stream")
    assert whole == streamed
    assert isinstance(stand_in.requests[-1], v1.CompleteRequest)


def test_options_become_the_request(run: Run, stand_in: StandIn, tmp_path: Path) -> None:
    """Every option reaches the sidecar; what is not given is not sent."""
    stand_in.script = answer("{}")
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    (tmp_path / "cat.json").write_text('{"type": "object"}')
    sampling = ["--model", "fast", "--max-tokens", "50", "--temperature", "0"]
    files = ["--image", "cat.png", "--schema", "cat.json"]
    assert run("generate", "Describe it", "--system", "Be brief.", *sampling, *files).code == 0
    image = v1.Media(data=b"\x89PNG", mime_type="image/png", filename="cat.png")
    schema = v1.JsonSchemaFormat(json_schema='{"type": "object"}')
    assert stand_in.requests == [
        v1.GenerateRequest(
            model="fast",
            messages=[
                v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(text="Be brief.")]),
                v1.Message(role=v1.ROLE_USER, parts=[v1.Part(image=image), v1.Part(text="Describe it")]),
            ],
            sampling=v1.Sampling(max_output_tokens=50, temperature=0),
            response_format=v1.ResponseFormat(json_schema=schema),
        )
    ]
    assert run("generate", "hi").code == 0
    assert stand_in.requests[-1] == _asking("hi")


@pytest.mark.parametrize(
    ("argument", "stdin", "prompt"),
    [
        (["Translate:"], "größer\n", "Translate:\n\ngrößer\n"),
        (["hi"], "", "hi"),
        (["hi"], " \n", "hi"),
        (["-"], "from a pipe", "from a pipe"),
        ([], "\ufefffrom a pipe", "from a pipe"),
    ],
)
def test_prompt_comes_from_argument_and_pipe(
    run: Run, stand_in: StandIn, argument: list[str], stdin: str, prompt: str
) -> None:
    """The argument comes first, then what is piped in; "-" stands for the pipe alone."""
    stand_in.script = answer("Hello")
    assert run("generate", *argument, stdin=stdin.encode()).code == 0
    assert stand_in.requests == [_asking(prompt)]


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        ([], b"", "there is no prompt"),
        (["  "], b"\n", "there is no prompt"),
        ([], b"\xff\xfe", "standard input is not UTF-8 text"),
        (["hi", "--image", "missing.png"], b"", "missing.png cannot be read: No such file or directory"),
        (["hi", "--image", "notes.txt"], b"", "notes.txt does not say what kind of image it is"),
        (["hi", "--schema", "notes.txt"], b"", "notes.txt is not JSON"),
        (["hi", "--schema", "list.json"], b"", "list.json is not a JSON Schema"),
        (["hi", "--tls-ca", "missing.pem"], b"", "missing.pem cannot be read"),
        (["hi", "--token", "sëcret"], b"", "the token holds a character that is not printable ASCII"),
        (["hi", "--timeout", "0"], b"", "must be above 0"),
        (["hi", "--timeout", "nan"], b"", "must be above 0"),
        (["hi", "--max-tokens", "0"], b"", "must be at least 1"),
        (["hi", "--address", "http://127.0.0.1:50051"], b"", "neither host:port nor unix:///path"),
        (["hi", "--addr", "localhost:1"], b"", "unrecognized arguments"),
    ],
)
def test_wrong_usage_ends_with_2(
    run: Run, tmp_path: Path, arguments: list[str], stdin: bytes, message: str
) -> None:
    """What is wrong is said on standard error, before anything is sent, and no token with it."""
    (tmp_path / "notes.txt").write_text("not JSON")
    (tmp_path / "list.json").write_text("[]")
    result = run("generate", *arguments, stdin=stdin)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "cret" not in result.err


def test_input_has_a_limit(run: Run, tmp_path: Path) -> None:
    """A file that no sidecar would take is refused before it fills the memory."""
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    result = run("generate", "hi", "--image", "huge.png")
    assert (result.code, result.err) == (2, "outrider: huge.png is larger than 64 MiB\n")


def test_caller_shows_its_token_and_deadline(
    run: Run, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token of the option or the environment is sent as a bearer token, the timeout as the deadline."""
    stand_in.script = answer("Hello")
    run("generate", "hi")
    assert "authorization" not in stand_in.metadata
    assert 110 < stand_in.remaining < 122
    monkeypatch.setenv("OUTRIDER_TOKEN", "from-env")
    run("generate", "hi", "--timeout", "7.5")
    assert stand_in.metadata["authorization"] == "Bearer from-env"
    assert stand_in.remaining < 9
    run("generate", "hi", "--token", "from-option")
    assert stand_in.metadata["authorization"] == "Bearer from-option"


def test_proxies_are_not_used(run: Run, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sidecar is on this machine: a proxy for the internet is not asked for the way to it."""
    stand_in.script = answer("Hello")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert run("generate", "hi", "--address", f"127.0.0.1:{stand_in.port}").code == 0


def test_large_answers_and_prompts_pass(run: Run, stand_in: StandIn) -> None:
    """Row 17: 5 MiB go both ways."""
    stand_in.script = answer("x" * (5 << 20))
    result = run("generate", stdin=b"y" * (5 << 20))
    assert (result.code, len(result.out)) == (0, 5 << 20)
    assert len(stand_in.requests[0].messages[0].parts[0].text) == 5 << 20


def _asking(prompt: str) -> v1.GenerateRequest:
    return v1.GenerateRequest(messages=[v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=prompt)])])
