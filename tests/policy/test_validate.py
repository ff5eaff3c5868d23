import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.errors import GenerationError, Reason
from outrider.policy.validate import check_request

HELLO = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="hello")])
TOOL = v1.Tool(name="f", parameters_json_schema='{"type":"object"}')


def fields(request: v1.GenerateRequest) -> list[str]:
    """The fields that are refused."""
    try:
        check_request(request)
    except GenerationError as error:
        assert error.reason is Reason.INVALID_REQUEST
        assert error.fact.violations[0].field in error.fact.message
        return [violation.field for violation in error.fact.violations]
    return []


def ask(**changes: object) -> v1.GenerateRequest:
    return v1.GenerateRequest(**({"messages": [HELLO]} | changes))  # type: ignore[arg-type]


def turn(role: v1.Role, *parts: v1.Part) -> v1.GenerateRequest:
    return ask(messages=[v1.Message(role=role, parts=parts), HELLO])


def result(*parts: v1.Part) -> v1.Part:
    return v1.Part(tool_result=v1.ToolResult(tool_call_id="1", parts=parts))


def test_a_whole_conversation_is_fine() -> None:
    """Every role, every kind of part, where it belongs."""
    call = v1.ToolCall(id="1", name="f", arguments_json='{"a": 1}')
    assert not fields(
        ask(
            messages=[
                v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(text="be kind")]),
                v1.Message(
                    role=v1.ROLE_USER,
                    parts=[
                        v1.Part(text="see"),
                        v1.Part(image=v1.Media(data=b"x", mime_type="image/png")),
                        v1.Part(file=v1.Media(uri="https://example.com/a.pdf")),
                    ],
                ),
                v1.Message(
                    role=v1.ROLE_ASSISTANT,
                    parts=[
                        v1.Part(reasoning=v1.Reasoning(text="hm"), signature=b"s"),
                        v1.Part(opaque=v1.OpaquePart(format="anthropic", type="x", json="{}")),
                        v1.Part(tool_call=call),
                    ],
                ),
                v1.Message(
                    role=v1.ROLE_TOOL,
                    parts=[result(), result(v1.Part(text="1"), v1.Part(file=v1.Media(uri="file-1")))],
                ),
                v1.Message(role=v1.ROLE_ASSISTANT),
                HELLO,
            ],
            tools=[TOOL],
            tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_NAMED, name="f"),
            sampling=v1.Sampling(temperature=2, top_p=1, top_k=1, max_output_tokens=1, seed=-1, stop=["x"]),
            response_format=v1.ResponseFormat(json_schema=v1.JsonSchemaFormat(json_schema="{}")),
            attribution=v1.Attribution(tenant="t", labels={"a": "b"}),
        )
    )


