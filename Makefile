# Everything that is done with this project, by name.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# Plain torch from PyPI brings CUDA libraries of several GB along on Linux; this release is small
# where a CPU build is at hand. Take another with: make quickstart TORCH="torch==2.14.1"
TORCH ?= torch==2.13.0

.PHONY: quickstart test check lint types unit format clean

quickstart: $(BIN)/.installed  ## the main job on the bundled pair: runs/quickstart/report/index.html
	$(BIN)/warmup-distill run recipes/quickstart.yaml

test: $(BIN)/.installed-dev check  ## everything CI checks

check: lint types unit

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

unit:
	$(BIN)/pytest

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Installed once; again only when what is declared changes.
$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt "$(TORCH)" -e .
	touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(BIN)/pip install -q -c constraints.txt "$(TORCH)" -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) runs
