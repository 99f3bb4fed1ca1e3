# The commands people and CI run. Each sets up what it needs, once: .venv with its packages is made
# anew only when the requirements change.

PYTHON ?= python3
CONFIG ?= configs/lenet5.py:data=digits
WORKDIR ?= runs/lenet5_digits

BIN := .venv/bin
RUNNING := .venv/.running
TESTING := .venv/.testing

.PHONY: train study test test-slow check format clean
.DEFAULT_GOAL := train

train: $(RUNNING)
	$(BIN)/python train.py --config=$(CONFIG) --workdir=$(WORKDIR)

test: $(TESTING)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(TESTING)
	$(BIN)/python -m pytest -m slow

check: $(TESTING)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/vulture
	$(BIN)/python reproduce.py --check

# The 20 and 56 layers of He et al. 2016a, Fig. 1, plain and residual, with plain-44 between and
# plain-56 without warm-up: two seeds, 8 minutes on two cores.
study: $(RUNNING)
	$(BIN)/python reproduce.py degradation --data=digits --seeds=0,1 \
		--runs='*-20' --runs=plain-44 --runs='*-56*'

format: $(TESTING)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv

$(RUNNING): requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(TESTING): requirements-dev.txt $(RUNNING)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