@pytest.mark.parametrize(
    ("request_", "wrong"),
    [
        (v1.GenerateRequest(), ["messages"]),
        (ask(messages=[v1.Message(parts=[v1.Part(text="x")])]), ["messages[0].role"]),
        (ask(messages=[v1.Message(role=99)]), ["messages[0].role"]),  # type: ignore[arg-type]
        (ask(messages=[v1.Message(role=v1.ROLE_USER)]), ["messages[0].parts"]),
        (ask(messages=[v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(text="x")])]), ["messages"]),
        (turn(v1.ROLE_USER, v1.Part()), ["messages[0].parts[0]"]),
        (turn(v1.ROLE_USER, v1.Part(tool_call=v1.ToolCall())), ["messages[0].parts[0].tool_call"]),
        (turn(v1.ROLE_USER, v1.Part(tool_result=v1.ToolResult())), ["messages[0].parts[0].tool_result"]),
        (turn(v1.ROLE_TOOL, v1.Part(text="x")), ["messages[0].parts[0].text"]),
        (turn(v1.ROLE_TOOL, v1.Part(tool_result=v1.ToolResult())),
         ["messages[0].parts[0].tool_result.tool_call_id"]),
        (turn(v1.ROLE_ASSISTANT, v1.Part(tool_call=v1.ToolCall(id="1"))), ["messages[0].parts[0].tool_call"]),
        (turn(v1.ROLE_ASSISTANT, v1.Part(tool_call=v1.ToolCall(id="1", name="f", arguments_json="[1]"))),
         ["messages[0].parts[0].tool_call.arguments_json"]),
        (turn(v1.ROLE_USER, v1.Part(image=v1.Media())), ["messages[0].parts[0].image"]),
        (turn(v1.ROLE_USER, v1.Part(image=v1.Media(data=b"x"))), ["messages[0].parts[0].image.mime_type"]),
        (ask(tools=[v1.Tool(name="no spaces")]), ["tools[0].name"]),
        (ask(tools=[TOOL, TOOL]), ["tools[1].name"]),
        (ask(tools=[v1.Tool(name="f", parameters_json_schema="[")]), ["tools[0].parameters_json_schema"]),
        (ask(tools=[v1.Tool(name="f", parameters_json_schema="[" * 100_000)]),
         ["tools[0].parameters_json_schema"]),
        (ask(tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_REQUIRED)), ["tool_choice.mode"]),
        (ask(tools=[TOOL], tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_NAMED, name="g")),
         ["tool_choice.name"]),
        (ask(sampling=v1.Sampling(temperature=2.1)), ["sampling.temperature"]),
        (ask(sampling=v1.Sampling(temperature=math.nan)), ["sampling.temperature"]),
        (ask(sampling=v1.Sampling(top_p=0)), ["sampling.top_p"]),
        (ask(sampling=v1.Sampling(top_k=0)), ["sampling.top_k"]),
        (ask(sampling=v1.Sampling(max_output_tokens=0)), ["sampling.max_output_tokens"]),
        (ask(sampling=v1.Sampling(stop=[""])), ["sampling.stop"]),
        (ask(sampling=v1.Sampling(stop=["x"] * 17)), ["sampling.stop"]),
        (ask(response_format=v1.ResponseFormat(json_schema=v1.JsonSchemaFormat(json_schema="no"))),
         ["response_format.json_schema.json_schema"]),
        (ask(attribution=v1.Attribution(user="x" * 257)), ["attribution.user"]),
        (ask(attribution=v1.Attribution(labels={str(n): "" for n in range(17)})), ["attribution.labels"]),
        (turn(v1.ROLE_TOOL, result(v1.Part(text="x"), v1.Part())),
         ["messages[0].parts[0].tool_result.parts[1]"]),
        (turn(v1.ROLE_TOOL, result(v1.Part(tool_call=v1.ToolCall(id="1", name="f")))),
         ["messages[0].parts[0].tool_result.parts[0]"]),
        (turn(v1.ROLE_TOOL, result(v1.Part(image=v1.Media(data=b"x")))),
         ["messages[0].parts[0].tool_result.parts[0].image.mime_type"]),
        (ask(model="x" * 257), ["model"]),
        (ask(fallback=v1.FallbackOptions(models=["x"] * 17)), ["fallback.models"]),
        (ask(fallback=v1.FallbackOptions(models=["x" * 257])), ["fallback.models"]),
        (ask(tools=[v1.Tool()] * 10_001), ["tools"]),
        (ask(messages=[v1.Message()] * 100_001), ["messages"]),
        (turn(v1.ROLE_USER, *[v1.Part(text="x")] * 100_000), ["messages"]),
        (turn(v1.ROLE_TOOL, result(*[v1.Part()] * 100_000)), ["messages"]),
        (ask(messages=[v1.Message()] * 1_000), [f"messages[{index}].role" for index in range(100)]),
        (ask(idempotency_key="x" * 257), ["idempotency_key"]),
        (ask(sticky_key="x" * 257), ["sticky_key"]),
        (ask(idempotency_key="x" * 257, sampling=v1.Sampling(temperature=9, frequency_penalty=-3)),
         ["sampling.temperature", "sampling.frequency_penalty", "idempotency_key"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(request_: v1.GenerateRequest, wrong: list[str]) -> None:
    """Each field by its path, all of them at once."""
    assert fields(request_) == wrong


def test_arguments_may_be_large() -> None:
    """Their syntax is checked, and nothing is built of them."""
    for inner in ("[" + "[]," * 1_000_000 + "1]", "9" * 5_000, "1e999"):
        call = v1.ToolCall(id="1", name="f", arguments_json=f'{{"a": {inner}}}')
        assert not fields(turn(v1.ROLE_ASSISTANT, v1.Part(tool_call=call)))


@given(st.binary(max_size=300))
def test_any_message_is_accepted_or_refused(data: bytes) -> None:
    """Whatever bytes happen to parse, validation says yes or INVALID_REQUEST, and never breaks."""
    try:
        request = v1.GenerateRequest.FromString(data)
    except Exception:  # noqa: BLE001 - not a message at all
        return
    fields(request)
