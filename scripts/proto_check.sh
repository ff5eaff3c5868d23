#!/usr/bin/env bash
# Lint the API, refuse changes that break callers, and fail if the committed stubs are not its own.
set -euo pipefail
buf lint
buf format --diff --exit-code >/dev/null || { echo "proto files are not formatted: run 'buf format -w'" >&2; exit 1; }
# What callers have been promised; `make proto-release` renews it.
buf breaking --against proto/released.binpb
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
scripts/generate.sh "$folder/src"
for made in "$folder"/src/outrider/v1/*; do
  cmp --silent "$made" "src/outrider/v1/$(basename "$made")" ||
    { echo "src/outrider/v1/$(basename "$made") is not what proto/ says: run 'make proto'" >&2; exit 1; }
done
for kept in src/outrider/v1/*_pb2*; do
  [ -e "$folder/src/outrider/v1/$(basename "$kept")" ] || { echo "$kept has no proto: run 'make proto'" >&2; exit 1; }
done
echo "API: lint, compatibility and stubs are right"
