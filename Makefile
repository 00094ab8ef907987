# make serve    a server on https://localhost:8443 and ssh://localhost:2222, its data in ./var
# make test     every test, with all the set-up they need
# make check    what CI runs: lint, types, import contracts, tests
# make lint     the same without the tests
# make torture  the long version of the tests that hurt a server; prints what it measured (some 30 minutes)

PYTHON ?= python3
DATA   ?= var
JOBS   ?= 2
ARGS   ?=

VENV := .venv
BIN  := $(VENV)/bin
NPM  := .cache/npm
CLIENT := tests/scenarios/clients/isomorphic

.DEFAULT_GOAL := help
.PHONY: help serve test check lint torture docker-lint clean

help:
	@sed -n 's/^# //p' Makefile

serve: $(VENV)/serve.stamp
	@exec $(BIN)/gitserver serve --init --data $(DATA)

test: $(VENV)/test.stamp $(NPM)/stamp
	$(BIN)/pytest -n $(JOBS) $(ARGS)

check: lint test

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

torture: $(VENV)/test.stamp
	GITSERVER_TORTURE=1 $(BIN)/pytest -m torture -rP --timeout 14400 $(ARGS)

docker-lint:
	@command -v hadolint >/dev/null || { echo "hadolint is missing: see https://github.com/hadolint/hadolint"; exit 1; }
	hadolint Dockerfile

clean:
	rm -rf $(VENV) .cache build dist *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "gitserver needs Python 3.11 or newer; say which with: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "This Python makes no virtual environments; on Debian, run: sudo apt-get install python3-venv"; exit 1; }
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/serve.stamp: setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing gitserver and what it needs into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -e .
	@touch $@

$(VENV)/test.stamp: setup.cfg pyproject.toml .ci/system | $(BIN)/python
	@.ci/system test
	@echo "Installing gitserver and what its tests need into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -e '.[test,dev,postgres]'
	@touch $@ $(VENV)/serve.stamp

$(NPM)/stamp: $(CLIENT)/package.json $(CLIENT)/package-lock.json
	@echo "Installing isomorphic-git into $(NPM)"
	@mkdir -p $(NPM)
	@cp $^ $(NPM)/
	@npm ci --prefix $(NPM) --no-audit --no-fund
	@touch $@
