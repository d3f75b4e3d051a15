#!/usr/bin/env bash
# Run by Snakemake inside the environment of nnp.yaml; by hand: activate it, then run this.
set -euo pipefail
python -m pip --quiet install --no-deps schnetpack==2.1.1
