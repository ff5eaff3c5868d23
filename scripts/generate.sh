#!/usr/bin/env bash
# Generate the Python stubs of the API: generate.sh FOLDER
set -euo pipefail
out=$1
buf generate --output "$(dirname "$out")" 2> >(grep -v '^Writing mypy' >&2 || true)
# Files without a service need no gRPC stub.
for stub in "$out"/outrider/v1/*_pb2_grpc.pyi; do
  [ -e "${stub%.pyi}.py" ] || rm "$stub"
done
