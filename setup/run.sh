#!/usr/bin/env bash
# Run the study of config.yaml; `make run` calls it. A run that was killed leaves Snakemake's lock behind: it is removed
# here if the mark of a `make run` that never came to its end is still there, and none is at work now.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH"
readonly mark=.snakemake/make-run-at-work

exec 9>.venv/run.lock
flock --nonblock 9 || {
    echo "make run: another one is at work in this folder" >&2
    exit 1
}
[[ ! -e $mark ]] || snakemake --unlock >/dev/null 2>&1
mkdir -p .snakemake
touch "$mark"
snakemake --cores all
status=$?
rm -f "$mark"
exit $status
