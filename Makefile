# Everything this project can do, by name. `make` alone lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
NODE   := web/node_modules/.ready
# more than processors: half of what tests do is waiting for processes
WORKERS ?= 3
PARALLEL := --numprocesses $(WORKERS) --dist loadfile
FUZZ_S ?= 60
SIMULATE_S ?= 600
WORLDS ?= 500000
BENCHES := transfers batches logins balances growth memory peers failover payments pages streams

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup pages style types house test coverage explore simulate fault fuzz bench screenshots demo certs docs audit clean

help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## a virtual environment in .venv with all that is needed

# The stamp is made last, so an interrupted set-up is begun again.
$(READY): setup.cfg pyproject.toml
	@echo "setting up $(VENV); the first time takes about a minute"
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Fortress needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,bench]'
	@touch $@

# By the lock, so that everybody builds the same; no package's own script is run.
$(NODE): web/package.json web/package-lock.json web/.npmrc
	@command -v npm >/dev/null || { echo "the pages are built by Node 18 or newer with npm; on Debian: apt-get install nodejs npm"; exit 1; }
	@npm --prefix web ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

pages: $(NODE) ## build the pages of web/ into fortress/web/static/
	npm --prefix web run check
	npm --prefix web run build

style: setup ## lint (ruff)
	$(BIN)/ruff check .

types: setup $(NODE) ## check the types (mypy, strict; tsc for the pages)
	$(BIN)/mypy
	npm --prefix web run --silent check

house: setup ## check the rules of the house: imports, sizes, signs, test map
	$(BIN)/python -m pytest -q tests/test_house.py

test: style types coverage ## all checks and tests; the same command that CI runs
	$(BIN)/python -m pytest $(PARALLEL) $$($(BIN)/python -m tests.pure_coverage --ignored)

coverage: setup ## every branch of each pure module, by its own test file
	$(BIN)/python -m tests.pure_coverage $(PARALLEL)

explore: setup ## every order of events in the pair, WORLDS deep, and every fault of a payment up to three, for hours
	$(BIN)/python -m tests.pair.explorer $(WORLDS)
	$(BIN)/python -m tests.gateway.exploration

simulate: setup ## whole systems under faults, a seed after the other, for SIMULATE_S seconds, and broken rules to be found
	$(BIN)/python -m tests.simulation --seconds $(SIMULATE_S)
	$(BIN)/python -m tests.simulation --bugs

fault: setup ## kills, cuts, pauses, broken disks, for an hour or more; the results go into docs/reference/faults.md
	@rm -f .faults.jsonl
	FAULT_RESULTS=.faults.jsonl $(BIN)/python -m pytest tests/fault -m "fault or not fault" --timeout=600
	$(BIN)/python -m tests.fault.table .faults.jsonl docs/reference/faults.md

fuzz: setup ## feed the decoders noise for FUZZ_S seconds each
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@mkdir -p .fuzz
	set -e; for file in tests/fuzz/fuzz_*.py; do \
	  $(BIN)/python -m tests.fuzz.$$(basename $$file .py) -max_total_time=$(FUZZ_S) -artifact_prefix=.fuzz/; done

bench: setup ## measure everything; each line of JSON is one result
	set -e; for name in $(BENCHES); do $(BIN)/python -m bench.$$name; done

screenshots: setup ## a picture of every page and state in screenshots/: light, dark, and on a phone
	$(BIN)/python -m tests.browser.screenshots screenshots

demo: setup ## a bank on this machine with sample people and light load
	$(BIN)/fortress demo

certs: setup ## development certificates in certs/
	$(BIN)/python -m fortress.authority certs

docs: setup ## rewrite what derives from the code, and make HTML of all pages
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/python -m docs.generate
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

audit: setup ## look the dependencies up in the lists of known vulnerabilities
	$(BIN)/pip-audit --skip-editable

clean: ## take away what make made
	rm -rf $(VENV) web/node_modules build dist docs/_build *.egg-info .coverage .coverage.* .fuzz .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
