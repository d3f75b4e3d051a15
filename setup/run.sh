#!/usr/bin/env bash
# Run the study with the Python of .venv, from this folder; `make run` calls it. Arguments: those of `golf run`.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
export PATH="$PWD/.venv/bin:$PATH"
exec python -m golf.cli.main run "$@"
