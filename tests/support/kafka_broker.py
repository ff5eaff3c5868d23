"""A real Kafka broker: one node, its own controller, on ports of the kernel's choice.

with kafka_broker(folder) as broker:
    AIOKafkaProducer(bootstrap_servers=broker.address)
    broker.kill()
    broker.start()      # again, on the same ports, with what it had
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.redis_server import certificates, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0  # seconds until a test is given up; a JVM starts slowly on a machine that is busy
_TICK = 0.02
_STARTED = "Kafka Server started"
_SCRIPT = Path(__file__).parents[2] / "scripts" / "kafka.sh"
_JAVA = (
    *("java", "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)

USER, PASSWORD = "outrider", "kafka-test-password-0123"


@dataclass
class Broker:
    """The process, with its data in `folder`."""

    folder: Path
    jars: str
    authority: Path = field(init=False)  # of the certificate that it shows on its secure port
    _port: int = field(init=False)
    _secure_port: int = field(init=False)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it speaks in the clear, to anybody."""
        return f"127.0.0.1:{self._port}"

    @property
    def secure_address(self) -> str:
        """Where it speaks TLS, to USER with PASSWORD, by SCRAM-SHA-512."""
        return f"127.0.0.1:{self._secure_port}"

    def prepare(self) -> None:
        """Choose ports and make an empty store.

        A broker that was killed may come back only when its session is over, which takes 9 s by default.
        """
        self.authority, certificate = certificates(self.folder)
        self._port, self._secure_port, controller = free_port(), free_port(), free_port()
        (self.folder / "properties").write_text(
            f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://{self.address},SASL_SSL://{self.secure_address},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{self.address},SASL_SSL://{self.secure_address}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={certificate}
log.dirs={self.folder / "data"}
offsets.topic.replication.factor=1
broker.heartbeat.interval.ms=200
broker.session.timeout.ms=2000
"""
        )
        self._run("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", "properties")

    def _run(self, *arguments: str) -> None:
        scram = ("--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]")
        subprocess.run(
            [*_JAVA, "-cp", f"{self.jars}/*", *arguments, *scram],
            cwd=self.folder,
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )

    def start(self) -> None:
        """Start, and wait until it serves."""
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*_JAVA, "-cp", f"{self.jars}/*", "kafka.Kafka", "properties"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while _STARTED not in self.log:
            assert self._process.poll() is None, f"the broker ended:\n{self.log}"
            assert time.monotonic() < deadline, f"the broker does not start:\n{self.log}"
            time.sleep(_TICK)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """It keeps its connections, accepts new ones, and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @property
    def log(self) -> str:
        """What it has written since it was started."""
        return (self.folder / "log").read_text(errors="replace")


@contextmanager
def kafka_broker(folder: Path) -> Iterator[Broker]:
    """A broker that serves."""
    broker = Broker(folder, _jars())
    broker.prepare()
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


def _jars() -> str:
    """Where they are; fetched where they are not."""
    fetched = subprocess.run([_SCRIPT], capture_output=True, text=True, check=False)
    if fetched.returncode == 0 and shutil.which("java"):
        return fetched.stdout.strip()
    message = f"needs Apache Kafka:\n{fetched.stderr}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
