#!/usr/bin/env bash
# Resolve the dependencies again and write both lock files, with hashes.
set -euo pipefail
common=(--quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url
  --custom-compile-command "make lock" --all-extras)
uv pip compile "${common[@]}" "$@" --group build --output-file requirements.lock pyproject.toml
uv pip compile "${common[@]}" "$@" --group build --group dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
