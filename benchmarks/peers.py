"""Other gateways that PyPI or npm carry: installed once, outside the repository, at fixed versions.

Each runs in one process with nothing switched on that it can do without: no database, no keys for callers, no
request log. A peer that cannot be installed is left out, and the report says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import yaml

from benchmarks.calls import Target
from benchmarks.processes import SUBJECT_CORE, Child, free_port, running
from benchmarks.subjects import MODELS, Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.subjects import Mock

DEFAULT_FOLDER: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "outrider-bench")
PINS: Final = {"litellm": "1.106.2", "portkey": "1.15.2", "tensorzero": "2026.6.0"}

_INSTALL_SECONDS: Final = 600
_CHAT: Final = "/v1/chat/completions"


class PeerError(Exception):
    """A peer cannot be had here."""


def peer(name: str, folder: Path) -> Subject:
    """A peer, installed. Raises PeerError."""
    home = folder / f"{name}-{PINS[name]}"
    done = home / ".installed"
    if not done.exists():
        _INSTALL[name](home)
        done.touch()
    return _SUBJECTS[name](home)


def _litellm(home: Path) -> Subject:
    @contextmanager
    def start(mock: Mock, folder: Path) -> Iterator[tuple[Child, Target]]:
        port = free_port()
        common = {"api_base": f"http://127.0.0.1:{mock.port}/v1", "api_key": "none"}
        models = [
            {"model_name": model, "litellm_params": {"model": f"openai/{model}", **common}}
            for model in MODELS
        ]
        path = folder / "litellm.yaml"
        path.write_text(yaml.safe_dump({"model_list": models, "litellm_settings": {"telemetry": False}}))
        command = [home / "bin/litellm", "--config", path, "--host", "127.0.0.1", "--port", port]
        # Its price list would be fetched from the network at every start.
        env = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            # Callers are not asked for a key by the other subjects either.
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        }
        with _service([*command, "--num_workers", 1, "--telemetry", "False"], env) as child:
            yield child, Target("http", port)

    return Subject("litellm", start, f"LiteLLM proxy {PINS['litellm']}", slow=True)


def _portkey(home: Path) -> Subject:
    @contextmanager
    def start(mock: Mock, folder: Path) -> Iterator[tuple[Child, Target]]:
        port = free_port()
        script = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
        upstream = f"http://127.0.0.1:{mock.port}/v1"
        headers = (("x-portkey-provider", "openai"), ("x-portkey-custom-host", upstream))
        command = ["node", script, f"--port={port}", "--headless"]
        with _service(command, {"NODE_ENV": "production"}) as child:
            yield child, Target("http", port, headers=headers)

    return Subject("portkey", start, f"Portkey gateway {PINS['portkey']}")


def _tensorzero(home: Path) -> Subject:
    @contextmanager
    def start(mock: Mock, folder: Path) -> Iterator[tuple[Child, Target]]:
        path = folder / "tensorzero.toml"
        path.write_text("[gateway]\nobservability.enabled = false\n" + _tensorzero_models(mock.port))
        script = Path(__file__).with_name("tensorzero_gateway.py")
        command = [str(home / "bin/python"), str(script), str(path)]
        with running(command, core=SUBJECT_CORE, env={"RUST_LOG": "error"}) as child:
            url = urlsplit(child.hear())
            assert url.port is not None
            yield (
                child,
                Target(
                    "http",
                    url.port,
                    prefix="tensorzero::model_name::",
                    path=f"{url.path.rstrip('/')}/chat/completions",
                ),
            )

    return Subject("tensorzero", start, f"TensorZero gateway {PINS['tensorzero']}")


def _tensorzero_models(port: int) -> str:
    return "".join(
        f'[models."{model}"]\nrouting = ["mock"]\n'
        f'[models."{model}".providers.mock]\ntype = "openai"\nmodel_name = "{model}"\n'
        f'api_base = "http://127.0.0.1:{port}/v1/"\napi_key_location = "none"\n'
        for model in MODELS
    )


@contextmanager
def _service(command: Sequence[object], env: dict[str, str]) -> Iterator[Child]:
    arguments = [str(argument) for argument in command]
    with running(arguments, core=SUBJECT_CORE, env=env, speaks=False) as child:
        yield child


def _install_from_pypi(requirement: str, home: Path) -> None:
    _run([sys.executable, "-m", "venv", "--clear", home])
    _run([home / "bin/python", "-m", "pip", "install", "--quiet", requirement])


def _install_portkey(home: Path) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise PeerError("node and npm are not there")
    home.mkdir(parents=True, exist_ok=True)
    package = {
        "dependencies": {"@portkey-ai/gateway": PINS["portkey"]},
        # With 1.14.2 and newer every stream ends in `TypeError: immutable` (Portkey-AI/gateway#1389).
        "overrides": {"@hono/node-server": "1.13.8"},
    }
    (home / "package.json").write_text(json.dumps(package))
    _run(["npm", "install", "--prefix", home, "--ignore-scripts", "--no-audit", "--no-fund"])


def _run(command: Sequence[object]) -> None:
    arguments = [str(argument) for argument in command]
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise PeerError(f"`{' '.join(arguments)}` took over {_INSTALL_SECONDS} s") from None
    if done.returncode:
        raise PeerError(f"`{' '.join(arguments)}` failed: {done.stderr.strip()[-300:]}")


_INSTALL: Final[dict[str, Callable[[Path], None]]] = {
    "litellm": lambda home: _install_from_pypi(f"litellm[proxy]=={PINS['litellm']}", home),
    "portkey": _install_portkey,
    "tensorzero": lambda home: _install_from_pypi(f"tensorzero=={PINS['tensorzero']}", home),
}
_SUBJECTS: Final = {"litellm": _litellm, "portkey": _portkey, "tensorzero": _tensorzero}
