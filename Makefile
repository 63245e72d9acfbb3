# The chores of Postroom. `make setup` needs Python 3.11 or newer and the network or a wheel
# mirror; the others call it, and it is quick when nothing changed. System packages that the
# tests can use are in tools/system-packages.txt; `.ci/run` installs them.

PYTHON ?= python3
BIN    := .venv/bin
PY     := $(BIN)/python
STAMP  := .venv/setup-stamp
CODE   := src tests tools $(if $(wildcard bench/*.py),bench)

# The form of make verify: long, or the short seeded one that CI runs.
FORM   ?= long
# How many groups of it run at once; numbers are taken with one.
AT_ONCE ?= 1

.PHONY: help setup run test check verify bench
.DEFAULT_GOAL := help

help:
	@echo 'make setup    .venv with everything locked in requirements/, and the postroom command'
	@echo 'make run      a server in ./data on ports 20000 above the standard ones'
	@echo 'make test     the tests, on SQLite and, where one is installed, on PostgreSQL'
	@echo 'make check    style, types, floors between rooms, house rules, generated documents'
	@echo 'make verify   the long proofs: fuzzing, crashes, replays (FORM=short for the short ones)'
	@echo 'make bench    what is fast and how fast, against peers and the bare machine'

setup: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Postroom needs Python 3.11 or newer: make setup PYTHON=python3.12' >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: setup
	$(BIN)/postroom serve --data ./data --port-offset 20000

# Without a PostgreSQL the tests of that engine are skipped, and the last lines say so.
test: setup
	$(PY) -m pytest -n 2 --dist loadfile

check: setup
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy --strict $(CODE)
	$(BIN)/lint-imports
	$(PY) -m tools.check_house
	$(PY) -m tools.coverage --check
	$(PY) -m tools.rfc_index --check
	$(PY) -m tools.extensions --check
	$(PY) -m tools.manual --check

verify: setup
	$(PY) -m tools.verify --form $(FORM) --at-once $(AT_ONCE)

bench: setup
	$(PY) -m bench
