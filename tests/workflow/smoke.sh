#!/usr/bin/env bash
# The smoke scale through both engines, each in its own copy of the checkout, then what they agree on:
#   1. Snakemake runs everything; afterwards `dvc status` is clean.
#   2. DVC runs everything; afterwards Snakemake has nothing to do.
#   3. The tables of both are the same to the byte.
#   4. One task's fine-tuning is changed: that task and what follows is done again, by either engine,
#      and nothing else.
# DVC starts every process anew. Those of Snakemake are forked from one that has imported all
# libraries, as in the tests; equal tables show that this changes nothing.
set -euo pipefail
root=$(git rev-parse --show-toplevel)
work=$(mktemp -d)
preloaded=$work/preloaded
# It ends with what it reads from.
tail --pid=$$ -f /dev/null | env -u PYTHONPATH python "$root/tests/helpers/preloaded.py" "$preloaded" &
trap 'kill $(jobs -p) 2> /dev/null || true; wait; rm -rf "$work"' EXIT

step() { echo "== $1 (after ${SECONDS} s)"; }

copy() {
    git clone --quiet "$root" "$1"
    # Uncommitted changes are tried as well.
    git -C "$root" ls-files --modified --others --exclude-standard -z \
        | (cd "$root" && while IFS= read -r -d '' f; do [ -e "$f" ] && cp --parents "$f" "$1"; done; true)
    (cd "$1" && python -m voxseq config use workflow/scales/smoke.yaml)
}

export PYTHONPATH=src
copy "$work/snakemake"
copy "$work/dvc"

step "each engine runs everything, side by side: each has phases that keep one core busy"
until [ -S "$preloaded/socket" ]; do sleep 0.1; done
side_by_side() {
    (cd "$work/snakemake" && PATH="$preloaded:$PATH" exec snakemake --cores all --quiet rules -- reproduce_tables) &
    snakemake=$!
    (cd "$work/dvc" && exec dvc repro --quiet) &
    dvc=$!
    wait "$snakemake"
    wait "$dvc"
}
side_by_side

step "Snakemake has run, DVC finds nothing changed"
cd "$work/snakemake"
dvc status | tee "$work/status"
grep -q "up to date" "$work/status"
snakemake --report "$work/report.html" -- reproduce_tables 2>&1 | tail -n 1
test -s "$work/report.html"

step "DVC has run, Snakemake finds nothing to do"
cd "$work/dvc"
snakemake -n -- reproduce_tables 2>&1 | tee "$work/dry" | tail -n 3
grep -q "Nothing to be done" "$work/dry"

step "both have the same tables"
diff -r "$work/snakemake/results/smoke/tables" "$work/dvc/results/smoke/tables"

step "one task's fine-tuning changes"
change() {
    python - <<'PYTHON'
from pathlib import Path
import yaml
path = Path("params.yaml")
content = yaml.safe_load(path.read_text())
content["finetune"]["tasks"]["task06_lung"]["steps"] = 6
path.write_text(yaml.safe_dump(content, sort_keys=False))
PYTHON
}
cd "$work/dvc"
before=$(find artifacts -name 'run-*.json' | sort)
change
(cd "$work/snakemake" && change)
side_by_side
snakemake -n -- reproduce_tables 2>&1 | grep -q "Nothing to be done"
after=$(find artifacts -name 'run-*.json' | sort)
changed=$(comm -13 <(echo "$before") <(echo "$after") | sed -E 's|/[^/]*$||; s|.*/smoke/||')
echo "$changed"
if grep -qvE '^(ablation/)?finetune/task06_lung/|^(scores|tables|figures)/' <<<"$changed"; then
    echo "error: more was done again than the task and what follows it" >&2
    exit 1
fi
# Every row of the table and both variants of the ablation, with two seeds each.
methods=$(ls -d artifacts/smoke/finetune/task06_lung/*/ | wc -l)
[ "$(grep -c '/task06_lung/' <<<"$changed")" -eq $((2 * (methods + 2))) ]
cd "$work/snakemake"
dvc status | grep -q "up to date"
diff -r "$work/snakemake/results/smoke/tables" "$work/dvc/results/smoke/tables"
echo "smoke: both engines ran everything and agree (${SECONDS} s)"
