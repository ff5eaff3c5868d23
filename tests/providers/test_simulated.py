"""The simulated provider: what users may try offline."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import Progress
from outrider.core.errors import GenerationError, Reason
from outrider.core.ports import Batch, Call
from outrider.providers.simulated import SimulatedProvider, Simulation
from outrider.providers.simulated_failures import FAILURES
from outrider.providers.simulated_json import sample
from outrider.providers.simulated_models import FAILURE_KINDS, MODELS
from outrider.providers.simulated_script import CallTool, Fail, Finish, Say, Think, Wait, parse_script

CITY = '{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":3}}}'
WEATHER = v1.Tool(name="get_weather", parameters_json_schema=CITY)
CLOCK = v1.Tool(name="get_time")


def user(text: str) -> v1.Message:
    """What a user says."""
    return v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=text)])


def call(text: str = "Hello there", model: str = "echo", **fields: object) -> Call:
    """An attempt that asks one thing."""
    request = v1.GenerateRequest(**({"messages": [user(text)]} | fields))  # type: ignore[arg-type]
    return Call(request, model, True, 5.0, Progress(), [])


def provider(**settings: object) -> SimulatedProvider:
    """A provider that behaves so."""
    return SimulatedProvider("simulated", Simulation(**settings))  # type: ignore[arg-type]


async def generate(simulated: SimulatedProvider, attempt: Call) -> list[Batch]:
    """Every batch of an answer."""
    async with asyncio.timeout(10), aclosing(simulated.generate(attempt)) as batches:
        return [batch async for batch in batches]


async def completed(simulated: SimulatedProvider, attempt: Call) -> v1.Completed:
    """How an answer ends."""
    return (await generate(simulated, attempt))[-1][-1].completed


async def failure(simulated: SimulatedProvider, attempt: Call) -> tuple[GenerationError, str]:
    """The error that an answer ends in, and the text before it."""
    text = ""
    with pytest.raises(GenerationError) as caught:
        async with aclosing(simulated.generate(attempt)) as batches:
            async for batch in batches:
                text += said([batch])
    return caught.value, text


def said(batches: list[Batch]) -> str:
    """All text of an answer."""
    return "".join(event.text_delta.text for batch in batches for event in batch)


async def test_echo_answers_with_the_last_message() -> None:
    """Without a pace, the whole answer is one batch: one text, one end."""
    (batch,) = await generate(provider(), call("Hello 🙂"))
    assert [event.WhichOneof("event") for event in batch] == ["text_delta", "completed"]
    assert batch[0].text_delta.text == "Hello 🙂"
    end = batch[1].completed
    assert end.finish_reason == v1.FINISH_REASON_STOP
    assert end.response_model == "echo"
    assert end.response_id == "simulated-1"


@given(text=st.text(max_size=40), size=st.integers(1, 50))
async def test_chunks_make_up_the_text(text: str, size: int) -> None:
    """Whatever the size of the chunks, together they are the text, and each holds as much as was set."""
    batches = await generate(provider(pace=1e-9, chunk_chars=size), call(text))
    assert said(batches) == text
    assert all(batches)
    assert all(len(event.text_delta.text) <= size for batch in batches for event in batch)
    assert len(batches) == max(1, -(-len(text) // size))


async def test_pace_and_first_token_delay_are_kept() -> None:
    """The first chunk comes after its delay, each further one after the pace."""
    began = time.monotonic()
    async with aclosing(provider(pace=0.02, first_token_delay=0.05).generate(call("12345678"))) as batches:
        times = [time.monotonic() - began async for _ in batches]
    assert len(times) == 2
    early = 0.002  # timers are exact to the millisecond
    assert times[0] >= 0.05 - early
    assert times[1] - times[0] >= 0.02 - early


async def test_usage_is_counted_in_fours() -> None:
    """Four characters are a token; reasoning is a part of the output; the numbers are the provider's."""
    attempt = call("x" * 10, model="reason")
    end = await completed(provider(), attempt)
    assert end.usage.input_tokens == 3
    assert end.usage.reasoning_output_tokens == 12
    assert end.usage.output_tokens == 15
    assert end.usage.source == v1.USAGE_SOURCE_PROVIDER
    assert await provider().count_tokens(attempt.request, "reason") == 3


