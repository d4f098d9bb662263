# Every target prepares what it needs by itself and is quick the second time. CI calls `make check`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

venv := .venv/bin
packages := ebpf parsers otel_bridge agent demo
as_root := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help setup setup-develop demo test test-fast test-fast-parsers test-fast-rest coverage lint check fuzz-losses bench bench-kubernetes test-image test-stack test-servers test-kernels fuzz-files apiserver helm chart lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what wirespan needs; leaves the command at .venv/bin/wirespan
	@scripts/setup.sh run

setup-develop: ## also what the checks and tests need
	@scripts/setup.sh develop

demo: setup ## sample services, traffic and capture in one go
	@$(as_root) $(venv)/wirespan demo

lint: setup-develop ## style, types, import boundaries, words
	$(venv)/ruff check .
	$(venv)/ruff format --check .
	$(venv)/mypy
	$(venv)/lint-imports
	$(venv)/python scripts/check_words.py
	clang-format --dry-run --Werror ebpf/bpf/*.[ch] $(wildcard tests/*/*.c tests/*/*/*.c)

# The two halves take about as long, and each a core of its own.
test-fast: setup-develop ## after each change: units, corpus and properties at a glance, under a minute, without root
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-fast-parsers test-fast-rest

test-fast-parsers:
	$(fast_pytest) tests/unit/parsers tests/unit/test_*.py

test-fast-rest:
	$(fast_pytest) $(filter-out tests/unit/parsers/ %__pycache__/,$(wildcard tests/unit/*/)) tests/property

fast_pytest = $(venv)/pytest -q --hypothesis-profile=fast -m 'not growth and not slow'

coverage: setup-develop ## how much of the pure stages their unit tests reach; fails below the floor in pyproject.toml
	$(fast_pytest) --cov=parsers --cov=otel_bridge --cov-report= tests/unit/parsers tests/unit/otel_bridge
	$(venv)/coverage report

test: setup-develop apiserver helm ## all tests, kernel and end-to-end included (root or sudo)
	$(as_root) env $(go_programs) $(venv)/pytest

go_programs = KUBE_APISERVER="$$(scripts/build-go-program.sh kube-apiserver --path)" \
	HELM="$$(scripts/build-go-program.sh helm --path)"

# Since 1.21 Go gets the version that a go.mod asks for; Debian 12's is 1.19, which is enough for tests/e2e/tls only.
go_fetches_toolchains = go version 2>/dev/null | grep -qE 'go1\.(2[1-9]|[3-9][0-9])'

apiserver: ## the API server of the tests, built once; a machine without Go does without those that need it
	@if $(go_fetches_toolchains); then scripts/build-go-program.sh kube-apiserver >/dev/null; fi

helm: ## the same of helm, for tests/chart
	@if $(go_fetches_toolchains); then scripts/build-go-program.sh helm >/dev/null; fi

chart: setup-develop helm ## render the chart again: deploy/wirespan.yaml, and what tests/chart compares with
	$(venv)/python -m tests.chart.rendered

check: lint coverage test ## what CI runs

fuzz-losses: setup-develop ## ten million pairs of lossy conversations, an hour; none may be wrong without a flag
	$(venv)/python -m tests.property.loss_fuzz --pairs 10000000

bench: setup-develop ## the table of docs/performance.md, as ratios from one run (root or sudo)
	$(as_root) $(venv)/python -m tests.bench

bench-kubernetes: setup-develop apiserver ## what discovering pods costs: memory, requests and bytes
	$(venv)/python -m tests.bench.kubernetes_discovery

test-image: setup-develop ## the container image, built and run: some minutes, less the second time (root or sudo)
	@scripts/setup.sh image
	$(as_root) $(venv)/pytest -m image tests/image

test-stack: setup-develop ## docker-compose.yml from up to down: a minute, half an hour the first time (root or sudo, Go)
	@scripts/setup.sh image
	$(as_root) $(venv)/pytest -m stack -s tests/stack

test-servers: setup-develop ## odd requests put to nginx, Apache, Node, gunicorn and Go: the parsers must flag what they dispute
	@scripts/setup.sh servers
	$(venv)/python -m tests.servers

test-kernels: setup-develop ## the eBPF program under Debian's 5.10 and 6.1 kernels, in virtual machines
	$(as_root) scripts/test-kernels.sh

fuzz-files: setup-develop ## captures and recordings with anything done to them, replayed: some minutes
	$(venv)/python -m tests.property.file_fuzz --variants $(variants) --seed $(seed)

variants := 20000
seed := 1

lock: ## renew the locked versions and hashes (needs uv)
	uv pip compile --quiet $(lock_options) pyproject.toml -o locks/runtime.txt
	uv pip compile --quiet $(lock_options) --group development pyproject.toml -o locks/development.txt
	echo 'setuptools==83.0.0' | uv pip compile --quiet $(lock_options) - -o locks/build.txt

lock_options := --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links

clean: ## remove everything that the other targets made
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build *.egg-info .coverage
