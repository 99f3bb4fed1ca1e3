# The commands that people and CI run. Each installs what it needs into .venv, again only if the
# requirements change.

PYTHON ?= python3
CONFIG ?= configs/lenet5.py:data=digits
WORKDIR ?= runs/lenet5_digits

BIN := .venv/bin
RUNNING := .venv/.running
TESTING := .venv/.testing
DOCUMENTING := .venv/.documenting

# LOCKED=1 installs the versions listed in requirements/ for this Python.
LOCKED ?=
LOCKED_FOR ?= python3.11 python3.12 python3.13
VERSION = python$(shell $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	$(if $(LOCKED),--constraint requirements/$(VERSION).txt)

.PHONY: train native study test test-slow check docs notebook pictures format lock clean
.DEFAULT_GOAL := train

train: native
	$(BIN)/python train.py --config=$(CONFIG) --workdir=$(WORKDIR)

# Compiles the convolutions for this processor, for training on CPU; without a compiler, says so.
native: $(RUNNING)
	@$(BIN)/python models/native.py

test: native $(TESTING)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(TESTING)
	$(BIN)/python -m pytest -m slow

check: $(TESTING)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/vulture
	$(BIN)/python reproduce.py --check
	$(BIN)/python -m inspection.transcript --check docs/quiz.md docs/lecture.md
	$(BIN)/python -m pytest -m learns tests/test_learning.py tests/test_docs.py
	$(MAKE) docs
	$(BIN)/python -m pytest -q tests/test_browser_docs.py

# The site in build/docs: open build/docs/index.html. Fails on a dead link.
docs: $(DOCUMENTING)
	NO_MKDOCS_2_WARNING=1 JAX_PLATFORMS=cpu $(BIN)/python -m mkdocs build --quiet

# The pictures of networks in docs/pictures.
pictures: $(RUNNING)
	JAX_PLATFORMS=cpu $(BIN)/python -m lecture.pictures

# The lecture as a notebook: build/lecture.ipynb, for Jupyter or Colab.
notebook: $(DOCUMENTING)
	@mkdir -p build
	$(BIN)/jupytext --quiet --to ipynb --output build/lecture.ipynb notebooks/lecture.py

# The 20- and 56-layer networks of He et al. 2016a, Fig. 1, plain and residual, with plain-44 and
# plain-56 without warm-up: three seeds, the fewest for a verdict; one run per core.
study: native
	$(BIN)/python reproduce.py degradation --data=digits --seeds=0,1,2 \
		--runs='*-20' --runs=plain-44 --runs='*-56*'

format: $(TESTING)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Writes the current versions for each Python to requirements/, for LOCKED=1.
lock:
	set -e; mkdir -p requirements; for python in $(LOCKED_FOR); do \
		new=$$(mktemp -d); \
		$$python -m venv $$new; \
		$$new/bin/python -m pip install --quiet --disable-pip-version-check \
			-r requirements-dev.txt -r requirements-docs.txt; \
		$$new/bin/python -m pip freeze --disable-pip-version-check > requirements/$$python.txt; \
		rm -rf $$new; \
	done

clean:
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv

$(RUNNING): requirements.txt | $(BIN)/python
	@echo "Installing packages into .venv (only once): one to three minutes."
	$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(TESTING): requirements-dev.txt $(RUNNING)
	$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

$(DOCUMENTING): requirements-docs.txt $(RUNNING)
	$(PIP_INSTALL) -r requirements-docs.txt
	@touch $@
