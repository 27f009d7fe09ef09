# Everything starts from a Python of 3.11 or newer; each target installs what it needs.
#   make demo | test | lint | format | fuzz abuse races SECONDS=600 | endurance | bench bench-registry bench-proxy | lock | docs

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
WORKERS ?= 2
PROXY ?= envoy
PYTEST ?= -n $(WORKERS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-one lint format fuzz endurance abuse races bench bench-registry bench-proxy lock docs clean

help:
	@sed -n 2,2p Makefile | cut -c3-

$(INSTALLED): requirements.lock pyproject.toml tools/venv
	@echo "installing into $(VENV)"
	@tools/venv $(PYTHON) $(VENV)

demo: $(INSTALLED)
	$(BIN)/a8ctl up --demo bookinfo --proxy $(PROXY)

test-one: $(INSTALLED)
	$(BIN)/pytest $(PYTEST)

# All tests on the default Python, then on the others of 3.11 and 3.13 that this machine has.
test: test-one
	@tools/other-pythons $(BIN)/python | while read -r python version; do \
	  echo "== Python $$version"; \
	  $(MAKE) --no-print-directory test-one PYTHON=$$python VENV=.venv-$$version || exit 1; \
	done

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	luacheck --quiet src/amalgam8/sidecar/nginx/lua

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Rules and requests at random, the real proxy against the reference interpreter; SEED=… repeats a run.
SECONDS ?= 600
fuzz: $(INSTALLED)
	A8_FUZZ_SECONDS=$(SECONDS) $(if $(SEED),A8_FUZZ_SEED=$(SEED)) $(BIN)/pytest tests/conformance/test_fuzz.py

# A registry in bad company, with figures: broken framing, floods, slow clients, 10,000 idle connections.
abuse: $(INSTALLED)
	A8_ABUSE_SECONDS=$(SECONDS) $(BIN)/pytest tests/registry/test_abuse.py

# Two registries on one Valkey under random writes and random trouble, held against a model.
races: $(INSTALLED)
	A8_RACES_SECONDS=$(SECONDS) $(BIN)/pytest tests/registry/test_redis_random.py

# So many changes of rules under load; the tests do a few.
CHANGES ?= 1000
endurance: $(INSTALLED)
	A8_ENDURANCE_CHANGES=$(CHANGES) $(BIN)/pytest -s tests/conformance/test_endurance.py

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

# The registry alone: its speed beside a bare uvicorn's, watchers, renewals, many instances, expiry. 5 minutes.
bench-registry: $(INSTALLED)
	$(BIN)/python -m benchmarks registry registry-scale

bench-proxy: $(INSTALLED)
	$(BIN)/python -m benchmarks proxy

docs: $(INSTALLED)
	$(BIN)/python tools/reference.py

# Resolve the newest versions for every supported Python. Kept without addresses of any index.
lock:
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock

clean:
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
