# `make search` and `make test` need Linux, Python >= 3.11 and a package index; no root.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PARALLEL = --numprocesses logical --maxprocesses 8 --durations 20

.PHONY: search test test-all check lint types docs

search: $(VENV)/.installed
	$(BIN)/evonas search configs/quickstart.yaml

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not long" $(PARALLEL) --dist worksteal

# beside `make test`: what is long, and the properties of random graphs with many times the examples
test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "(long or hypothesis) and not alone" --hypothesis-profile thorough $(PARALLEL) --dist loadfile
	$(BIN)/python -m pytest -m alone --durations 20

check: lint types test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# the documentation site, in build/site: open build/site/index.html
docs: $(VENV)/.installed-docs
	$(BIN)/python -m mkdocs build --strict

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

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@
