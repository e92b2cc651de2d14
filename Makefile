# Everything starts from a bare checkout: `make setup` needs Python 3.11 or newer and make, nothing else.
#   make setup   build .venv and install the package with its command line and developer tools
#   make demo    fit a flow to a real table; the flow and a picture land in demo-output/
#   make test    the tests
#   make check   linters, types, import arrows, documentation examples
#   make bench   the benchmarks, side by side with their peers (installs torch and zuko)
#   make clean   remove what the above made

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Newest first after plain python3, so that an old default does not hide a good one.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	&& { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup-stamp
BENCH := $(VENV)/.bench-stamp
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq

# The library runs on any JAX device; tests and the demo are for the one every machine has.
export JAX_PLATFORMS ?= cpu
# Test processes side by side; each compiles on its own, so more need more memory.
JOBS ?= 2

.PHONY: help setup demo test check bench clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

setup: $(SETUP)
	@echo "$(VENV) is ready: $(BIN)/gauss-flows --help"

$(SETUP): pyproject.toml
	@$(if $(PYTHON),,echo "error: Python 3.11 or newer is needed; none of python3, python3.11 to python3.14 is" >&2; exit 1)
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) tools/check_python.py
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[cli,dev]'
	@touch $@

$(BENCH): $(SETUP)
	@echo "adding the benchmark peers to $(VENV)"
	@$(PIP) --editable '.[bench]'
	@touch $@

demo: $(SETUP)
	@mkdir -p demo-output
	$(BIN)/gauss-flows fit sklearn:breast_cancer \
		--output demo-output/breast_cancer.gf --picture demo-output/breast_cancer.png

test: $(SETUP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q tests/test_architecture.py
	$(BIN)/python -m pytest -q --doctest-modules src/gauss_flows

bench: $(BENCH)
	@for script in benchmarks/*.py; do \
		case $$script in */_*) continue;; esac; \
		echo "== $$script"; $(BIN)/python $$script; \
	done

clean:
	rm -rf $(VENV) demo-output bench-output .pytest_cache .ruff_cache build dist
