# `make run` needs Python 3.11+ and nothing else; `make test` fetches what it lacks.

# Only what is not there yet is made: the stamps say for which pyproject.toml the environment was filled.
VENV ?= .venv
BIN := $(VENV)/bin
ADDRESS ?= 127.0.0.1:8000
ARGS ?=
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
REQUIREMENTS := pyproject.toml testproject/requirements.txt

# Many machines have several Pythons, and pyenv's shims exist for versions that do not run: ask each one.
CANDIDATES := $(PYTHON) python3 python python3.14 python3.13 python3.12 python3.11
FIND_PYTHON = for python in $(CANDIDATES); do \
	"$$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done

# In several processes (tests/side_by_side.py); ARGS=-n0 keeps all in one, as a debugger wants it.
SIDE_BY_SIDE := -n auto

.DEFAULT_GOAL := help
.PHONY: help run test test-quick test-django test-apps test-agents lint format bench attacks tox docs pictures clean packages

help: ## Show what there is to make.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.stamp-run ## Serve the shop at http://127.0.0.1:8000, on SQLite.
	@$(BIN)/python manage.py migrate --verbosity 0
	@$(BIN)/python manage.py seed
	@echo "Open http://$(ADDRESS)/ (Ctrl-C stops)."
	@# The supplier whom /wait asks, for as long as the shop is served.
	@$(BIN)/python manage.py slowservice 8099 --with-parent & exec $(BIN)/python manage.py runworkers $(ADDRESS) $(ARGS)

test: packages $(VENV)/.stamp-dev ## Run every test (ARGS='-k pool' for some of them).
	@# One run for all, so that no process waits for the end of a part. Coverage counts in tests/unit alone (tests/covered.py).
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(if $(ARGS),$(ARGS),--cov --cov-report=term)

test-quick: packages $(VENV)/.stamp-dev ## Run the tests that need neither a database server nor a process tree.
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/unit tests/http tests/contracts $(ARGS)

test-django: packages $(VENV)/.stamp-dev ## Run Django's own tests on our engines and compare with Django's (ARGS=--help).
	$(BIN)/python -m tests.db.django_suite $(ARGS)

test-apps: packages $(VENV)/.stamp-dev ## Crawl applications from PyPI on djworker and gunicorn (ARGS='wagtail oscar').
	$(BIN)/python -m tests.apps $(ARGS)

test-agents: packages $(VENV)/.stamp-dev ## Serve the shop with agents from PyPI, also under gunicorn (ARGS='Datadog Scout').
	$(BIN)/python -m tests.agents $(ARGS)

lint: packages $(VENV)/.stamp-dev ## Check style, types, import contracts and the documentation.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if [ -f docs/conf.py ]; then set -x; $(BIN)/python -m sphinx --nitpicky --fail-on-warning --quiet docs docs/_build/html; fi

format: $(VENV)/.stamp-dev ## Let ruff lay out the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: packages $(VENV)/.stamp-dev ## Compare with other servers (ARGS=--help for the options).
	$(BIN)/python -m tests.benchmarks $(ARGS)

attacks: packages $(VENV)/.stamp-dev ## Run clients at their worst against djworker and gunicorn (ARGS='slow_bodies').
	$(BIN)/python -m tests.attacks $(ARGS)

tox: packages $(VENV)/.stamp-dev ## Run the tests on each Python and Django that is here.
	@# pyenv's Pythons are no commands until somebody chooses them.
	PATH="$$PATH:$$(printf '%s:' $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.1[1-9]*/bin)" $(BIN)/tox run $(ARGS)

docs: $(VENV)/.stamp-docs ## Build the documentation into docs/_build/html.
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning docs docs/_build/html

pictures: packages $(VENV)/.stamp-dev ## Make the documentation's pictures of the page in the admin and of top anew.
	SCREENSHOTS=$(CURDIR)/docs/_static $(BIN)/python -m pytest tests/shop/test_server_page.py -n0 -k 'fits_a_desk or top_shows' --timeout 600 $(ARGS)

packages:
	@.ci/packages

clean: ## Remove the virtual environment, caches and the shop's database.
	rm -rf $(VENV) .tox .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist docs/_build db.sqlite3*

$(BIN)/python:
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
		echo "make: no Python 3.11 or newer with venv here (on Debian: apt install python3-venv;" >&2; \
		echo "make: or name one: make run PYTHON=/path/to/python3)." >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV)

# Django's test client of the test run, tox and the linters come with the dev extra, which has all that `run` needs too.
$(VENV)/.stamp-run: $(REQUIREMENTS) | $(BIN)/python
	@test -f $(VENV)/.stamp-dev || { echo "Installing djworker and the shop's requirements"; set -e; \
		$(PIP) install --editable '.[reload]' --requirement testproject/requirements.txt; }
	@touch $@

# Of the documentation: no database, no client library of one that has to be compiled.
$(VENV)/.stamp-docs: $(REQUIREMENTS) | $(BIN)/python
	@test -f $(VENV)/.stamp-dev || { echo "Installing what the documentation is built with"; \
		$(PIP) install --editable '.[docs]' --requirement testproject/requirements.txt; }
	@touch $@

$(VENV)/.stamp-dev: $(REQUIREMENTS) | $(BIN)/python packages
	@echo "Installing the development tools"
	@# The pip of Python 3.11 (23.2) finds no set of OpenTelemetry's packages where one of them is a release behind the others.
	@$(PIP) install --upgrade 'pip>=24.1'
	@$(PIP) install --editable '.[dev]' --requirement testproject/requirements.txt
	@touch $@ $(VENV)/.stamp-run
