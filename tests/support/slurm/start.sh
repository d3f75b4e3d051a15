#!/usr/bin/env bash
# Start a one-node Slurm for the tests: munged, slurmctld and slurmd, without systemd. Needs root; on Debian and Ubuntu
# it installs what is missing. One that it has started before is left as it is. stop.sh ends what this started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The executor's job steps forget SLURM_CONF, so the configuration has to be where Slurm looks for it by itself.
readonly state=/var/lib/golf-test-slurm conf=/etc/slurm/slurm.conf seconds=30

fail() {
    printf 'start.sh: %s\n' "$*" >&2
    exit 1
}
node_state() { timeout 5 sinfo --noheader --format %T 2>/dev/null || true; }

works() { [[ $(node_state) =~ ^(idle|mixed|allocated)$ ]]; }

if [[ -e $state ]] && works; then
    exit 0
fi
[[ $(id -u) -eq 0 ]] || fail "Slurm can be started by root only"
if ! command -v slurmctld slurmd sbatch munged >/dev/null; then
    command -v apt-get >/dev/null || fail "slurmctld, slurmd, sbatch or munged is missing, and there is no apt-get"
    apt-get update -qq || true # with package lists at hand the next line may still work
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        slurmctld slurmd slurm-client munge >/dev/null || fail "apt-get could not install Slurm (see above)"
fi
[[ ! -e $conf || -e $state ]] || fail "$conf is not ours: this machine has a Slurm of its own"

host=$(hostname -s)
getent hosts "$host" >/dev/null || echo "127.0.0.1 $host" >>/etc/hosts
install -d -o munge -g munge -m 0755 /run/munge # made by systemd elsewhere
if ! munge --no-input >/dev/null 2>&1; then
    runuser -u munge -- "$(command -v munged)" || fail "munged does not start"
fi
install -d /etc/slurm "$state" "$state/slurmctld" "$state/slurmd"
sed -e "s|@HOST@|$host|g" -e "s|@STATE@|$state|g" slurm.conf.in >"$conf"
echo "Name=gpu File=/dev/null" >/etc/slurm/gres.conf # a pretended GPU; without File the node is refused
slurmctld || fail "slurmctld does not start; see $state/slurmctld.log"
slurmd || fail "slurmd does not start; see $state/slurmd.log"
for _ in $(seq $((seconds * 5))); do
    if works; then
        exit 0
    fi
    sleep 0.2
done
fail "the node is not idle after $seconds s but '$(node_state)'; see $state/slurmctld.log"
