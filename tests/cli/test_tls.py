"""A sidecar whose TCP port has TLS."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.cli.answers import answer
from tests.cli.stand_in import StandIn, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Run


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [openssl, "req", *options, *names, "-keyout", path, "-out", path], check=True, capture_output=True
    )
    return path


@pytest.fixture
def address(certificate: Path, tmp_path: Path) -> Iterator[str]:
    """Of a server with that certificate."""
    pem = certificate.read_bytes()
    with serving(
        StandIn(script=answer("Hello")), tmp_path, grpc.ssl_server_credentials([(pem, pem)])
    ) as stand_in:
        yield f"127.0.0.1:{stand_in.port}"


def test_trusted_sidecar_answers(run: Run, address: str, certificate: Path) -> None:
    """--tls-ca turns TLS on, and names whom to trust."""
    result = run("generate", "hi", "--address", address, "--tls-ca", str(certificate))
    assert (result.code, result.out) == (0, "Hello")


@pytest.mark.parametrize("trust", ["nobody", "no PEM"])
def test_untrusted_sidecar_is_not_asked(run: Run, address: str, tmp_path: Path, trust: str) -> None:
    """Without TLS, or with another authority, the call fails in plain words and nothing else is printed."""
    (tmp_path / "ca.pem").write_text("not a certificate")
    options = ["--tls-ca", "ca.pem"] if trust == "no PEM" else []
    result = run("generate", "hi", "--address", address, *options)
    assert (result.code, result.out) == (5, "")
    assert result.err.startswith(f"outrider: no sidecar answers at {address}")
