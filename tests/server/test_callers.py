import pytest

from outrider.core.context import ANYONE, NOBODY, Principal
from outrider.server.callers import Callers

APP = Principal("app", ("fast",))


def test_with_no_callers_configured_anyone_may_call() -> None:
    """The default inside a pod."""
    assert Callers({}).identify(None) is ANYONE


@pytest.mark.parametrize(
    ("metadata", "principal"),
    [
        ([("authorization", "Bearer token-of-app")], APP),
        ([("authorization", "bearer  token-of-app ")], APP),
        ([("x", "y"), ("authorization", "Basic x"), ("authorization", "Bearer token-of-app")], APP),
        ([("authorization", "Bearer wrong")], NOBODY),
        ([("authorization", "Bearer ")], NOBODY),
        ([("authorization", "token-of-app")], NOBODY),
        ([("authorization", b"Bearer token-of-app")], NOBODY),
        ([], NOBODY),
        (None, NOBODY),
    ],
)
def test_a_caller_is_known_by_its_token(
    metadata: list[tuple[str, str | bytes]] | None, principal: Principal
) -> None:
    """And by nothing else."""
    assert Callers({"app": (APP, lambda: "token-of-app")}).identify(metadata) == principal


def test_a_token_may_change_while_the_sidecar_runs() -> None:
    """A mounted secret that rotates: the new token works, the old one does not."""
    token = "old"
    callers = Callers({"app": (APP, lambda: token)})
    assert callers.identify([("authorization", "Bearer old")]) == APP
    token = "new"
    assert callers.identify([("authorization", "Bearer new")]) == APP
    assert callers.identify([("authorization", "Bearer old")]) is NOBODY


def test_an_empty_token_opens_nothing() -> None:
    """A secret that is not mounted yet is not a password of no characters."""
    callers = Callers({"app": (APP, lambda: "")})
    assert callers.identify([("authorization", "Bearer ")]) is NOBODY
    assert callers.identify([("authorization", "Bearer x")]) is NOBODY
