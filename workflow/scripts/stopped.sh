#!/usr/bin/env bash
# What a workflow job does when voxseq did not succeed: stopped.sh STATUS, and ends with that status.
#
# Status 75 says that voxseq stopped on request and can go on from there. On Slurm the same job then
# goes back into the queue; no retry of Snakemake's is used up, and the job does not ask for more
# memory. Everything else is left to Snakemake.
set -eu
status=$1
# A job that goes back this often gets nowhere in its time.
most=100
if [ "$status" -eq 75 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
    query=(squeue --noheader --jobs="$SLURM_JOB_ID" --Format=State:20,RestartCnt:10)
    read -r state restarts <<<"$("${query[@]}" || true)"
    # A job that somebody cancels is no longer RUNNING at this point and must not come back.
    if [ "$state" = RUNNING ] && [ "$restarts" -lt "$most" ]; then
        scontrol requeue "$SLURM_JOB_ID" || true
    fi
fi
exit "$status"
