#!/usr/bin/env bash
# Run Snakemake with the arguments given, here or with `--profile slurm`; `make run` calls it. It is also what to type
# after a crash. A Snakemake that was killed leaves its lock behind, and in Slurm its jobs: if the mark of a run that
# never came to its end is still there, and none is at work now, the lock is removed and pending jobs are cancelled.
# Running jobs are left to finish their labels; their successors wait for them (golf/locks.py).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
export PATH="$PWD/.venv/bin:$PATH"
readonly state=.snakemake
readonly mark=$state/make-run-at-work

say() { printf 'make run: %s\n' "$*" >&2; }

# Slurm calls the jobs of a Snakemake by the id that stands in its log.
run_ids() { # of all runs since the mark was made
    find "$state/log" -name '*.log' -newer "$mark" -exec sed -n 's/^SLURM run ID: //p' {} + 2>/dev/null
}

recover() {
    local id running
    say "the last run was cut off"
    for id in $(run_ids); do
        scancel --state=PENDING --name="$id" || say "Slurm does not answer; cancel the pending jobs called $id yourself"
        running=$(squeue --noheader --name="$id" --states=RUNNING,COMPLETING --format='%i %k' 2>/dev/null)
        [[ -z $running ]] || say "these jobs of it still run, and will be waited for where the same work is to be done:" \
            "$(printf '\n%s' "$running")"
    done
    snakemake --unlock "$@" >"$state/unlock.log" 2>&1 || {
        cat "$state/unlock.log" >&2
        say "the lock of that run could not be removed, see above; mend it and type the same again"
        exit 1
    }
}

mkdir -p "$state"
exec 9>"$state/make-run.lock"
flock --timeout 10 9 || { # one that was just killed takes a moment to go
    say "another one is at work in this folder"
    exit 1
}
[[ ! -e $mark ]] || recover "$@"
touch "$mark"
snakemake "$@"
status=$?
[[ $status -ge 128 ]] || rm -f "$mark" # ended by a signal, it could not clear up after itself: the next run does
exit $status
