# Everything starts from a bare checkout: `make setup` needs Python 3.11 or newer and make, nothing else.
#   make setup           build .venv and install the package with its command line, Keras and developer tools
#   make setup-backends  add TensorFlow and torch, the other backends that Keras runs on (large)
#   make demo            fit a flow to a real table; the flow and a picture land in demo-output/
#   make test            the tests; those of Keras once on every backend that is installed
#   make check           linters, types, import arrows, documentation examples
#   make bench           the benchmarks, side by side with their peers (installs torch and zuko); of the
#                        long ones a part, or with FULL=1 all of it, which takes many hours
#   make clean           remove what the above made

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
BACKENDS := $(VENV)/.backends-stamp
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq

# The library runs on any JAX device; tests and the demo are for the one every machine has.
export JAX_PLATFORMS ?= cpu
# Test processes side by side; each compiles on its own, so more need more memory. Threads within them
# would fight over the same cores.
JOBS ?= 2
test: export OMP_NUM_THREADS ?= 1

.PHONY: help setup setup-backends demo test check bench clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

setup: $(SETUP)
	@echo "$(VENV) is ready: $(BIN)/gauss-flows --help"

$(SETUP): pyproject.toml
	@$(if $(PYTHON),,echo "error: Python 3.11 or newer is needed; none of python3, python3.11 to python3.14 is" >&2; exit 1)
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) tools/check_python.py
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[jax,cli,keras,dev]'
	@touch $@

$(BENCH): $(SETUP)
	@echo "adding the benchmark peers to $(VENV)"
	@$(PIP) --editable '.[bench]'
	@touch $@

setup-backends: $(BACKENDS)

$(BACKENDS): $(SETUP)
	@echo "adding TensorFlow and torch to $(VENV)"
	@$(PIP) --editable '.[backends]'
	@touch $@

demo: $(SETUP)
	@mkdir -p demo-output
	$(BIN)/gauss-flows fit sklearn:breast_cancer \
		--output demo-output/breast_cancer.gf --picture demo-output/breast_cancer.png

# Keras takes its backend from the environment when it is imported: one process for each.
test: $(SETUP)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --ignore=tests/gauss_keras
	@for backend in jax tensorflow torch; do \
		if $(BIN)/python -c "import importlib.util, sys; sys.exit(not importlib.util.find_spec('$$backend'))"; then \
			echo "== tests/gauss_keras on $$backend"; \
			KERAS_BACKEND=$$backend $(BIN)/python -m pytest tests/gauss_keras -n $(JOBS) --dist worksteal; \
		else \
			echo "== tests/gauss_keras skipped on $$backend: not installed (make setup-backends)"; \
		fi; \
	done

check: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q tests/test_architecture.py
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q --doctest-modules src

bench: $(BENCH)
	@for script in benchmarks/*.py; do \
		case $$script in */_*) continue;; esac; \
		quick=; if [ -z "$(FULL)" ] && grep -q '"--quick"' $$script; then quick=--quick; fi; \
		echo "== $$script $$quick"; $(BIN)/python $$script $$quick; \
	done

clean:
	rm -rf $(VENV) demo-output bench-output .pytest_cache .ruff_cache build dist
