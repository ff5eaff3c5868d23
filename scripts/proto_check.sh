#!/usr/bin/env bash
# Lint the API, refuse changes that break callers, and fail if the committed stubs are not its own.
set -euo pipefail
buf lint
buf format --diff --exit-code >/dev/null || { echo "proto files are not formatted: run 'buf format -w'" >&2; exit 1; }
# Against the last release, or where there is none yet, the branch point.
base=$(git describe --tags --abbrev=0 2>/dev/null || git rev-parse --verify --quiet origin/main || git rev-parse --verify --quiet HEAD || true)
if [ -n "$base" ] && git cat-file -e "$base:proto/outrider/v1" 2>/dev/null; then
  buf breaking --against ".git#ref=$base"
fi
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
