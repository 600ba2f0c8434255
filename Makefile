# Two commands do everything: `make compare` runs the main job, `make test` the tests. Both set up what they need.
# `make test-all` also runs the slow tests, as continuous integration does; `make check` formats, lints and checks types;
# `make docs` builds the documentation, and `make links` checks its links to other sites (which needs a network).
PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
INSTALLED := $(VENV)/.installed

SPHINX := $(BIN)/python -m sphinx -j auto -d docs/_build/doctrees

.PHONY: compare test test-all check docs links

compare: $(INSTALLED)
	$(BIN)/python -m lmzoo compare --budget quick --out runs/quick

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: $(INSTALLED)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m basedpyright
	$(BIN)/lint-imports

docs: $(INSTALLED)
	$(SPHINX) -W --keep-going -b html docs docs/_build/html

links: $(INSTALLED)
	$(SPHINX) -b linkcheck docs docs/_build/links

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('lmzoo needs Python 3.11 or later; this is ' + sys.version.split()[0] + ': make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev,docs]"
	$(BIN)/python -c "import pathlib; pathlib.Path('$(INSTALLED)').touch()"
