#!/usr/bin/env bash
# Starts a command of Python once for each GPU by torchrun: distributed.sh NODES GPUS_PER_NODE PYTHON ARGUMENT…
#
# One node: inside any job. Several: inside a Slurm job whose batch script runs on the first of them.
# torchrun ends with 1 whatever its processes ended with; this ends with 75 when one of them did, that
# is, when it stopped on request and can go on from its checkpoint.
set -euo pipefail
nodes=$1
processes=$2
shift 2
# Slurm signals all processes of a job step. torchrun would die of the warning that is meant for the
# command; what is ignored here is ignored by it too, until the command sets its own handler.
trap '' USR1
trap : TERM HUP INT
# torchrun would take notice of a lost terminal even where nohup has it ignored.
if [ "$(trap -p HUP)" = "trap -- '' SIGHUP" ]; then
    export TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGQUIT
fi

# A field of what scontrol says of a job: field NAME TEXT
field() {
    if [[ ! " $2" =~ [[:space:]]$1=([^[:space:]]+) ]]; then
        echo "error: scontrol names no $1 of job $SLURM_JOB_ID" >&2
        exit 1
    fi
    echo "${BASH_REMATCH[1]}"
}

stopped=$PWD/.voxseq/stopped-${SLURM_JOB_ID:-$$}
mkdir -p .voxseq
rm -f "$stopped"
export VOXSEQ_STOPPED=$stopped
# The shell around each process notes its status, and outlives the signal that torchrun sends to all
# when the first has ended.
note='trap : TERM HUP INT; "$@" || { s=$?; [ "$s" -ne 75 ] || : >"$VOXSEQ_STOPPED"; exit "$s"; }'
each=(bash -c "$note" each "$@")

status=0
if [ "$nodes" -eq 1 ]; then
    "$1" -m torch.distributed.run --standalone --nproc-per-node="$processes" --no-python "${each[@]}" || status=$?
else
    # The job step of Snakemake leaves none of Slurm's variables but the job's number.
    job=$(scontrol show job "$SLURM_JOB_ID")
    hosts=$(scontrol show hostnames "$(field NodeList "$job")")
    first=${hosts%%$'\n'*}
    # Cores are not handed on to a step by itself.
    cores=$(field CPUs/Task "$job")
    # Two jobs on one node must not meet at the same port.
    port=$((20000 + SLURM_JOB_ID % 20000))
    srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task="$cores" \
        --kill-on-bad-exit \
        bash -c 'trap "" USR1; exec "$0" -m torch.distributed.run "$@"' "$1" \
        --nnodes="$nodes" --nproc-per-node="$processes" --no-python \
        --rdzv-backend=c10d --rdzv-endpoint="$first:$port" --rdzv-id="$SLURM_JOB_ID" \
        "${each[@]}" || status=$?
fi
if [ -e "$stopped" ]; then
    rm -f "$stopped"
    status=75
fi
exit "$status"
