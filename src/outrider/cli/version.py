"""`outrider version`: what this is, and what it runs on."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING

import google.protobuf
import grpc

from outrider import __version__
from outrider.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Print the versions."""
    versions = {
        "outrider": __version__,
        "python": platform.python_version(),
        "grpc": grpc.__version__,
        "protobuf": google.protobuf.__version__,
    }
    if arguments.json:
        print(json.dumps(versions))
    else:
        for name, version in versions.items():
            print(f"{name:<9}{version}")
    return ExitCode.OK
