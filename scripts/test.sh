#!/usr/bin/env bash
# Every check and every test, as `make test` runs them. Arguments go to pytest.
set -euo pipefail
say() { printf '\n· %s\n' "$1" >&2; }

say "style"
ruff check --quiet . && ruff format --check --quiet .
say "imports"
lint-imports >/dev/null || lint-imports
say "types"
mypy
say "API"
scripts/proto_check.sh
say "image"
hadolint Dockerfile
say "redis"
scripts/redis.sh
scripts/faketime.sh
say "kafka"
scripts/kafka.sh >/dev/null
say "tests"
exec pytest -n "${TEST_WORKERS:-2}" --cov --cov-report=term:skip-covered "$@"
