# A real Slurm on this machine, for tests: its daemons and all their files below one folder.
# Sourced by common.sh. Needs no other account than the one that runs it, root or not.
#
#   cluster_missing          print what is not installed, with Debian's package names
#   cluster_start FOLDER [HOST…]
#                            munged, slurmctld, a slurmd for each node; exports SLURM_CONF; waits until
#                            the nodes are idle. This machine is the one node, or the hosts that
#                            hosts_start has made are, which share its cores and memory
#   controller_start         start the controller (again), from the state it saved
#   cluster_stop             stop everything that cluster_start started

PATH=$PATH:/usr/sbin:/sbin

cluster_missing() {
    local pair
    for pair in munged:munge slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client \
        srun:slurm-client squeue:slurm-client scancel:slurm-client scontrol:slurm-client; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair%%:*} (Debian package ${pair##*:})"
    done
    python -c 'import snakemake_executor_plugin_slurm' 2>/dev/null \
        || echo "snakemake-executor-plugin-slurm (pip install -e '.[slurm]')"
}

_free_ports() {
    python - "$1" <<'PYTHON'
import socket
import sys

sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in sockets])
PYTHON
}

# _write_configuration FOLDER [HOST…]
_write_configuration() {
    local folder=$1 name cpus memory controller_port node_port address=127.0.0.1 count=$(($# - 1)) gpus=1
    shift
    name=$(hostname -s)
    if [ "$count" -gt 0 ]; then
        address=$(host_address "$name")
    else
        set -- "$name"
        count=1 gpus=2
    fi
    # nproc would obey OMP_NUM_THREADS.
    cpus=$(($(getconf _NPROCESSORS_ONLN) / count))
    memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    read -r controller_port node_port < <(_free_ports 2)
    cat >"$folder/slurm.conf" <<CONF
ClusterName=voxseq
SlurmctldHost=$name($address)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
SlurmctldPort=$controller_port
SlurmdPort=$node_port
AuthType=auth/munge
# A job that went back to the queue waits until its old credential has expired, two minutes by default.
AuthInfo=socket=$folder/munge.socket,cred_expire=15
CredType=cred/munge
StateSaveLocation=$folder/state
# %n is the node's name.
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
# What needs control groups or a database is left out.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
# Memory is what the jobs ask for, and who takes more is killed.
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=20
# The jobs are counted at the end.
MinJobAge=86400
SlurmctldTimeout=30
SlurmdTimeout=300
GresTypes=gpu
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    for name in "$@"; do
        [ "$address" = 127.0.0.1 ] || address=$(host_address "$name")
        echo "NodeName=$name NodeAddr=$address CPUs=$cpus RealMemory=$((memory / count))" \
            "Gres=gpu:$gpus State=UNKNOWN"
    done >>"$folder/slurm.conf"
    # GPUs that are only counted; Slurm wants a device file for each.
    printf 'AutoDetect=off\n' >"$folder/gres.conf"
    printf 'Name=gpu File=%s\n' /dev/null /dev/zero | head -n "$gpus" >>"$folder/gres.conf"
}

# The plugin's job step (0.6.1) clears SLURM_CONF before the job begins, which a cluster that is
# configured in /etc/slurm does not notice.
_wrap_commands() {
    local name
    mkdir -p "$CLUSTER/bin"
    for name in scontrol squeue srun; do
        printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v "$name")" \
            >"$CLUSTER/bin/$name"
        chmod +x "$CLUSTER/bin/$name"
    done
    PATH=$CLUSTER/bin:$PATH
}

cluster_start() {
    local host
    CLUSTER=$1
    shift
    mkdir -p "$CLUSTER"/state "$CLUSTER"/munge
    chmod 700 "$CLUSTER/munge"
    _write_configuration "$CLUSTER" "$@"
    export SLURM_CONF=$CLUSTER/slurm.conf
    _wrap_commands
    (umask 077 && head -c 1024 /dev/urandom >"$CLUSTER/munge/key")
    munged --key-file="$CLUSTER/munge/key" --seed-file="$CLUSTER/munge/seed" \
        --socket="$CLUSTER/munge.socket" --pid-file="$CLUSTER/munge/pid" \
        --log-file="$CLUSTER/munge/log" --num-threads=2
    controller_start
    if [ $# -eq 0 ]; then
        slurmd
    else
        for host; do on_host "$host" slurmd; done
    fi
    _wait_for_nodes
}

controller_start() { slurmctld; }

_wait_for_nodes() {
    local end=$((SECONDS + 60))
    while [ $SECONDS -lt $end ]; do
        [ "$(sinfo --noheader --Node --format=%T 2>/dev/null | sort -u)" = idle ] && return
        sleep 1
    done
    echo "error: the nodes are not idle after a minute; last lines of the daemons' logs:" >&2
    tail -n 20 "$CLUSTER"/slurm*.log >&2
    return 1
}

cluster_stop() {
    local file process
    [ -n "${CLUSTER:-}" ] || return 0
    for file in "$CLUSTER"/slurmctld.pid "$CLUSTER"/slurmd-*.pid "$CLUSTER"/munge/pid; do
        [ ! -e "$file" ] || kill "$(cat "$file")" 2>/dev/null || true
    done
    sleep 1
    # Jobs outlive the daemons. Those of this cluster, and of no other, carry its configuration; the
    # daemons of their steps work in its folder.
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/cwd")" = "$CLUSTER" ] || {
            grep -qsxz "SLURM_CONF=$CLUSTER/slurm.conf" "$process/environ" \
                && grep -qsz '^SLURM_JOB_ID=' "$process/environ"
        }; then
            kill -KILL "${process#/proc/}" 2>/dev/null || true
        fi
    done
}
