"""What is measured: how each subject is started, and how it is called."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import yaml

from benchmarks.calls import Target
from benchmarks.processes import LOAD_CORE, SUBJECT_CORE, Child, free_port, python, running
from benchmarks.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

MODELS: Final = ("unary", "burst", "paced-10", "paced-10-3", "paced-1000-60")


@dataclass(frozen=True)
class Mock:
    """The running mock provider. `tls_port` and `certificate` are absent where openssl is."""

    child: Child
    port: int
    tls_port: int | None
    certificate: Path | None

    @property
    def target(self) -> Target:
        """For calling it without anything between."""
        return Target("http", self.port)


@contextmanager
def mock_upstream(folder: Path, keep_alive: float | None = None) -> Iterator[Mock]:
    """The mock provider on the load's core, until the block ends. It closes what is unused for so long."""
    certificate = _certificate(folder)
    options = ["--certificate", str(certificate)] if certificate else []
    options += ["--keep-alive", str(keep_alive)] if keep_alive else []
    with running(python("benchmarks.mock_upstream", *options), core=LOAD_CORE) as child:
        ports: list[int] = child.hear()
        yield Mock(child, ports[0], ports[1] if certificate else None, certificate)


@dataclass(frozen=True)
class Subject:
    """Something that answers calls, started anew each time it is used."""

    name: str
    start: Callable[[Mock, Path], AbstractContextManager[tuple[Child, Target]]]
    title: str
    slow: bool = False  # gets a quarter of the calls, so that a round does not take minutes


@contextmanager
def _floor(mock: Mock, folder: Path) -> Iterator[tuple[Child, Target]]:
    with running(python("benchmarks.floor"), core=SUBJECT_CORE) as child:
        yield child, Target("grpc", child.hear())


FLOOR: Final = Subject("floor", _floor, "bare grpc.aio + uvloop")


PLAIN: Final = Target("grpc", 0, prefix="mock/")  # what is asked of a sidecar where nothing is said


def outrider(
    name: str = "outrider",
    title: str = "Outrider, defaults",
    *,
    settings: Mapping[str, Any] | None = None,
    provider: Mapping[str, Any] | None = None,
    tls: bool = False,
    redis: bool = False,
    journal: bool = False,
    asks: Target = PLAIN,
    slow: bool = False,
) -> Subject:
    """`outrider serve` with one provider, and settings that differ from the defaults.

    With `redis` it has one of its own; `asks` says what its requests are like.
    """

    @contextmanager
    def start(mock: Mock, folder: Path) -> Iterator[tuple[Child, Target]]:
        port = free_port()
        scheme, upstream = ("https", mock.tls_port) if tls else ("http", mock.port)
        config: dict[str, Any] = {
            "server": {"listen": f"127.0.0.1:{port}"},
            "admin": {"listen": "127.0.0.1:0"},
            "providers": {
                "mock": {
                    "format": "openai",
                    "base_url": f"{scheme}://127.0.0.1:{upstream}/v1",
                    "api_key": "none",
                    "limits": {"max_concurrency": 1024},  # the default would queue a thousand streams
                    **(provider or {}),
                }
            },
        }
        for section, values in (settings or {}).items():
            merged = isinstance(values, dict)
            config[section] = {**config.get(section, {}), **values} if merged else values
        if journal:
            config["usage"] = {**config.get("usage", {}), "journal": str(folder / f"{name}-journal")}
        target = replace(asks, port=port)
        with ExitStack() as stack:
            if redis:
                server = stack.enter_context(redis_server())
                config["redis"] = {"url": server.url}
                target = replace(target, redis=server.port)
            path = folder / f"{name}.yaml"
            path.write_text(yaml.safe_dump(config))
            command = ["outrider", "serve", "--config", str(path)]
            env = {"SSL_CERT_FILE": str(mock.certificate)} if tls else {}
            child = stack.enter_context(running(command, core=SUBJECT_CORE, env=env, speaks=False))
            yield child, target

    return Subject(name, start, title, slow)


_NO_ADMIN: Final = {"admin": {"listen": ""}}
_QUIET: Final = {"log": {"level": "error"}}
_NO_REFLECTION: Final = {"server": {"reflection": False}}

DEFAULTS: Final = outrider()
BARE: Final = outrider(
    "outrider-bare", "Outrider, all off", settings={**_NO_ADMIN, **_QUIET, **_NO_REFLECTION}
)


def variants() -> list[Subject]:
    """Outrider with one thing changed, each to be held against its defaults."""
    found = [
        outrider("no-request-log", "log.level: error", settings=_QUIET),
        outrider("no-admin", "admin off", settings=_NO_ADMIN),
        outrider("no-reflection", "reflection off", settings=_NO_REFLECTION),
        outrider("anthropic", "format: anthropic", provider={"format": "anthropic"}),
    ]
    if shutil.which("openssl"):
        found.append(outrider("tls", "TLS to the provider", tls=True))
    return [*found, outrider("sdk", "transport: sdk", provider={"transport": "sdk"}, slow=True)]


def _certificate(folder: Path) -> Path | None:
    """Certificate and key of 127.0.0.1 in one file, made for this run."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    path = folder / "mock.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(path)]
    subprocess.run([openssl, "req", *options.split(), *names], check=True, capture_output=True)
    return path
