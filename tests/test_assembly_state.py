"""Where state lives, and for how long it is held."""

from contextlib import AsyncExitStack

import pytest

from outrider.assembly import unheard
from outrider.assembly_state import open_state
from outrider.config import Config, Limits, Provider, Timeouts
from outrider.stores.memory_quota import MemoryQuotaStore


@pytest.mark.parametrize(("total", "held"), [(60.0, 900.0), (3_000.0, 3_007.0)])
async def test_what_is_reserved_outlives_every_request(total: float, held: float) -> None:
    """The longest wait and the longest answer; at least 15 minutes."""
    config = Config(
        providers={"simulated": Provider(timeouts=Timeouts(total=total))}, limits=Limits(max_wait=7)
    )
    async with AsyncExitStack() as closing:
        state = await open_state(config, unheard, closing)
        assert isinstance(state.quotas, MemoryQuotaStore)
        assert state.quotas._hold_for == held
        assert state.link is None
