# Everything from a fresh clone:   make demo    make test    make lint    make docs    make clean
#
# PYTHON  the interpreter that makes the environment (3.11 or newer):   make demo PYTHON=python3.12
# VENV    where the environment goes:                                   make test VENV=/tmp/env
# ARGS    more arguments for pytest:                                    make test ARGS="-m slow -x"
# TORCH   what pip installs for the tests of networks, before everything else: a bare torch can bring
#         gigabytes of CUDA.  make test TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
TORCH ?= torch==2.13.0

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
RUN := "$(BIN)/python"
PIP := $(RUN) -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    mine a real data set and write an HTML report into ./sigmine-demo"
	@echo "make test    run the whole test suite"
	@echo "make lint    ruff and mypy"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make clean   remove the environment and everything that was built"

demo: $(VENV)/.installed
	$(RUN) -m sigmine demo

test: $(VENV)/.installed-test
	$(RUN) -m pytest -n auto $(ARGS)

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: $(VENV)/.installed-docs
	$(RUN) -m sphinx -W --keep-going -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

clean:
	rm -rf "$(VENV)" build dist docs/_build docs/api/generated docs/auto_examples \
	  docs/sg_execution_times.rst sigmine-demo sigmine.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find sigmine sigmine_nn tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed again whenever pyproject.toml (dependencies) or the version changes. The install is
# editable, so an edit of the sources needs none.
INSTALL_INPUTS := pyproject.toml sigmine/_version.py

$(VENV)/.installed: $(VENV)/.created $(INSTALL_INPUTS)
	$(PIP) install --quiet --editable .
	@touch "$@"

$(VENV)/.installed-%: $(VENV)/.torch $(INSTALL_INPUTS)
	$(PIP) install --quiet --editable ".[$*]"
	@touch "$@" "$(VENV)/.installed"

$(VENV)/.torch: $(VENV)/.created
	$(PIP) install --quiet $(TORCH)
	@touch "$@"

$(VENV)/.created:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "No '$(PYTHON)' was found. Install Python 3.11 or newer, or name one:" >&2; \
	  echo "  make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "'$(PYTHON)' is $$("$(PYTHON)" --version 2>&1); sigmine needs Python 3.11 or newer." >&2; \
	  echo "Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -m venv "$(VENV)" || { \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch "$@"
