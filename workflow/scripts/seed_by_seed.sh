#!/usr/bin/env bash
# A study seed by seed: each has its file of scores before the next begins, and all of them their
# tables in the end. Called again after it was stopped, it does what is left.
#
#   bash workflow/scripts/seed_by_seed.sh OVERLAY [CORES]
set -euo pipefail
overlay=$1
cores=${2:-all}
count=$(voxseq config show --overlay "$overlay" | sed -n 's/^seeds: //p')
for ((seed = 0; seed < count; seed++)); do
    snakemake --cores "$cores" --configfile "$overlay" -- "seed_$seed"
done
snakemake --cores "$cores" --configfile "$overlay" -- reproduce_tables
