# Every target does its own set-up; the first time takes a minute or two, later ones none.
PYTHON ?= python3
OUT ?= build/demo
BIN := .venv/bin

.PHONY: demo test check bench clean lock setup

demo: setup
	$(BIN)/keyeforge demo --out $(OUT)

test: check
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Tables to the screen and to build/bench/<name>.txt; figures to build/bench/<name>.json where a benchmark compares.
bench: SHELL := /bin/bash
bench: setup
	@mkdir -p build/bench; set -o pipefail; for file in benchmarks/*.py; do echo "== $$file"; \
	$(BIN)/python -u "$$file" 2>&1 | tee "build/bench/$$(basename $$file .py).txt" || exit 1; done

# Only the checkout's outputs: .venv and the fetched corpora stay.
clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -print | xargs rm -rf

# Resolves pyproject.toml anew, where the package clients' own settings say.
lock:
	@$(PYTHON) tools/setup_env.py --lock

setup:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@$(PYTHON) tools/setup_env.py
