"""What every test must be."""

import os
from typing import Any

# Tests start processes beside running gRPC channels. Its fork handlers may crash then, and nothing here forks
# to go on with gRPC in the child.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import hypothesis
import pytest
import uvloop

# Machines are noisy, and a run is to be repeatable.
hypothesis.settings.register_profile("outrider", deadline=None, derandomize=True)
hypothesis.settings.load_profile("outrider")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """Run on the event loop of production."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests that do not say what must hold."""
    silent = [
        item.nodeid for item in items if isinstance(item, pytest.Function) and not item.function.__doc__
    ]
    if silent:
        raise pytest.UsageError(f"tests without a docstring: {', '.join(silent[:5])}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """In continuous integration a skipped test has failed: nothing there is optional."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
