#!/usr/bin/env bash
# End the Slurm that start.sh started, with all its jobs, and remove what it has left.
set -uo pipefail
readonly state=/var/lib/golf-test-slurm

[[ -d $state ]] || exit 0
timeout 10 scancel --user "$(id -un)" 2>/dev/null
for _ in {1..50}; do
    [[ -n $(timeout 5 squeue --noheader 2>/dev/null) ]] || break
    sleep 0.2
done
for file in "$state/slurmd.pid" "$state/slurmctld.pid" /run/munge/munged.pid; do
    if pid=$(cat "$file" 2>/dev/null) && kill "$pid" 2>/dev/null; then
        timeout 10 tail --pid="$pid" -f /dev/null # until it is gone
    fi
done
# Jobs of a node that was set down are out of Slurm's sight and may be at work still.
grep -lszx 'SLURM_CLUSTER_NAME=golf-test' /proc/[0-9]*/environ | while IFS=/ read -r _ _ pid _; do
    kill -KILL "$pid" 2>/dev/null
done
rm -rf "$state" /etc/slurm/slurm.conf /etc/slurm/gres.conf
