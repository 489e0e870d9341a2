# Two commands: `make demo` and `make test`. Each needs Python 3.11 or newer and nothing else; uv is used where it is there.

PYTHON := $(shell for python in python3.13 python3.12 python3.11 python3 python3.14 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$python && break; done)
BIN := .venv/bin
PORT ?= 8080

.PHONY: demo compare test check bench bench-proxy fuzz soak format clean

demo: .venv/ready  ## three upstreams and the gateway in front of them, on loopback
	$(BIN)/fairlead demo --port $(PORT)

compare: .venv/ready  ## the same endpoint as the tutorials write it and with Fairlead, under the same load
	$(BIN)/fairlead demo --compare

test: .venv/ready  ## on each core some of them
	$(BIN)/python -m pytest -n auto --dist worksteal

check: .venv/ready  ## what can be told without running it: style, types, and the shape of the whole
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_shape.py tests/test_snippets.py

bench: .venv/bench  ## every figure of docs/performance.md, in twenty minutes; QUICK=1: a look at each, in four minutes
	$(BIN)/python benchmarks/bench.py $(if $(QUICK),--quick)

bench-proxy: .venv/bench  ## every figure of docs/proxy-performance.md, in ten minutes; QUICK=1: a look at each, in one
	$(BIN)/python benchmarks/proxy.py $(if $(QUICK),--quick)

fuzz: .venv/ready  ## an hour of strange input; SECONDS=60: a minute
	$(BIN)/python fuzz/run.py all --seconds $(or $(SECONDS),3600) --jobs 2

soak: .venv/ready  ## ten minutes of bad weather, and the picture of docs/soak.md
	$(BIN)/python benchmarks/soak.py --svg docs/soak.svg

format: .venv/ready
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache

.venv/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Fairlead needs Python 3.11 or newer: none was found on the PATH"; exit 1; }
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python "$(PYTHON)" .venv && \
		uv pip install --quiet --python $(BIN)/python --editable '.[all]' --group dev --group peers; \
	else \
		"$(PYTHON)" -m venv .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' && \
		$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev --group peers; \
	fi
	@touch $@

.venv/bench: .venv/ready  ## the clients that the benchmarks run beside
	@if command -v uv >/dev/null; then \
		uv pip install --quiet --python $(BIN)/python --group bench; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench; \
	fi
	@touch $@
