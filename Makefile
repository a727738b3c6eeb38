# Every verb of the project. `make run` is all a new machine needs.
PYTHON ?= python3
BIN := .venv/bin

run: install  ## install if needed and open the dashboard; an empty home starts the quickstart
	$(BIN)/dianjing ui --quickstart

test: check  ## everything but the long tests, two files at a time
	$(BIN)/pytest tests -m "not long" -n 2 --dist loadfile

test-long: install-test  ## rounds of kills, races, simulations
	$(BIN)/pytest tests -m long --timeout 3000

test-gpu: install-test  ## what needs CUDA; skips itself without it
	$(BIN)/pytest tests -m gpu

check: install-test  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: install-test  ## every number the README claims, one JSON line each
	@for file in bench/[a-z]*.py; do PYTHONPATH=. $(BIN)/python $$file || exit 1; done

screenshots: install-test  ## a picture of every page, into screenshots/
	$(BIN)/python -m tests.browser.screenshots

install:
	@$(PYTHON) scripts/setup.py

install-test:
	@$(PYTHON) scripts/setup.py --test

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' Makefile | while read verb words; do printf '  make %-12s %s\n' "$$verb" "$$words"; done

.PHONY: run test test-long test-gpu check bench screenshots install install-test help
