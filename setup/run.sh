#!/usr/bin/env bash
# Run Snakemake with the arguments given, here or with `--profile slurm`; `make run` calls it. It is also what to type
# after a crash. A Snakemake that was killed leaves its lock behind, and in Slurm its jobs: if the mark of a run that
# never came to its end is still there, and none is at work on the same results now, the lock is removed and pending
# jobs are cancelled. Running jobs are left to finish their labels; their successors wait for them (golf/core/locks.py).
# Other studies of this clone, each with a results folder of its own, may be at work all the while.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
export PATH="$PWD/.venv/bin:$PATH"
readonly state=.snakemake/make-run

say() { printf 'make run: %s\n' "$*" >&2; }

# Jobs of this study in Slurm, whichever run they are of: id, state, name and what they do.
jobs() {
    squeue --noheader --user="$(id -un)" --states=PENDING,RUNNING,COMPLETING --format='%i %T %j %k' |
        while read -r id status name what; do
            [[ $name != "golf-${study}_"* ]] || printf '%s %s %s\n' "$id" "$status" "$what"
        done
}

recover() {
    local id status what found running=()
    say "the last run was cut off"
    if [[ $(tail -n +2 "$mark") == *--profile* ]]; then
        found=$(jobs) || say "Slurm does not answer; cancel the pending jobs called golf-${study}_... yourself"
        while read -r id status what; do
            if [[ $status == PENDING ]]; then
                scancel --state=PENDING "$id" || say "job $id could not be cancelled; cancel it yourself"
            elif [[ -n $id ]]; then
                scontrol update JobId="$id" Requeue=0 2>/dev/null # its successor is this run, not Slurm's second try
                running+=("$id $what")
            fi
        done <<<"$found"
        [[ ${#running[@]} -eq 0 ]] || say "these jobs of it still run, and will be waited for where the same work is to" \
            "be done:$(printf '\n%s' "${running[@]}")"
    fi
    python -m golf.study.recovery unlock "$@" || exit
}

# Snakemake, matplotlib and the compiled loops keep files in the user's cache.
find_cache() {
    local cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}
    if ! { mkdir -p "$cache" && [[ -w $cache ]]; } 2>/dev/null; then
        export XDG_CACHE_HOME=$PWD/.snakemake/cache
        say "$cache cannot be written to; using $XDG_CACHE_HOME"
        export MPLCONFIGDIR=${MPLCONFIGDIR:-$XDG_CACHE_HOME/matplotlib}
        mkdir -p "$XDG_CACHE_HOME" || exit
    fi
}

options=("$@")
if [[ " $* " != *" --profile "* ]]; then
    [[ -z ${SNAKEMAKE_PROFILE:-} ]] ||
        say "SNAKEMAKE_PROFILE=$SNAKEMAKE_PROFILE is not used; type make run PROFILE='$SNAKEMAKE_PROFILE' to use it"
    [[ " $* " == *" --cores "* ]] || options=(--cores "$(python -m golf.core.processors)" "$@")
fi
unset SNAKEMAKE_PROFILE
find_cache

found=$(python -m golf.study.recovery study "$@") || exit
{ read -r results && read -r study; } <<<"$found"
readonly mark=$state/$study.at-work
mkdir -p "$state" || exit
exec 9>"$state/$study.lock"
flock --timeout 10 9 || { # one that was just killed takes a moment to go
    say "another one is at work on $results"
    exit 1
}
[[ ! -e $mark ]] || recover "$@"
printf '%s\n' "$results" "$*" >"$mark"
snakemake --slurm-jobname-prefix "golf-$study" "${options[@]}"
status=$?
[[ $status -ge 128 ]] || rm -f "$mark" # ended by a signal, it could not clear up after itself: the next run does
exit $status
