#!/usr/bin/env bash
# The smoke scale through both engines, in a copy of the checkout:
#   1. Snakemake runs everything; afterwards `dvc status` is clean.
#   2. One task's fine-tuning is changed: `dvc repro` does that task and what follows again, and
#      nothing else; afterwards Snakemake has nothing to do.
# That DVC runs everything too, and leaves the same bytes: tests/workflow/test_scenario_*.py.
# The first job of each stage is a new process, as everybody's are; the others are forked from one
# that has imported all libraries, as in the tests.
set -euo pipefail
root=$(git rev-parse --show-toplevel)
work=$(mktemp -d)
preloaded=$work/preloaded
python=$(command -v python)
export OMP_NUM_THREADS=1
# It ends with what it reads from.
tail --pid=$$ -f /dev/null | env -u PYTHONPATH "$python" "$root/tests/helpers/preloaded.py" "$preloaded" &
trap 'kill $(jobs -p) 2> /dev/null || true; wait; rm -rf "$work"' EXIT
export PYTHONPATH=src

step() { echo "== $1 (after ${SECONDS} s)"; }

mkdir "$work/programs" "$work/anew"
ln -s "$preloaded/snakemake" "$work/programs"
cat > "$work/programs/python" <<PROGRAM
#!/usr/bin/env bash
if [[ "\$*" == "-m voxseq job "* ]] && mkdir "$work/anew/\$4" 2> /dev/null; then
    exec "$python" "\$@"
fi
exec "$preloaded/python" "\$@"
PROGRAM
chmod +x "$work/programs/python"

step "a copy"
git clone --quiet "$root" "$work/study"
# Uncommitted changes are tried as well.
git -C "$root" ls-files --modified --others --exclude-standard -z \
    | (cd "$root" && while IFS= read -r -d '' f; do [ -e "$f" ] && cp --parents "$f" "$work/study"; done; true)
until [ -S "$preloaded/socket" ]; do sleep 0.1; done
cd "$work/study"
export PATH=$work/programs:$PATH
"$python" -m voxseq config use workflow/scales/smoke.yaml

step "Snakemake runs everything"
snakemake --cores all --quiet rules -- reproduce_tables
diff <(ls "$work/anew") <(ls artifacts/smoke)
snakemake --report "$work/report.html" -- reproduce_tables 2>&1 | tail -n 1
test -s "$work/report.html"

step "DVC finds nothing changed"
dvc status | tee "$work/status"
grep -q "up to date" "$work/status"

step "one task's fine-tuning changes"
before=$(find artifacts -name 'run-*.json' | sort)
"$python" - <<'PYTHON'
from pathlib import Path
import yaml
path = Path("params.yaml")
content = yaml.safe_load(path.read_text())
content["finetune"]["tasks"]["task06_lung"]["steps"] = 6
path.write_text(yaml.safe_dump(content, sort_keys=False))
PYTHON
dvc repro --quiet
snakemake -n -- reproduce_tables 2>&1 | tee "$work/dry" | tail -n 3
grep -q "Nothing to be done" "$work/dry"
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
echo "smoke: both engines ran and agree (${SECONDS} s)"
