# The commands of the project; `make` alone lists them. None needs an activated environment.
SHELL := /bin/bash
VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
# Two processes with one thread each, and all tests of a file in one of them.
IN_TWO := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m pytest --numprocesses 2 --dist loadfile --durations 15

.DEFAULT_GOAL := help
.PHONY: help setup run test test-fast lint docs

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## install everything into .venv, and Psi4 (PYTHON=..., GOLF_PSI4_PYTHON=... to choose; WITHOUT_PSI4=1)
	@setup/install.sh

run: setup ## run the study and print the table; after a crash, go on (CONFIG=my.yaml, PROFILE=slurm to choose)
	@setup/run.sh $(if $(PROFILE),--profile '$(subst ','\'',$(PROFILE))') $(if $(CONFIG),--configfile '$(subst ','\'',$(CONFIG))')

test: setup ## run the test suite (CI=true, as root: install and start a Slurm of one node for it, too)
	@status=0; \
	$(VENV) $(IN_TWO) -m 'not slurm and not study' || status=1; \
	$(VENV) python -m pytest --durations 15 -m 'slurm or study' || status=1; \
	exit $$status

test-fast: setup ## run the tests that need neither Psi4 nor Slurm nor a browser, in three minutes
	@$(VENV) $(IN_TWO) -m 'not psi4 and not slurm and not browser and not study and not slow'

lint: setup ## ruff, mypy, snakefmt, snakemake --lint, and phrases to avoid
	$(VENV) ruff check .
	$(VENV) ruff format --check .
	$(VENV) mypy golf
	$(VENV) snakefmt --check Snakefile rules
	$(VENV) snakemake --lint
	$(VENV) python tools/dialect.py

docs: setup ## build docs/ into site/; open site/index.html, no network needed
	$(VENV) python docs/site/configuration.py
	$(VENV) mkdocs build --strict --quiet
