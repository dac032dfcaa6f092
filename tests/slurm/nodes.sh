#!/usr/bin/env bash
# Pre-trainings over two nodes of a real Slurm, disturbed on the way:
#   1. Two hosts are made inside this machine, each with its own name, address and network; munged,
#      slurmctld and a slurmd on each are started in a temporary folder.
#   2. Snakemake trains with one process and without Slurm, in its own copy of the checkout.
#   3. Snakemake trains through profiles/slurm, in another copy, with a process on each of the nodes;
#      nodes.py has a training stopped as Slurm does it before the end of its time, and kills one of
#      the two processes of another.
#   4. Every job had what the configuration asks for in all, one process ran on each node, what was
#      disturbed resumed, and the losses are those of one process.
# Nothing is installed; what is missing is named. KEEP=1 keeps the folder.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/hosts.sh"
in_own_network "$@"
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin

study=(workflow/scales/smoke.yaml tests/workflow/tiny.yaml tests/slurm/nodes.yaml)
copy "$work/one" "${study[@]}"
copy "$work/two" "${study[@]}"

echo "== $(slurmctld -V) starts on two nodes"
hosts_start "$work" node1 node2
cluster_start "$work/cluster" node1 node2

echo "== with one process"
(cd "$work/one" && snakemake --cores all --quiet all \
    --config 'execution={pretrain: {processes: 1, nodes: 1, gpu: 0}}' -- pretrain) >"$work/one.log" 2>&1

echo "== with two on two nodes, disturbed"
cd "$work/two"
profile=$work/two/profiles/slurm
export PATH=$profile/commands:$profile/without-accounting:$PATH
disturb python "$here/nodes.py" disturb "$work/two" "$work/disturb.log"
snakemake --workflow-profile profiles/slurm --slurm-init-seconds-before-status-checks 5 \
    -- pretrain >"$work/snakemake.log" 2>&1
disturbed
cat "$work/disturb.log"

echo "== what became of the jobs"
slurm_jobs JobID:6,State:15,RestartCnt:4,NumNodes:4,NumTasks:4,cpus-per-task:4,MinMemory:10,tres-per-node:12,Comment:80
python "$here/nodes.py" check "$work/one" "$work/two" "$work/jobs" "$work/disturb.log"

echo "slurm: trained on two nodes, same losses as with one process"
