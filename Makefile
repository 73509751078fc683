# `make search` and `make test` need Linux, Python >= 3.11 and a package index; no root.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: search test check lint types

search: $(VENV)/.installed
	$(BIN)/evonas search configs/quickstart.yaml

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

check: lint types test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	touch $@
