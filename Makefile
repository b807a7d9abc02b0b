# `make run`, `make test`, `make docs` and `make bench` set up what they need on a fresh machine and then do it.
# make bench BENCH='--quick' passes options on; see benchmarks/README.md.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

QUICK := not (slow or slurm or ray or slides or browser)

MINUTES ?= 1

.PHONY: run test test-all chaos fuzz examples docs lint bench wheel clean

run: $(VENV)/.installed
	$(BIN)/survbench run --model amkd --cohort all

test: $(VENV)/.installed lint
	$(BIN)/pytest -n 2 --dist loadgroup -m '$(QUICK)'

test-all: $(VENV)/.installed lint
	$(BIN)/pytest -n 2 --dist loadgroup

# Import, overwrite, simulate and pack, killed and with a full disk at each of their file operations; `make test` does
# every tenth.
chaos: $(VENV)/.installed
	cd tests && ../$(BIN)/python -W ignore -m support.chaos

# Bytes of valid files changed at random, for each reader; what it finds is kept and read by every later test run.
# make fuzz MINUTES=10 READERS='h5 labels'
fuzz: $(VENV)/.installed
	cd tests && ../$(BIN)/python -m support.fuzzing --minutes $(MINUTES) $(READERS)
	$(BIN)/pytest -q tests/door/test_any_table.py --hypothesis-profile=fuzz

examples: $(VENV)/.installed
	@set -e; here=$$PWD; place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; cd "$$place"; \
	for script in "$$here"/examples/*.py; do echo "$$script"; "$$here/$(BIN)/python" "$$script"; done

docs: $(VENV)/.docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky docs docs/_build
	@echo "open docs/_build/index.html"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks $(BENCH)

wheel: $(VENV)/.installed
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,e2e]'
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) dist docs/_build
