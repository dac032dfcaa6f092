#!/usr/bin/env bash
# The smoke scale through both engines, each in its own copy of the checkout, then what they agree on:
#   1. Snakemake runs everything; afterwards `dvc status` is clean.
#   2. DVC runs everything; afterwards Snakemake has nothing to do.
#   3. The artefacts that DVC has recorded, and the tables of both, are the same to the byte.
#   4. One task's fine-tuning is changed: `dvc repro` does that task and what follows again, and
#      nothing else. Both engines, and other changes: tests/workflow/test_scenario_engines.py.
# Processes are forked from one that has imported all libraries, as in the tests. In DVC's copy the
# first job of each stage is started anew; equal artefacts show that this changes nothing.
set -euo pipefail
root=$(git rev-parse --show-toplevel)
work=$(mktemp -d)
preloaded=$work/preloaded
export OMP_NUM_THREADS=1
# It ends with what it reads from.
tail --pid=$$ -f /dev/null | env -u PYTHONPATH python "$root/tests/helpers/preloaded.py" "$preloaded" &
trap 'kill $(jobs -p) 2> /dev/null || true; wait; rm -rf "$work"' EXIT
export PYTHONPATH=src

step() { echo "== $1 (after ${SECONDS} s)"; }

# The programs of either copy.
declare -A programs=([snakemake]=$preloaded [dvc]=$work/programs)
mkdir "$work/programs" "$work/anew"
ln -s "$preloaded/snakemake" "$work/programs"
cat > "$work/programs/python" <<PROGRAM
#!/usr/bin/env bash
if [[ "\$*" == "-m voxseq job "* ]] && mkdir "$work/anew/\$4" 2> /dev/null; then
    exec "$(command -v python)" "\$@"
fi
exec "$preloaded/python" "\$@"
PROGRAM
chmod +x "$work/programs/python"
inside() { (cd "$work/$1" && PATH="${programs[$1]}:$PATH" exec "${@:2}"); }

step "a copy for each engine"
git clone --quiet "$root" "$work/snakemake"
# Uncommitted changes are tried as well.
git -C "$root" ls-files --modified --others --exclude-standard -z \
    | (cd "$root" && while IFS= read -r -d '' f; do [ -e "$f" ] && cp --parents "$f" "$work/snakemake"; done; true)
until [ -S "$preloaded/socket" ]; do sleep 0.1; done
inside snakemake python -m voxseq config use workflow/scales/smoke.yaml
cp --archive "$work/snakemake" "$work/dvc"

step "each engine runs everything, side by side: each has phases that keep one core busy"
inside snakemake snakemake --cores all --quiet rules -- reproduce_tables &
snakemake=$!
inside dvc dvc repro --quiet &
dvc=$!
wait "$snakemake"
wait "$dvc"
diff <(ls "$work/anew") <(ls "$work/dvc/artifacts/smoke")

step "Snakemake has run, DVC finds nothing changed"
inside snakemake dvc status | tee "$work/status"
grep -q "up to date" "$work/status"
inside snakemake snakemake --report "$work/report.html" -- reproduce_tables 2>&1 | tail -n 1
test -s "$work/report.html"

step "DVC has run, Snakemake finds nothing to do"
inside dvc snakemake -n -- reproduce_tables 2>&1 | tee "$work/dry" | tail -n 3
grep -q "Nothing to be done" "$work/dry"

step "both have the same artefacts and tables"
diff "$work/snakemake/dvc.lock" "$work/dvc/dvc.lock"
diff -r "$work/snakemake/results/smoke/tables" "$work/dvc/results/smoke/tables"

step "one task's fine-tuning changes"
cd "$work/dvc"
before=$(find artifacts -name 'run-*.json' | sort)
python - <<'PYTHON'
from pathlib import Path
import yaml
path = Path("params.yaml")
content = yaml.safe_load(path.read_text())
content["finetune"]["tasks"]["task06_lung"]["steps"] = 6
path.write_text(yaml.safe_dump(content, sort_keys=False))
PYTHON
inside dvc dvc repro --quiet
inside dvc snakemake -n -- reproduce_tables 2>&1 | grep -q "Nothing to be done"
after=$(find artifacts -name 'run-*.json' | sort)
changed=$(comm -13 <(echo "$before") <(echo "$after") | sed -E 's|/[^/]*$||; s|.*/smoke/||')
echo "$changed"
if grep -qvE '^(ablation/)?finetune/task06_lung/|^(scores|tables|figures)/' <<<"$changed"; then
    echo "error: more was done again than the task and what follows it" >&2
    exit 1
fi
# Every row of the table and all variants of the ablation.
rows=$(ls -d artifacts/smoke/{finetune,ablation/finetune}/task06_lung/*/ | wc -l)
[ "$(grep -c '/task06_lung/' <<<"$changed")" -eq "$rows" ]
echo "smoke: both engines ran everything and agree (${SECONDS} s)"
