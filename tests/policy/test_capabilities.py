"""What requests need, and what models are known to lack."""

from __future__ import annotations

import pytest

from outrider import v1
from outrider.core.catalog import load_catalog
from outrider.core.model_facts import UNKNOWN, Capability, ModelFacts
from outrider.core.tokens import LocalTokenCounter
from outrider.policy.capabilities import Capabilities
from tests.policy.test_route import needing
from tests.support.routing import Routing, route_of, target
from tests.support.sidecar import ask

EVERYTHING = frozenset(Capability)
IMAGE = v1.Part(image=v1.Media(uri="https://example.com/cat.png"))


def fits(request: v1.GenerateRequest, lacks: frozenset[Capability]) -> bool:
    """Whether it goes to a model that lacks this, where there is another one."""
    plan = Routing(route_of("r", "a/m", "b/m"), facts={"a/m": ModelFacts(lacks=lacks)}).plan(request)
    return "a/m" in plan


@pytest.mark.parametrize("need", Capability)
def test_each_need_is_found(need: Capability) -> None:
    """And nothing is needed that the request has not."""
    request = needing(frozenset({need}))
    assert not fits(request, frozenset({need}))
    assert fits(request, EVERYTHING - {need})


def test_what_is_no_need_is_not_taken_for_one() -> None:
    """Text files are read to the model; any model can make no effort; past calls need no tools now."""
    request = ask("r", reasoning=v1.ReasoningOptions(effort=v1.ReasoningOptions.EFFORT_NONE))
    request.messages[0].parts.add(file=v1.Media(data=b"x", mime_type="text/plain"))
    request.messages.add(role=v1.ROLE_ASSISTANT).parts.add(tool_call=v1.ToolCall(id="1", name="t"))
    request.response_format.json_object.SetInParent()
    assert fits(request, EVERYTHING)


def test_images_in_results_of_tools_count() -> None:
    """They reach the model like any other."""
    request = ask("r")
    request.messages.add(role=v1.ROLE_TOOL).parts.add(tool_result=v1.ToolResult(parts=[IMAGE]))
    assert not fits(request, frozenset({Capability.VISION}))
    assert fits(request, EVERYTHING - {Capability.VISION})


def test_reasoning_is_a_wish() -> None:
    """Models that reason go first choice; where none does, the request is answered without."""
    plain = ModelFacts(lacks=frozenset({Capability.REASONING}))
    request = needing(frozenset({Capability.REASONING}))
    assert Routing(route_of("r", "a/m", "b/m"), facts={"a/m": plain}).plan(request) == ["b/m"]
    assert Routing(route_of("r", "a/m"), facts={"a/m": plain}).plan(request) == ["a/m"]


@pytest.mark.parametrize(
    ("words", "answer", "plan"),
    [
        (100, None, ["a/m", "b/m", "c/m"]),
        (1_500, None, ["b/m", "c/m"]),
        (100, 1_500, ["b/m", "c/m"]),
        (10_000, None, ["c/m"]),
        (9_500, 1_000, ["c/m"]),
    ],
)
def test_what_is_too_long_goes_where_it_fits(words: int, answer: int | None, plan: list[str]) -> None:
    """Prompt and longest answer count together; a model whose window is not known takes everything."""
    facts = {"a/m": ModelFacts(context_tokens=1_000), "b/m": ModelFacts(context_tokens=10_000)}
    sampling = v1.Sampling(max_output_tokens=answer) if answer else v1.Sampling()
    routing = Routing(route_of("r", "a/m", "b/m", "c/m"), facts=facts)
    assert routing.plan(ask("r", "word " * words, sampling=sampling)) == plan


def test_a_single_target_is_its_providers_to_judge() -> None:
    """With no choice to make, only what the configuration itself says of it is a reason to refuse."""
    told, alone = ModelFacts(lacks=EVERYTHING), (target("a/m"),)
    both = (*alone, target("b/m"))
    capabilities = Capabilities({alone[0]: told, both[1]: UNKNOWN}.__getitem__, LocalTokenCounter({}))
    request = needing(frozenset({Capability.VISION}))
    assert capabilities.sort_out(alone, request, {}) == (alone, ())
    assert capabilities.sort_out(both, request, {})[0] == [both[1]]


def test_short_requests_are_not_counted() -> None:
    """Where even a token for each byte would fit, there is nothing to count."""
    routing = Routing(route_of("r", "a/m"), facts={"a/m": ModelFacts(context_tokens=1_000)})
    capabilities, targets = routing.planner.capabilities, routing.table.resolve("r")
    assert capabilities.too_small(targets, ask("r", "x" * 900)) == ()
    assert capabilities.too_small(targets, ask("r", "x" * 1_000)) == list(targets)


def test_facts_are_corrected_by_who_knows_better() -> None:
    """Both ways, and what is not said stays."""
    facts = ModelFacts(8_000, frozenset({Capability.VISION, Capability.AUDIO}))
    corrected = facts.corrected(None, {Capability.VISION: True, Capability.TOOLS: False})
    assert corrected == ModelFacts(8_000, frozenset({Capability.AUDIO, Capability.TOOLS}), configured=True)
    assert facts.corrected(9_000, {}).context_tokens == 9_000


def test_the_catalogue_knows_some() -> None:
    """A vendor's own and a model's own; dated versions included, new models not."""
    catalog = load_catalog()
    claude, old = catalog.find("anthropic", "claude-opus-5"), catalog.find("openai", "gpt-3.5-turbo-0125")
    assert claude is not None
    assert claude.facts == ModelFacts(1_000_000, frozenset({Capability.AUDIO}))
    assert old is not None
    assert old.facts.lacks == EVERYTHING - {Capability.TOOLS}
    assert catalog.find("openai", "gpt-6-sol").facts.lacks == frozenset()  # type: ignore[union-attr]
