# Everything works from a clean clone: `make demo`, `make test`. Needs Python 3.11 or newer and nothing else.

VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev

.DEFAULT_GOAL := help
.PHONY: help demo serve test check lint types proto proto-check proto-release lock bench-quick bench bench-features scaling fleet-proof chaos soak build clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(RUNTIME): requirements.lock pyproject.toml scripts/venv.sh
	@scripts/venv.sh $(VENV) requirements.lock
	@touch $@

$(DEV): requirements-dev.lock pyproject.toml scripts/venv.sh
	@scripts/venv.sh $(VENV) requirements-dev.lock
	@touch $@ $(RUNTIME)

demo: $(RUNTIME) ## Start a sidecar, stream an answer through it, show what it cost
	@scripts/demo.sh

serve: $(RUNTIME) ## Run the sidecar in the foreground
	@outrider serve

test: $(DEV) ## Run every check and every test
	@scripts/test.sh

check: lint types proto-check ## Run every check, without tests

lint: $(DEV)
	ruff check . && ruff format --check . && lint-imports

types: $(DEV)
	mypy

proto: $(DEV) ## Generate the stubs from proto/
	@scripts/generate.sh src

proto-check: $(DEV) ## Lint the API, and fail if the committed stubs are not its own
	@scripts/proto_check.sh

proto-release: $(DEV) ## Promise the API as it is now to callers
	@buf build --exclude-source-info --output proto/released.binpb

lock: $(DEV) ## Resolve the dependencies again and write both lock files
	@scripts/lock.sh

bench-quick: $(DEV) ## Compare CPU with a bare grpc.aio server, in under 90 s
	@python -m benchmarks.quick

bench: $(DEV) ## Compare with the floor and with the peers that install here; takes about 15 minutes
	@python -m benchmarks.full $(ARGS)

fleet-proof: $(DEV) ## 8 sidecars with wrong clocks hold one limit and one budget: make fleet-proof SECONDS=60
	@scripts/redis.sh && scripts/faketime.sh
	@OUTRIDER_FLEET_SECONDS=$(or $(SECONDS),60) pytest -q -s -n 0 tests/fleet/test_one_limit.py

bench-features: $(DEV) ## What limits, budgets, cache and ledger cost a request, in memory and with Redis; 5 minutes
	@scripts/redis.sh && python -m benchmarks.features $(ARGS)

scaling: $(DEV) ## What up to 1,000 sidecars cost one Redis, on paper and in simulation; 3 minutes
	@scripts/redis.sh && python -m benchmarks.fleet $(ARGS)

chaos: $(DEV) ## kill -9 of sidecars, Redis and providers under load loses no job: make chaos MINUTES=3
	@scripts/redis.sh
	@OUTRIDER_CHAOS_SECONDS=$$(( $(or $(MINUTES),3) * 60 )) pytest -q -s -n 0 tests/chaos

soak: $(DEV) ## Mixed load with cancels, faults and slow readers; fails on a leak: make soak MINUTES=10
	@python -m benchmarks.soak --minutes $(or $(MINUTES),10)

build: $(DEV) ## Build wheel and sdist into dist/
	@python -m build --no-isolation --outdir dist

clean: ## Remove what was made
	@rm -rf $(VENV) dist .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
