"""What names an answer, and what does not."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from hypothesis import given
from hypothesis import strategies as st

from outrider import v1
from outrider.core.context import Target
from outrider.core.fingerprint import digest, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

VECTORS = json.loads(Path(__file__).with_name("fingerprint_vectors.json").read_text())
TARGET = Target("openai", "gpt-4o")
IGNORED = (
    "model",
    "cache_policy",
    "unavailability_policy",
    "fallback",
    "attribution",
    "idempotency_key",
    "resumable",
    "sticky_key",
)

words = st.sampled_from(["", "a", "b", "ab", "1:", "é"])
parts = st.builds(v1.Part, text=words) | st.builds(
    v1.Part,
    image=st.builds(v1.Media, data=words.map(str.encode), mime_type=words),
    signature=st.binary(max_size=1),
)
requests = st.builds(
    v1.GenerateRequest,
    messages=st.lists(
        st.builds(v1.Message, role=st.integers(0, 4), parts=st.lists(parts, max_size=2), name=words),
        max_size=2,
    ),
    tools=st.lists(
        st.builds(v1.Tool, name=words, parameters_json_schema=words, strict=st.booleans()), max_size=2
    ),
    sampling=st.none()
    | st.builds(
        v1.Sampling,
        temperature=st.none() | st.sampled_from([0.0, -0.0, 0.5]),
        seed=st.none() | st.integers(-1, 1),
        stop=st.lists(words, max_size=2),
    ),
    attribution=st.none() | st.builds(v1.Attribution, tenant=words, labels=st.dictionaries(words, words)),
)


def named(request: Any, target: Target = TARGET, namespace: str = "acme") -> str:
    return fingerprint(request, target, namespace)


def question(text: str = "hi", **fields: Any) -> v1.GenerateRequest:
    turn = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=text)])
    return v1.GenerateRequest(messages=[turn], **fields)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_names_stay(vector: dict[str, Any]) -> None:
    """A fleet of mixed versions, and a store that outlives all of them, agree on every name."""
    request = json_format.ParseDict(vector["request"], v1.GenerateRequest())

    assert fingerprint(request, Target(*vector["target"]), vector["namespace"]) == vector["key"]


def test_what_is_hashed_is_written_down() -> None:
    """The form is simple enough to be written by hand, in any language."""
    request = question(sampling=v1.Sampling(temperature=0.5, seed=-1, stop=["."]))
    form = (
        b"s17:outrider-answer-1s4:acmes6:openais6:gpt-4o"
        b"2[{1i2;2[{1s2:hi}]}]"
        b"6{1d\x3f\xe0\0\0\0\0\0\0" + b"5[s1:.]6i-1;}"
    )

    assert named(request) == hashlib.sha256(form).hexdigest()


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_names_are_the_same_in_every_process(implementation: str) -> None:
    """Neither the seed of hashes nor the implementation of protobuf matters."""
    script = (
        "import json, sys; from google.protobuf import json_format; from outrider import v1;"
        "from outrider.core.context import Target; from outrider.core.fingerprint import fingerprint;"
        "print(json.dumps([fingerprint(json_format.ParseDict(each['request'], v1.GenerateRequest()),"
        "Target(*each['target']), each['namespace']) for each in json.load(sys.stdin)]))"
    )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation,
        "PYTHONWARNINGS": "ignore",
    }

    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(VECTORS),
        env=environment,
        capture_output=True,
        text=True,
    )

    assert json.loads(done.stdout or done.stderr) == [vector["key"] for vector in VECTORS]


@given(requests, requests)
def test_equal_requests_and_only_they_have_the_same_name(
    one: v1.GenerateRequest, other: v1.GenerateRequest
) -> None:
    """Two names are equal just where everything is that the model reads."""
    copy = v1.GenerateRequest.FromString(one.SerializeToString())
    assert named(copy) == named(one)

    for request in (one, other):
        request.ClearField("attribution")
    assert (named(one) == named(other)) is (one == other)


def test_every_field_counts() -> None:
    """Each field that a request can have, at every depth, has a part in the name, values of zero too."""
    names = [named(request) for request in _variations(v1.GenerateRequest())]
    names += [named(question()), named(question("hi ")), named(v1.GenerateRequest())]

    assert len(names) > 60
    assert len(set(names)) == len(names)


def test_who_asks_and_how_does_not_count() -> None:
    """The caller, its way of asking and the name it uses for the model change nothing of the answer."""
    plain = named(question())

    for name in IGNORED:
        for request in _variations(v1.GenerateRequest(), only=name):
            request.MergeFrom(question())
            assert named(request) == plain, name


def test_where_it_goes_and_for_whom_counts() -> None:
    """Targets and namespaces have names of their own, however their words run into each other."""
    places = [
        ("a", "b/c", "d"),
        ("a/b", "c", "d"),
        ("a", "b", "cd"),
        ("a", "bc", "d"),
        ("ab", "c", "d"),
        ("a", "b", ""),
    ]

    names = {fingerprint(question(), Target(*place[:2]), place[2]) for place in places}

    assert len(names) == len(places)


def test_order_and_division_count() -> None:
    """The same words in other turns, parts or places are another request."""
    texts = [["a", "b"], ["b", "a"], ["ab"], ["a"], ["a", "b", ""]]
    requests = [
        v1.GenerateRequest(messages=[v1.Message(role=2, parts=[v1.Part(text=text) for text in turn])])
        for turn in texts
    ]
    requests += [
        v1.GenerateRequest(messages=[v1.Message(role=2, parts=[v1.Part(text=text)]) for text in turn])
        for turn in texts[:2]
    ]

    for one, other in combinations(requests, 2):
        assert named(one) != named(other)


def test_a_field_that_the_schema_gains_changes_nothing_while_it_is_not_set() -> None:
    """A newer sidecar finds the answers of an older one; what only the newer one understands is apart."""
    newer = _newer_schema()
    request = question(sampling=v1.Sampling(temperature=0))
    same = newer.FromString(request.SerializeToString())
    assert named(same) == named(request)

    same.sampling.added = 3
    seen_by_older = v1.GenerateRequest.FromString(same.SerializeToString())

    assert len({named(same), named(seen_by_older), named(request)}) == 3
    assert named(seen_by_older) == named(v1.GenerateRequest.FromString(same.SerializeToString()))


@pytest.mark.parametrize(
    "extra",
    [b"\xf8\x07\x01", b"\xf8\x07\x02", b"\xf9\x07" + bytes(8), b"\xfa\x07\x01a", b"\xfb\x07\x08\x01\xfc\x07"],
)
def test_what_is_not_known_counts(extra: bytes) -> None:
    """A field that this sidecar has never heard of, of any kind, gives a name of its own."""
    unknown = v1.GenerateRequest.FromString(question().SerializeToString() + extra)

    assert named(unknown) != named(question())


def _variations(whole: Message, only: str = "") -> Iterator[Any]:
    """The message with one field set at a time, at every depth; both values of presence for optional ones."""
    for path in _paths(type(whole).DESCRIPTOR):
        if path[0].name == only or (not only and path[0].name not in IGNORED):
            message = type(whole)()
            _set(message, path)
            yield message


def _paths(descriptor: Any, depth: int = 0) -> Iterator[list[Any]]:
    for field in descriptor.fields:
        yield [field]
        if field.message_type and not field.message_type.GetOptions().map_entry and depth < 6:
            yield from ([field, *rest] for rest in _paths(field.message_type, depth + 1) if field not in rest)


def _set(message: Any, path: list[Any]) -> None:
    field, *rest = path
    if field.message_type and field.message_type.GetOptions().map_entry:
        getattr(message, field.name)["a"] = "b"
    elif field.message_type:
        inner = getattr(message, field.name)
        inner = inner.add() if field.is_repeated else inner
        inner.SetInParent()
        if rest:
            _set(inner, rest)
    else:
        value: Any = {"string": "x", "bytes": b"x"}.get(_kind(field), 0 if field.has_presence else 1)
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)


def _kind(field: Any) -> str:
    return {field.TYPE_STRING: "string", field.TYPE_BYTES: "bytes"}.get(field.type, "number")


def _newer_schema() -> Any:
    """GenerateRequest as it may be some day: with one more field in Sampling."""
    pool = descriptor_pool.DescriptorPool()
    for file in _with_dependencies(v1.GenerateRequest.DESCRIPTOR.file):
        proto = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)
        for message in proto.message_type:
            if message.name == "Sampling":
                message.field.add(name="added", number=99, type=5, label=1)
        pool.AddSerializedFile(proto.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("outrider.v1.GenerateRequest"))


def _with_dependencies(file: Any) -> list[Any]:
    """A file of the schema behind all that it imports."""
    found = [each for dependency in file.dependencies for each in _with_dependencies(dependency)]
    return list({each.name: each for each in (*found, file)}.values())


def test_a_digest_is_of_all_that_is_asked() -> None:
    """Whoever asks and however it is fetched; a sidecar of another version gets the same."""
    request = question(model="fast", sticky_key="s", attribution=v1.Attribution(user="ada"))
    assert digest(request) == "b26817014d1185ace9dd2a1fde0d26d0"
    for same in ({"idempotency_key": "k"}, {"resumable": True}):
        assert digest(question("hi", **same)) == digest(question("hi"))
    others = [
        question("ho"),
        question(model="fast"),
        question(sticky_key="s"),
        question(attribution=v1.Attribution(user="ada")),
        question(cache_policy=v1.CACHE_POLICY_BYPASS),
        question(unavailability_policy=v1.UNAVAILABILITY_POLICY_QUEUE),
        question(fallback=v1.FallbackOptions(disabled=True)),
    ]
    assert len({digest(other) for other in [*others, question()]}) == len(others) + 1
