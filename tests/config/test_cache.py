import pytest

from outrider.config import ConfigError
from tests.config.conftest import Load

ROUTES = """
providers: {simulated: {}}
cache: {mode: always, ttl: 10m, stale: 24h}
routes:
  plain: [simulated/echo]
  judge: {targets: [simulated/echo], cache: {mode: NEVER}}
  brief: {targets: [simulated/echo], cache: {ttl: 5s, shared_between_tenants: true}}
"""


def test_routes_change_what_they_name(load_text: Load) -> None:
    """The rest is common to all."""
    config = load_text(ROUTES, {})
    plain, judge, brief = (config.cache_for(name) for name in ("plain", "judge", "brief"))
    assert (plain.mode, plain.ttl, plain.stale, plain.shared_between_tenants) == (
        "always",
        600,
        86_400,
        False,
    )
    assert (judge.mode, judge.ttl) == ("never", 600)
    assert (brief.mode, brief.ttl, brief.shared_between_tenants) == ("always", 5, True)


def test_the_defaults(load_text: Load) -> None:
    """What is deterministic, for an hour, in 64 MiB, each tenant's own, nothing stale."""
    cache = load_text("", {}).cache
    assert (cache.mode, cache.ttl, cache.stale) == ("default", 3_600, 0)
    assert (cache.max_bytes, cache.shared_between_tenants) == (64 * 2**20, False)


@pytest.mark.parametrize(
    "setting", ["mode: sometimes", "ttl: 0s", "stale: -1s", "max_bytes: much", "size: 1"]
)
def test_what_makes_no_sense_is_refused(setting: str, load_text: Load) -> None:
    """By its name."""
    with pytest.raises(ConfigError, match=rf"cache\.{setting.partition(':')[0]}"):
        load_text(f"cache: {{{setting}}}", {})
