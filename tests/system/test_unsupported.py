"""What the API offers and this sidecar cannot do yet is told of, never dropped silently."""

from pathlib import Path

from outrider import v1
from tests.support.answers import openai_stream
from tests.support.sidecar import ask, collect, provider, running
from tests.support.upstream import Upstream


async def test_what_cannot_be_honoured_is_warned_of(tmp_path: Path) -> None:
    """Each setting by its field, beside the answer."""
    async with (
        Upstream(openai_stream("x")) as upstream,
        running(tmp_path, providers={"p": provider(upstream.url)}, jobs={"enabled": False}) as sidecar,
    ):
        request = ask(unavailability_policy=v1.UNAVAILABILITY_POLICY_QUEUE)
        events = await collect(sidecar.generation.Generate(request))
        plain = await collect(sidecar.generation.Generate(ask()))
    warnings = {warning.field: warning.code for warning in events[-1].completed.warnings}
    assert warnings == {"unavailability_policy": "SETTING_NOT_SUPPORTED"}
    assert not plain[-1].completed.warnings
