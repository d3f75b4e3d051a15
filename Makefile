# The commands of the project; `make` alone lists them. None needs an activated environment.
SHELL := /bin/bash
VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"

.DEFAULT_GOAL := help
.PHONY: help setup run test lint

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## install everything into .venv, and Psi4 (PYTHON=..., GOLF_PSI4_PYTHON=... to choose)
	@setup/install.sh

# A run that was killed leaves Snakemake's lock behind; it is removed while no other `make run` is at work (flock).
run: setup ## run the whole study of config.yaml and print the table
	@exec 9>.venv/run.lock; flock --nonblock 9 || { echo "make run: already running in this folder" >&2; exit 1; }; \
	export $(VENV); snakemake --unlock --quiet all >/dev/null 2>&1; snakemake --cores all

test: setup ## run the test suite
	$(VENV) python -m pytest --durations=15

lint: setup ## ruff, mypy, snakefmt and snakemake --lint
	$(VENV) ruff check .
	$(VENV) ruff format --check .
	$(VENV) mypy golf
	$(VENV) snakefmt --check Snakefile rules
	$(VENV) snakemake --lint
