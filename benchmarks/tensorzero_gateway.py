"""TensorZero's gateway as its PyPI package carries it: the Rust HTTP server inside the Python client.

Runs in that package's own environment. Prints the gateway's URL, and ends with its standard input.
"""

import json
import sys

from tensorzero import _start_http_gateway  # type: ignore[import-not-found]  # as `patch_openai_client` does

gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
print(json.dumps(gateway.base_url), flush=True)
sys.stdin.read()
