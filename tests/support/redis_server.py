"""Real Redis servers on ports of the kernel's choice, each with a directory of its own.

async with redis_server() as server:
    link = RedisLink(server.url)
    await server.kill()
    await server.start()        # again, on the same port

async with redis_cluster() as cluster, redis_sentinels() as sentinels: ...
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE = 30.0  # seconds until a test is given up
_TICK = 0.01
_HIGHEST_PORT = 55_535  # a node of a cluster also listens on its port + 10,000


def free_port() -> int:
    """A port that nobody listens on."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if port > _HIGHEST_PORT:
                port -= 20_000
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


@dataclass
class Server:
    """One process, with its data in `folder`."""

    port: int
    folder: Path
    arguments: tuple[str, ...] = ()
    tls: tuple[str, ...] = ()  # arguments for redis-cli
    process: asyncio.subprocess.Process | None = None
    config: Path | None = None  # sentinels rewrite theirs

    @property
    def url(self) -> str:
        return f"redis{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start, and wait until it answers."""
        where = ("--tls-port", str(self.port), "--port", "0") if self.tls else ("--port", str(self.port))
        self.process = await asyncio.create_subprocess_exec(
            _found("redis-server"),
            *([str(self.config), "--sentinel"] if self.config else []),
            *where,
            *("--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "", "--logfile", "log"),
            *self.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(PATIENCE):
            while not self._answers():
                assert self.process.returncode is None, f"redis-server ended:\n{self.log}"
                await asyncio.sleep(_TICK)

    async def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def pause(self) -> None:
        """It keeps its connections, accepts new ones, and does nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    async def cli(self, *arguments: str) -> str:
        """What redis-cli prints."""
        process = await asyncio.create_subprocess_exec(
            _found("redis-cli"),
            *("-h", "127.0.0.1", "-p", str(self.port), *self.tls),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return printed.decode().strip()

    async def until(self, *command: str, shows: str) -> None:
        """Wait until a command prints this."""
        async with asyncio.timeout(PATIENCE):
            while shows not in await self.cli(*command):  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(_TICK)

    @property
    def log(self) -> str:
        """What the server has written."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.setblocking(True)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@asynccontextmanager
async def redis_server(
    *arguments: str, port: int = 0, tls: tuple[str, ...] = (), config: Path | None = None
) -> AsyncIterator[Server]:
    """One server with these arguments, such as "--requirepass", "secret"."""
    folder = Path(tempfile.mkdtemp(prefix="outrider-redis-"))
    server = Server(port or free_port(), folder, arguments, tls, config=config)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Cluster:
    """Three masters, and then a replica for each."""

    nodes: list[Server]

    @property
    def url(self) -> str:
        """Names two of the nodes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    async def owner(self, key: str) -> Server:
        """The master that has a key."""
        slot = int(await self._ask("keyslot", key))
        for line in (await self._ask("nodes")).splitlines():
            _, address, flags, *rest = line.split()
            ranges = [part.partition("-") for part in rest[5:] if not part.startswith("[")]
            if "master" in flags and any(int(low) <= slot <= int(high or low) for low, _, high in ranges):
                return self._at(address)
        raise AssertionError(f"nobody has {key}")

    async def replica_of(self, master: Server) -> Server:
        """A replica of this master."""
        nodes = [line.split() for line in (await self._ask("nodes")).splitlines()]
        name = next(node[0] for node in nodes if self._at(node[1]) is master)
        return self._at(next(node[1] for node in nodes if node[3] == name))

    async def _ask(self, *question: str) -> str:
        """What a node that is alive says of the cluster."""
        alive = next(node for node in self.nodes if node.process and node.process.returncode is None)
        return await alive.cli("cluster", *question)

    def _at(self, address: str) -> Server:
        port = int(address.partition("@")[0].rpartition(":")[2])
        return next(node for node in self.nodes if node.port == port)


@asynccontextmanager
async def redis_cluster() -> AsyncIterator[Cluster]:
    """A Cluster of three masters and three replicas, which replace a dead master within seconds."""
    timeout = ("--cluster-node-timeout", "1500", "--cluster-replica-validity-factor", "0")
    options = ("--cluster-enabled", "yes", *timeout, "--repl-diskless-sync-delay", "0")
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(redis_server(*options)) for _ in range(6)]
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        made = await nodes[0].cli(
            "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"
        )
        assert "[OK] All 16384 slots covered" in made, made
        for node in nodes:
            await node.until("cluster", "info", shows="cluster_state:ok")
            async with asyncio.timeout(PATIENCE):
                while (await node.cli("cluster", "nodes")).count("slave") < 3:  # noqa: ASYNC110
                    await asyncio.sleep(_TICK)
        for node in nodes[3:]:
            await node.until("info", "replication", shows="master_link_status:up")
        yield Cluster(nodes)


@dataclass
class Sentinels:
    """A master, its replicas, and those who watch them."""

    servers: list[Server]
    sentinels: list[Server]

    @property
    def url(self) -> str:
        """Names all sentinels."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/main"

    async def master(self) -> Server:
        """The one that the sentinels call master."""
        said = await self.sentinels[0].cli("sentinel", "get-master-addr-by-name", "main")
        return next(server for server in self.servers if str(server.port) in said.split())


@asynccontextmanager
async def redis_sentinels() -> AsyncIterator[Sentinels]:
    """A master and two replicas with three sentinels, which replace a dead master within seconds."""
    async with AsyncExitStack() as stack:
        master = await stack.enter_async_context(redis_server("--repl-diskless-sync-delay", "0"))
        of_master = ("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
        replicas = [await stack.enter_async_context(redis_server(*of_master)) for _ in range(2)]
        for replica in replicas:
            await replica.until("info", "replication", shows="master_link_status:up")
        sentinels = [await stack.enter_async_context(_sentinel(master.port)) for _ in range(3)]
        for sentinel in sentinels:
            await sentinel.until("info", "sentinel", shows="slaves=2,sentinels=3")
        for sentinel in sentinels:
            # For four of these periods a replica that becomes master is left in peace.
            await sentinel.cli("sentinel", "debug", "publish-period", "1000")
        yield Sentinels([master, *replicas], sentinels)


@asynccontextmanager
async def _sentinel(master: int) -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory(prefix="outrider-sentinel-") as folder:
        config = Path(folder) / "sentinel.conf"
        config.write_text(
            f"sentinel monitor main 127.0.0.1 {master} 2\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 2000\n"
        )
        async with redis_server(config=config) as sentinel:
            # Seconds of looking around become tenths. A replica counts as well for five ping periods after
            # an INFO, which comes once a second while the master is down.
            periods = ("ping-period", "300", "publish-period", "50", "info-period", "100", "ask-period", "50")
            assert await sentinel.cli("sentinel", "debug", *periods) == "OK"
            yield sentinel


def certificates(folder: Path) -> tuple[Path, Path]:
    """An authority's certificate, and a file with a certificate for 127.0.0.1 that it signed, and its key."""
    openssl = _found("openssl")
    authority, authority_key = folder / "ca.pem", folder / "ca.key"
    server, request, names = folder / "server.pem", folder / "server.csr", folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1")
    fresh = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for arguments in (
        (*fresh, "-x509", "-days", "2", "-subj", "/CN=test", "-keyout", authority_key, "-out", authority),
        (*fresh, "-subj", "/CN=127.0.0.1", "-keyout", server, "-out", request),
    ):
        subprocess.run([openssl, *arguments], check=True, capture_output=True)
    sign = ("x509", "-req", "-in", request, "-days", "2", "-extfile", names)
    by = ("-CA", authority, "-CAkey", authority_key, "-CAcreateserial")
    signed = subprocess.run([openssl, *sign, *by], check=True, capture_output=True)
    with server.open("ab") as file:
        file.write(signed.stdout)
    return authority, server


@asynccontextmanager
async def redis_tls_server(folder: Path, *arguments: str) -> AsyncIterator[tuple[Server, Path]]:
    """A server that speaks only TLS, and the certificate of the authority to trust."""
    authority, server = certificates(folder)
    pem = ("--tls-cert-file", str(server), "--tls-key-file", str(server), "--tls-auth-clients", "no")
    async with redis_server(*pem, *arguments, tls=("--tls", "--cacert", str(authority))) as running:
        yield running, authority


def _found(command: str) -> str:
    path = shutil.which(command)
    if path is None:
        message = f"needs {command}: scripts/redis.sh installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