async def test_same_requests_have_same_answers() -> None:
    """Two providers of the same settings answer the same requests with the same bytes."""
    runs = []
    for _ in range(2):
        simulated = provider(failure="overloaded", failure_rate=0.5, seed=7)
        run: list[object] = []
        for number in range(20):
            try:
                run.append(await generate(simulated, call(str(number))))
            except GenerationError as error:
                run.append(error.fact)
        runs.append(run)
    assert runs[0] == runs[1]
    assert 3 < sum(isinstance(each, list) for each in runs[0]) < 17


async def test_reasoning_and_text_are_parts_of_their_own() -> None:
    """`reason` thinks before it answers."""
    (batch,) = await generate(provider(), call(model="reason"))
    assert [event.WhichOneof("event") for event in batch] == ["reasoning_delta", "text_delta", "completed"]
    assert (batch[0].reasoning_delta.part, batch[1].text_delta.part) == (0, 1)


async def test_tool_is_called_with_fitting_arguments() -> None:
    """`tool` calls the first tool with arguments of its schema, and waits for the result."""
    (batch,) = await generate(provider(), call(model="tool", tools=[WEATHER, CLOCK]))
    delta = batch[0].tool_call_delta
    assert (delta.name, json.loads(delta.arguments_json)) == ("get_weather", {"city": "text", "days": 3})
    assert delta.id
    assert batch[-1].completed.finish_reason == v1.FINISH_REASON_TOOL_CALLS


async def test_tool_choice_is_honoured_by_every_model() -> None:
    """A tool that the caller demands is called by `echo` too."""
    choice = v1.ToolChoice(mode=v1.ToolChoice.MODE_NAMED, name="get_time")
    (batch,) = await generate(provider(), call(tools=[WEATHER, CLOCK], tool_choice=choice))
    assert (batch[0].tool_call_delta.name, batch[0].tool_call_delta.arguments_json) == ("get_time", "{}")


async def test_tool_result_is_answered_in_words() -> None:
    """Once the result is there, `tool` says it, so that a loop of calls ends."""
    result = v1.ToolResult(tool_call_id="call_0", parts=[v1.Part(text="12 °C")])
    messages = [user("weather?"), v1.Message(role=v1.ROLE_TOOL, parts=[v1.Part(tool_result=result)])]
    batches = await generate(provider(), call(model="tool", tools=[WEATHER], messages=messages))
    assert said(batches) == "12 °C"


async def test_json_formats_are_honoured() -> None:
    """A JSON object holds the echo; a JSON schema is followed."""
    anything = v1.ResponseFormat(json_object=v1.JsonObjectFormat())
    assert json.loads(said(await generate(provider(), call('a "b"', response_format=anything)))) == {
        "echo": 'a "b"'
    }
    schema = v1.ResponseFormat(json_schema=v1.JsonSchemaFormat(json_schema=CITY))
    assert json.loads(said(await generate(provider(), call(response_format=schema)))) == {
        "city": "text",
        "days": 3,
    }


async def test_output_limit_is_honoured() -> None:
    """`max_output_tokens` ends the answer with MAX_TOKENS, and exactly enough does not."""
    limited = call("x" * 20, sampling=v1.Sampling(max_output_tokens=3))
    batches = await generate(provider(), limited)
    assert said(batches) == "x" * 12
    assert batches[-1][-1].completed.finish_reason == v1.FINISH_REASON_MAX_TOKENS
    enough = call("x" * 12, sampling=v1.Sampling(max_output_tokens=3))
    assert (await completed(provider(), enough)).finish_reason == v1.FINISH_REASON_STOP


