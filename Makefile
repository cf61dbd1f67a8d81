# The commands of this project. `make` lists them; CONTRIBUTING.md says when to use which.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?=
ARGS ?=
BIN := .venv/bin
ON_SCREEN := $(BIN)/python scripts/with_display.py
HAS_SCREEN := $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname -s)))

export PYTHON
export QT_API := pyqt6
export PYTEST_QT_API := pyqt6
export NO_MKDOCS_2_WARNING := 1

.PHONY: help setup setup-python demo test lint format docs bench clean distclean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Prepare this checkout: system libraries if missing, then .venv
	@scripts/setup.sh

setup-python:
	@scripts/setup.sh python

demo: setup ## Show the demo in a window, or write it to demo-output/ where there is no screen
	@$(if $(HAS_SCREEN),$(BIN)/napari-em-seg demo,$(ON_SCREEN) $(BIN)/napari-em-seg demo --headless demo-output) $(ARGS)

test: setup ## Run the tests, in two processes; make test ARGS="tests/test_volume.py -k crop" runs some, in one
	@$(ON_SCREEN) $(BIN)/python -m pytest $(if $(ARGS),$(ARGS),-n 2 --dist loadfile)

lint: setup-python ## Check style, types, import directions, the plugin's manifest and the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari-em-seg
	$(BIN)/mkdocs build --strict --quiet

format: setup-python ## Let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup-python ## Build the documentation into site/; make docs ARGS=serve shows it while you write
	$(BIN)/mkdocs $(if $(ARGS),$(ARGS),build --strict)

bench: setup ## Run every module under benchmarks/, one by one, to get the figures
	@failed=(); \
	for file in benchmarks/[!_]*.py; do \
		[[ -e $$file ]] || { echo "no modules under benchmarks/"; break; }; \
		echo "== $$file"; \
		$(ON_SCREEN) $(BIN)/python "$$file" $(ARGS) || failed+=("$$file"); \
	done; \
	[[ $${#failed[@]} == 0 ]] || { echo "failed: $${failed[*]}" >&2; exit 1; }

clean: ## Remove what the commands above produced, but not .venv
	rm -rf build dist site demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks scripts -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## Remove .venv as well
	rm -rf .venv
