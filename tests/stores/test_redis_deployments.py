"""The link on each kind of Redis: TLS, Sentinel and Cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from outrider.core.store_errors import StoreUnavailableError
from outrider.stores.redis_link import Script
from tests.support.redis_load import under_load, watched
from tests.support.redis_server import (
    PATIENCE,
    redis_cluster,
    redis_sentinels,
    redis_server,
    redis_tls_server,
)

if TYPE_CHECKING:
    from pathlib import Path

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1]) + redis.call('INCRBY', KEYS[2], ARGV[1])")


async def test_tls(tmp_path: Path, prefix: str) -> None:
    """With TLS a server is used whose certificate is from a trusted authority, and no other one."""
    async with redis_tls_server(tmp_path, "--requirepass", "s3cret") as (server, authority):
        url = server.url.replace("://", "://:s3cret@")
        async with watched(url, prefix=prefix, timeout=PATIENCE, ca_file=str(authority)) as trusting:
            assert await trusting.link.script(ADD, [f"{{{prefix}}}:a", f"{{{prefix}}}:b"], [2]) == 4
        async with watched(url, prefix=prefix) as suspicious:
            assert not suspicious.link.available
        async with watched(url.replace("rediss:", "redis:"), prefix=prefix) as plain:
            assert not plain.link.available
        async with watched(url, prefix=prefix, ca_file=str(tmp_path / "none.pem")) as mistaken:
            assert not mistaken.link.available


async def test_sentinel_failover(prefix: str) -> None:
    """Row 23: the master dies under load; waits stay short, and the link goes on with the new master."""
    async with (
        redis_sentinels() as sentinels,
        watched(sentinels.url, prefix=prefix) as link,
        under_load(link.link, prefix) as load,
    ):
        master = await sentinels.master()
        await load.until(lambda: load.answered >= 500)
        await master.kill()
        await link.becomes(False)
        await link.becomes(True)
        answered = load.answered
        await load.until(lambda: load.answered >= answered + 500)

        assert await sentinels.master() is not master
    assert load.p99() < 0.06


async def test_sentinel_switches_while_the_old_master_lives(prefix: str) -> None:
    """Row 23: after a failover by hand the old master refuses to write, and the link leaves it."""
    async with redis_sentinels() as sentinels, watched(sentinels.url, prefix=prefix) as link:
        master = await sentinels.master()
        assert await sentinels.sentinels[0].cli("sentinel", "failover", "main") == "OK"
        async with asyncio.timeout(PATIENCE):
            while await sentinels.master() is master:  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.01)
        async with under_load(link.link, prefix) as load:
            await master.until("info", "replication", shows="role:slave")
            answered = load.answered
            await load.until(lambda: load.answered >= answered + 500)

    assert load.p99() < 0.06


async def test_sentinels_with_a_password_and_one_of_them_dead(prefix: str) -> None:
    """A sentinel that asks for a password gets that of the URL, and one that is dead is passed over."""
    async with redis_sentinels() as sentinels:
        await sentinels.sentinels[0].kill()
        for sentinel in sentinels.sentinels[1:]:
            await sentinel.cli("config", "set", "requirepass", "s3cret")
        for server in sentinels.servers:
            await server.cli("config", "set", "requirepass", "s3cret")
        url = sentinels.url.replace("://", "://:s3cret@")
        async with watched(url, prefix=prefix, timeout=PATIENCE) as link:
            assert await link.link.run("INCR", f"{prefix}:n") == 1


async def test_a_service_that_sentinels_do_not_know_is_an_outage(prefix: str) -> None:
    """Row 33: a wrong name of the service is no reason not to start."""
    async with (
        redis_sentinels() as sentinels,
        watched(sentinels.url.replace("/main", "/other"), prefix=prefix) as link,
    ):
        assert not link.link.available


async def test_cluster(prefix: str) -> None:
    """Keys of every master are reached; a slot that moves is followed, and so is one that is moving."""
    async with redis_cluster() as cluster, watched(cluster.url, prefix=prefix, timeout=PATIENCE) as link:
        keys = [f"{{{prefix}{n}}}:a" for n in range(50)]
        assert await asyncio.gather(*(link.link.run("INCR", key) for key in keys)) == [1] * 50
        assert {(await cluster.owner(key)).port for key in keys[:12]} == {
            node.port for node in cluster.nodes[:3]
        }
        totals = await asyncio.gather(*(link.link.script(ADD, [key, f"{key}2"], [1]) for key in keys))
        assert totals == [3] * 50

        moved = f"{prefix}:moved"
        source = await cluster.owner(moved)
        target = next(node for node in cluster.nodes[:3] if node is not source)
        slot = await source.cli("cluster", "keyslot", moved)
        names = {node.port: await node.cli("cluster", "myid") for node in (source, target)}
        await target.cli("cluster", "setslot", slot, "importing", names[source.port])
        await source.cli("cluster", "setslot", slot, "migrating", names[target.port])
        assert await link.link.run("INCR", moved) == 1
        for node in (target, source):
            await node.cli("cluster", "setslot", slot, "node", names[target.port])
        assert await link.link.run("INCR", moved) == 2
        assert await target.cli("get", moved) == "2"
    assert link.changes == [True, False]


async def test_cluster_failover(prefix: str) -> None:
    """Row 23: a master hands over, then its successor dies, under load; waits stay short, it goes on."""
    async with (
        redis_cluster() as cluster,
        watched(cluster.url, prefix=prefix) as link,
        under_load(link.link, prefix) as load,
    ):
        key = f"{prefix}:n"
        replica = await cluster.replica_of(await cluster.owner(key))
        await load.until(lambda: load.answered >= 500)
        await replica.cli("cluster", "failover")
        await replica.until("role", shows="master")
        answered = load.answered
        await load.until(lambda: load.answered >= answered + 500)
        await replica.kill()
        await link.becomes(False)
        await link.becomes(True)
        answered = load.answered
        await load.until(lambda: load.answered >= answered + 500)

        assert await cluster.owner(key) is not replica
    assert load.p99() < 0.06


async def test_a_cluster_by_the_url_of_a_single_server(prefix: str) -> None:
    """A URL that says nothing of a Cluster leads to no answer, ever, but to no failure either."""
    options = ("--cluster-enabled", "yes")
    async with redis_server(*options) as first, redis_server(*options) as second:
        await first.cli("cluster", "addslotsrange", "0", "1")
        await second.cli("cluster", "addslotsrange", "2", "16383")
        await first.cli("cluster", "meet", "127.0.0.1", str(second.port))
        await first.until("cluster", "info", shows="cluster_state:ok")
        async with watched(first.url, prefix=prefix) as link:
            with pytest.raises(StoreUnavailableError):
                await link.link.run("GET", prefix)