async def test_stop_sequences_are_honoured() -> None:
    """The answer ends before the first of the sequences, which is named."""
    batches = await generate(provider(), call("one two three", sampling=v1.Sampling(stop=["three", "two"])))
    assert said(batches) == "one "
    assert batches[-1][-1].completed.stop_sequence == "two"


@pytest.mark.parametrize("kind", FAILURES)
async def test_failure_by_model_name(kind: str) -> None:
    """Every failure can be asked for by name, before the first token or in mid-answer."""
    attempt = call("abcdef", model=kind.replace("_", "-"))
    error, text = await failure(provider(), attempt)
    expected = FAILURES[kind]
    assert (error.reason, error.fact.upstream_status, text) == (expected.reason, expected.status, "")
    assert attempt.progress.upstream_status == expected.status
    error, text = await failure(provider(), call("abcdef", model=f"{kind}-midway"))
    assert (error.reason, text) == (expected.reason, "abc")


async def test_rate_limit_says_how_long_to_wait() -> None:
    """A simulated rate limit carries a Retry-After, as real ones do."""
    error, _ = await failure(provider(), call(model="rate-limited"))
    assert error.fact.retry_after == 1.0


async def test_stalls_last_until_somebody_gives_up() -> None:
    """A stalled answer says nothing more, before the first token or after half of the answer."""
    for model, expected in (("stalled", ""), ("stalled-midway", "abc")):
        text = ""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), aclosing(provider().generate(call("abcdef", model))) as batches:
                async for batch in batches:
                    text += said([batch])
        assert text == expected


async def test_content_filter_is_a_finish_reason() -> None:
    """A filtered answer ends normally, for another reason."""
    end = await completed(provider(), call(model="content-filter"))
    assert end.finish_reason == v1.FINISH_REASON_CONTENT_FILTER


async def test_flaky_fails_every_other_time() -> None:
    """A retry is all that `flaky` needs."""
    simulated = provider()
    for _ in range(2):
        assert (await failure(simulated, call(model="flaky")))[0].reason is Reason.PROVIDER_OVERLOADED
        assert said(await generate(simulated, call("ok", model="flaky"))) == "ok"


async def test_slow_takes_its_time() -> None:
    """`slow` says nothing for long enough to see a first-event timeout of a second."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await generate(provider(), call(model="slow"))


async def test_unknown_model_names_those_there_are() -> None:
    """A misspelt model is an error that helps."""
    error, _ = await failure(provider(), call(model="ehco"))
    assert error.reason is Reason.MODEL_UNKNOWN
    assert all(name in error.fact.message for name in (*MODELS, *FAILURE_KINDS))


@pytest.mark.parametrize("rate", [0.0, 1.0])
async def test_configured_failure_and_its_rate(rate: float) -> None:
    """At 0 no request fails, at 1 every one does, and then the check fails as well."""
    simulated = provider(failure="unauthorized", failure_rate=rate)
    if rate:
        for _ in range(10):
            assert (await failure(simulated, call()))[0].reason is Reason.PROVIDER_CREDENTIALS_REFUSED
        with pytest.raises(GenerationError):
            await simulated.check()
    else:
        for _ in range(10):
            assert said(await generate(simulated, call("ok"))) == "ok"
        await simulated.check()


def test_unknown_failure_is_refused() -> None:
    """A misspelt failure is an error at the start that names those there are."""
    with pytest.raises(ValueError, match="overloaded"):
        provider(failure="overlaoded")


async def test_script_is_played() -> None:
    """A script's steps come in order, in parts of their own, with its finish reason."""
    script = """
    - reasoning: Hm.
    - text: Let me
    - wait: 0.001
    - text: " look."
    - tool_call: {name: get_weather, arguments: {city: Oslo}}
    - finish: tool_calls
    """
    batches = await generate(provider(script=script), call())
    assert len(batches) == 2
    assert said(batches) == "Let me look."
    events = [event for batch in batches for event in batch]
    assert [event.text_delta.part for event in events if event.HasField("text_delta")] == [1, 1]
    assert json.loads(events[-2].tool_call_delta.arguments_json) == {"city": "Oslo"}
    assert events[-1].completed.finish_reason == v1.FINISH_REASON_TOOL_CALLS


