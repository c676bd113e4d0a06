.DEFAULT_GOAL := help
PYTHON ?= python3
UV := .venv/bin/uv
# Modules, not the commands beside them: the first line of those is the folder's path, which a shell may not understand.
RUN := .venv/bin/python -m
# Hermetic: the lock file decides, not what this shell happens to have set.
export UV_PROJECT_ENVIRONMENT := .venv
export PYTHONPATH :=
unexport VIRTUAL_ENV
# Without bytecode every process compiles our modules anew, and imports take three times as long. The set-up compiles the
# libraries, as nothing else does where steam-import is run by a shell that has this variable.
unexport PYTHONDONTWRITEBYTECODE
# Tests wait for clocks and servers as well, and each process imports them all; frames of a few rows gain nothing by threads.
WORKERS := 3
test coverage: export POLARS_MAX_THREADS := 1
test test-slow coverage bench: export POLARS_ENGINE_AFFINITY := in-memory

.PHONY: help
help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.venv/.synced: pyproject.toml uv.lock
	@echo "Setting up .venv with uv and the libraries the lock file names; this takes about a minute the first time." >&2
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@test -x $(UV) || .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(UV) sync --quiet --locked --inexact --all-extras --all-groups --compile-bytecode
	@touch $@

.PHONY: setup
setup: .venv/.synced ## Make .venv, with uv and everything the lock file names

.PHONY: demo
demo: setup ## A real library of 129 games through all three stages, with nothing configured
	@$(RUN) pipeline demo

.PHONY: test
test: setup ## Tests, linters, types and import contracts (under 3 minutes on two cores)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -c "from importlinter.cli import lint_imports_command; lint_imports_command()" --no-logo
	@$(MAKE) --no-print-directory --jobs 2 types quick

# Types are checked by one process, beside the tests; it prints errors alone.
.PHONY: types quick
types: setup
	$(RUN) mypy --no-error-summary
quick: setup
	$(RUN) pytest -n $(WORKERS) --dist worksteal -m "not slow and not live"

.PHONY: coverage
coverage: setup ## The same tests, and which lines and branches they reach (a third longer)
	$(RUN) pytest -n $(WORKERS) --dist worksteal -m "not slow and not live" --cov --cov-report=term

.PHONY: test-unit
test-unit: setup ## The tests of pure functions, schemas and settings (a few seconds)
	$(RUN) pytest -n 2 -q tests/frames tests/schemas tests/settings

.PHONY: test-slow
test-slow: setup ## The tests that take longer
	$(RUN) pytest -n $(WORKERS) --dist worksteal -m slow

.PHONY: test-live
test-live: setup ## The three stages against the real Steam, IGDB, S3 and PostgreSQL (.env.integration)
	$(RUN) pytest tests/live -m live -s

.PHONY: format
format: setup ## Format, and fix what ruff can fix
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.PHONY: notebooks
notebooks: setup ## Execute the notebooks on the demo's data, in place
	$(RUN) notebooks.execute

.PHONY: bench
bench: setup ## The figures of the project: accuracy, requests, ratios
	$(RUN) benchmarks.classification
	$(RUN) benchmarks.candidates
	$(RUN) benchmarks.catalogue
	$(RUN) benchmarks.load
	$(RUN) benchmarks.backfill
	$(RUN) benchmarks.users_of_database
	$(RUN) benchmarks.soak
	$(RUN) benchmarks.start_up
	$(RUN) benchmarks.cold_start

.PHONY: package
package: setup ## A zip for each Lambda function and architecture, in dist/lambda, with their sizes
	$(RUN) infra.package

.PHONY: release-check
release-check: setup ## Whether this can be released: version, changelog, lock, bundles, wheel and sdist
	$(RUN) infra.release_check
