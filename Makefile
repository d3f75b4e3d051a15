# The commands of the project; `make` alone lists them. None needs an activated environment.
SHELL := /bin/bash
VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"

.DEFAULT_GOAL := help
.PHONY: help setup run test lint docs

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## install everything into .venv, and Psi4 (PYTHON=..., GOLF_PSI4_PYTHON=... to choose; WITHOUT_PSI4=1)
	@setup/install.sh

run: setup ## run the study and print the table; after a crash, go on (CONFIG=my.yaml, PROFILE=slurm to choose)
	@setup/run.sh $(if $(PROFILE),--profile '$(subst ','\'',$(PROFILE))') $(if $(CONFIG),--configfile '$(subst ','\'',$(CONFIG))')

test: setup ## run the test suite (CI=true, as root: install and start a Slurm of one node for it, too)
	$(VENV) python -m pytest --durations=15

lint: setup ## ruff, mypy, snakefmt and snakemake --lint
	$(VENV) ruff check .
	$(VENV) ruff format --check .
	$(VENV) mypy golf
	$(VENV) snakefmt --check Snakefile rules
	$(VENV) snakemake --lint

docs: setup ## build docs/ into site/; open site/index.html, no network needed
	$(VENV) python docs/site/configuration.py
	$(VENV) mkdocs build --strict --quiet