async def test_script_may_fail_after_some_text() -> None:
    """What was said before a failure has left before it."""
    error, text = await failure(provider(script="[{text: Hello}, {fail: overloaded}]"), call())
    assert (error.reason, text) == (Reason.PROVIDER_OVERLOADED, "Hello")


@pytest.mark.parametrize("text", ["Hello: world", "- a\n- b", "", "[unclosed", "42", "{a: 1}"])
def test_any_other_script_is_the_answer_itself(text: str) -> None:
    """Only a list of mappings is a list of steps; everything else is said as it stands."""
    assert parse_script(text) == (Say(text),)


def test_every_step_can_be_written() -> None:
    """Each kind of step has its word."""
    script = (
        "[{text: 1}, {reasoning: b}, {tool_call: {name: t}}, {wait: 2}, {fail: error}, {finish: refusal}]"
    )
    expected = (Say("1"), Think("b"), CallTool("t"), Wait(2), Fail("error"), Finish("refusal"))
    assert parse_script(script) == expected


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("[{txet: a}]", "step 1 .*'txet' is not one of: text, "),
        ("[{text: a}, {text: a, wait: 1}]", "step 2 .*exactly one of: text, "),
        ("[{}]", "step 1 .*exactly one of"),
        ("[{wait: long}]", "wait must be a number of seconds"),
        ("[{wait: -1}]", "wait must be a number of seconds"),
        ("[{fail: oops}]", "fail must be one of: unreachable, "),
        ("[{finish: [1]}]", "finish must be one of: stop, "),
        ("[{text: [a]}]", "text must be text"),
        ("[{tool_call: get_weather}]", "tool_call must be a mapping"),
    ],
)
def test_wrong_script_is_refused_with_the_place(script: str, message: str) -> None:
    """A script that cannot be meant names the step and what would be right."""
    with pytest.raises(ValueError, match=message):
        parse_script(script)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ("", {}),
        ("{}", {}),
        ('{"const": 5}', 5),
        ('{"enum": ["a", "b"]}', "a"),
        ('{"default": null}', None),
        ('{"type": ["number", "null"]}', 1.5),
        ('{"type": "array", "items": {"type": "boolean"}}', [True]),
        ('{"anyOf": [{"type": "null"}, {"type": "string"}]}', None),
        ('{"$defs": {"A": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/A"}}}', {"a": 1}),
    ],
)
def test_sample_fits_the_schema(schema: str, value: object) -> None:
    """Each construct of JSON Schema that models are given has its value."""
    assert json.loads(sample(schema)) == value


@pytest.mark.parametrize(
    "schema",
    [
        "{",
        "[" * 100_000,
        '{"$ref": "#/nowhere"}',
        '{"$ref": 1}',
        '{"properties": [1]}',
        '{"anyOf": {"a": 1}}',
    ],
)
def test_broken_schema_is_the_callers_error(schema: str) -> None:
    """A schema that is none is refused, as real providers do."""
    with pytest.raises(GenerationError) as caught:
        sample(schema)
    assert caught.value.reason is Reason.INVALID_REQUEST


def test_schema_that_refers_to_itself_has_an_end() -> None:
    """A tree of trees, however wide, is cut off."""
    width = ", ".join(f'"p{number}": {{"$ref": "#"}}' for number in range(50))
    assert len(sample(f'{{"type": "object", "properties": {{{width}}}}}')) < 1_000_000


async def test_a_thousand_answers_at_once() -> None:
    """A thousand paced answers run side by side on one loop."""
    simulated = provider(pace=0.005)
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(generate(simulated, call("x" * 40)) for _ in range(1000)))
    assert all(said(batches) == "x" * 40 for batches in answers)
