# The commands people and CI run. Each sets up what it needs, once: .venv with its packages is made
# anew only when the requirements change.

PYTHON ?= python3
CONFIG ?= configs/lenet5.py:data=digits
WORKDIR ?= runs/lenet5_digits

BIN := .venv/bin
RUNNING := .venv/.running
TESTING := .venv/.testing

# LOCKED=1 installs the versions that requirements/ has for this Python, and no newer ones.
LOCKED ?=
LOCKED_FOR ?= python3.11 python3.12 python3.13
VERSION = python$(shell $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	$(if $(LOCKED),--constraint requirements/$(VERSION).txt)

.PHONY: train native study test test-slow check format lock clean
.DEFAULT_GOAL := train

train: native
	$(BIN)/python train.py --config=$(CONFIG) --workdir=$(WORKDIR)

# Convolutions compiled for this processor, for training on CPU; one line where no compiler is.
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
	$(BIN)/python -m pytest -m learns tests/test_learning.py

# The 20 and 56 layers of He et al. 2016a, Fig. 1, plain and residual, with plain-44 between and
# plain-56 without warm-up: three seeds, as many as a verdict needs, a run on each core.
study: native
	$(BIN)/python reproduce.py degradation --data=digits --seeds=0,1,2 \
		--runs='*-20' --runs=plain-44 --runs='*-56*'

format: $(TESTING)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Writes the versions that pip finds today for each Python: what LOCKED=1 installs from then on.
lock:
	set -e; mkdir -p requirements; for python in $(LOCKED_FOR); do \
		new=$$(mktemp -d); \
		$$python -m venv $$new; \
		$$new/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt; \
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
	@echo "Installing packages into .venv: one to three minutes, once."
	$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(TESTING): requirements-dev.txt $(RUNNING)
	$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@
