"""A Redis for the tests of this directory."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.support.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_url() -> AsyncIterator[str]:
    """A server for all tests of this process. Each test keeps to its own `prefix`, and leaves it running."""
    async with redis_server() as server:
        yield server.url


@pytest.fixture
def prefix() -> str:
    """Of the keys of one test."""
    return f"t{uuid.uuid4().hex[:12]}"
