#!/usr/bin/env bash
# The tiny study on a real Slurm of one node, with jobs and the controller killed on the way:
#   1. munged, slurmctld and slurmd are started in a temporary folder.
#   2. Snakemake runs the study without Slurm, in its own copy of the checkout.
#   3. Snakemake runs it through profiles/slurm, in another copy; disturb.py kills a training,
#      cancels one, lets one run into its time limit, and kills the controller; the figures' job is
#      given too little memory.
#   4. Everything that was disturbed resumed or was tried again as it should, and the tables of both
#      are the same to the byte.
#   5. Two processes that torchrun starts in one job stop together when Slurm signals the job, which
#      then goes back into the queue.
# Nothing is installed; what is missing is named. KEEP=1 keeps the folder.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin

study=(workflow/scales/smoke.yaml tests/workflow/tiny.yaml tests/slurm/study.yaml)
copy "$work/local" "${study[@]}"
copy "$work/slurm" "${study[@]}"

echo "== $(slurmctld -V) starts"
cluster_start "$work/cluster"

echo "== without Slurm"
(cd "$work/local" && snakemake --cores all --quiet all -- reproduce_tables) >"$work/local.log" 2>&1

echo "== through Slurm, disturbed"
cd "$work/slurm"
# Submissions wait for the controller, and this cluster has no accounting database.
profile=$work/slurm/profiles/slurm
export PATH=$profile/commands:$profile/without-accounting:$PATH
disturb python "$here/disturb.py" "$work/slurm" "$work/disturb.log"
snakemake --workflow-profile profiles/slurm --slurm-init-seconds-before-status-checks 5 \
    -- reproduce_tables >"$work/snakemake.log" 2>&1
disturbed
cat "$work/disturb.log"

echo "== what became of the jobs"
slurm_jobs JobID:6,State:15,tres-alloc:45,tres-per-job:12,RestartCnt:4,Comment:80
python "$here/check.py" "$work/slurm" "$work/jobs"

echo "== the tables are those of the run without Slurm"
diff -r "$work/local/results/slurm/tables" "$work/slurm/results/slurm/tables"
dvc status | grep -q "up to date"

echo "== two processes of one job"
mkdir "$work/ranks"
job=$(sbatch --parsable --gpus=2 --time=10 --output="$work/ranks.log" <<SCRIPT
#!/bin/bash
srun --ntasks=1 --gpus=2 bash workflow/scripts/distributed.sh 1 2 python "$here/ranks.py" "$work/ranks" \
    || bash workflow/scripts/stopped.sh \$?
SCRIPT
)
both_ranks() { [ -e "$work/ranks/rank0of2" ] && [ -e "$work/ranks/rank1of2" ]; }
gone_back() { [ "$(squeue --noheader --job="$job" --Format=RestartCnt:4 | xargs)" = 1 ]; }
await both_ranks
grep -q 0,1 "$work/ranks/rank0of2"
scancel --signal=USR1 "$job"
await gone_back
scancel "$job"

echo "slurm: $(grep -c . "$work/jobs") Slurm jobs, same tables as without"
