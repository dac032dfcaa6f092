#!/usr/bin/env bash
# The wheel as somebody has it who never sees the repository:
#   1. `python -m build` makes an sdist, and a wheel from it.
#   2. The wheel is installed in a new environment, which borrows its libraries from this one.
#   3. In an empty folder the Python API, `init` and all commands on trained models work.
#   4. In the workspace that `voxseq new` makes a study is done from images to a mask, and DVC reads
#      the workspace's stages.
#   5. The installed code is this checkout's: data files are complete.
# Libraries are borrowed to save minutes and gigabytes; whether pip can install the dependencies that
# the wheel names is tried by FULL=1 alone. KEEP=1 keeps the folder.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
[ -n "${KEEP:-}" ] && echo "== the folder $work is kept" || trap 'rm -rf "$work"' EXIT
borrowed=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
unset PYTHONPATH

step() { echo "== $1 (after ${SECONDS} s)"; }
pip() { python -m pip --quiet --disable-pip-version-check --python "$work/venv/bin/python" "$@"; }

step "images that somebody has"
(cd "$root" && PYTHONPATH=src:. python -c \
    "from pathlib import Path; from tests.helpers import own_images; own_images.decathlon(Path('$work/Task99_Liver'))")

step "wheel and sdist"
python -m build --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
(cd "$work/dist" && ls)

step "a new environment"
python -m venv --without-pip "$work/venv"
if [ -n "${FULL:-}" ]; then
    pip install "$work"/dist/*.whl
    pip check
else
    echo "$borrowed" >"$work/venv/lib/$(basename "$(dirname "$borrowed")")/site-packages/borrowed.pth"
    pip install --no-deps --force-reinstall "$work"/dist/*.whl
fi
export PATH=$work/venv/bin:$PATH HOME=$work/home VOXSEQ_PRESET=tiny VOXSEQ_STEPS=4 VOXSEQ_SEEDS=1
export OMP_NUM_THREADS=1 GIT_CONFIG_GLOBAL=$work/home/gitconfig
mkdir -p "$HOME" "$work/empty"
cd "$work/empty"
[ "$(command -v voxseq)" = "$work/venv/bin/voxseq" ]
python -c "import voxseq; assert voxseq.__file__.startswith('$work/venv'), voxseq.__file__"

step "an empty folder"
voxseq --version
voxseq --help >/dev/null
for verb in new init run status predict evaluate features export data plan picture; do
    voxseq $verb --help >/dev/null
done
python -c "from voxseq import load_encoder, load_model, features; from voxseq.interop import load_pretraining_model"
voxseq init livers --images "$work/Task99_Liver" | tail -n 1
if voxseq run livers 2>"$work/said"; then exit 1; fi
grep "voxseq new" "$work/said"

step "a workspace"
voxseq new "$work/mine" | tail -n 1
cd "$work/mine"
git init --quiet
test -x profiles/slurm/commands/sbatch
voxseq init livers --images "$work/Task99_Liver" | tail -n 1
voxseq run livers
voxseq status livers | sed -n 1p
voxseq tables livers | sed -n 1,12p
python -m dvc stage list --name-only | tail -n 1
python -m dvc status download | sed -n 1p
python -m snakemake --dry-run --quiet all | grep '^total'
voxseq new --update . | tail -n 1

step "the trained model, used elsewhere"
cd "$work/empty"
runs=$work/mine/artifacts/livers
model=$runs/finetune/livers/ours/s0
encoder=$runs/pretrain/ours/s0
labels=("$work"/Task99_Liver/labelsTr/*.nii.gz)
case=$(basename "${labels[0]}")
voxseq predict "$model" "$work/Task99_Liver/imagesTr/$case" -o masks | tail -n 1
mkdir labels
cp "$work/Task99_Liver/labelsTr/$case" labels
voxseq evaluate masks labels --no-surface | tail -n 1
voxseq picture "$work/Task99_Liver/imagesTr/$case" "masks/$case" -o mask.png >/dev/null
voxseq features "$encoder" "$work/Task99_Liver/imagesTs" -o features.npz | tail -n 1
voxseq export "$model" --to bundle -o bundle | tail -n 1
python - "$model" "$encoder" "$work/Task99_Liver/imagesTr/$case" <<'EOF'
import sys

import voxseq

model, encoder, image = sys.argv[1:]
voxseq.load_model(model).predict(image).save("from_python.nii.gz")
assert voxseq.features(encoder, image).pooled.ndim == 1
voxseq.load_encoder(encoder)
EOF
cmp "masks/$case" from_python.nii.gz || { echo "command and Python API differ"; exit 1; }

step "the code is this checkout's"
digests='import json; from voxseq.plan.code_versions import digests; print(json.dumps(digests()))'
python -c "$digests" >installed
(cd "$root" && PYTHONPATH=src python -c "$digests") >"$work/checkout"
diff installed "$work/checkout"
step "the wheel works"
