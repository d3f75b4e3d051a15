# The commands of the project; `make` alone lists them. None needs an activated environment.
SHELL := /bin/bash
VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slurm lint

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## install everything into .venv, and Psi4 (PYTHON=..., GOLF_PSI4_PYTHON=... to choose)
	@setup/install.sh

run: setup ## run the study and print the table; after a crash, go on (CONFIG=my.yaml, PROFILE=slurm to choose)
	@setup/run.sh $(if $(PROFILE),--profile $(PROFILE),--cores all) $(if $(CONFIG),--configfile $(CONFIG))

test: setup ## run the test suite, but for what needs a Slurm
	$(VENV) python -m pytest --durations=15 --ignore tests/test_slurm.py

test-slurm: setup ## as root: start a Slurm of one node, run the study and all faults on it
	$(VENV) CI=true python -m pytest --durations=0 tests/test_slurm.py

lint: setup ## ruff, mypy, snakefmt and snakemake --lint
	$(VENV) ruff check .
	$(VENV) ruff format --check .
	$(VENV) mypy golf
	$(VENV) snakefmt --check Snakefile rules
	$(VENV) snakemake --lint
