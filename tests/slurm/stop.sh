#!/usr/bin/env bash
# End the Slurm that start.sh started, with all its jobs, and remove what it has left.
set -uo pipefail
readonly state=/var/lib/golf-test-slurm

[[ -d $state ]] || exit 0
timeout 10 scancel --user "$(id -un)" --signal=KILL 2>/dev/null
for file in "$state/slurmd.pid" "$state/slurmctld.pid" /run/munge/munged.pid; do
    if pid=$(cat "$file" 2>/dev/null) && kill "$pid" 2>/dev/null; then
        timeout 10 tail --pid="$pid" -f /dev/null # until it is gone
    fi
done
rm -rf "$state" /etc/slurm/slurm.conf /etc/slurm/gres.conf
