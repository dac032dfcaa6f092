# Two commands do everything on a fresh machine: `make reproduce` and `make test`.
# Python 3.11 or newer and make are all that has to be there.
PYTHON ?= python3
# cpu: PyTorch without CUDA. Everything else about pip is its own configuration (mirrors, wheels).
TORCH ?=
VENV ?= .venv
CORES ?= all
BIN := $(VENV)/bin
# Compiled modules are kept: hundreds of short processes would each compile the package anew.
unexport PYTHONDONTWRITEBYTECODE
READY := $(VENV)/.ready

.PHONY: help environment quick reproduce beyond study open test test-fast test-faults \
	faults-of-runs faults-of-engines test-bundles test-package test-container lint lint-types lint-rest \
	smoke test-slurm test-slurm-nodes bench bench-gpu docs notebook test-notebook clean

help:
	@echo "Use it:"
	@echo "  make environment  .venv with all libraries; says first what it downloads"
	@echo "                    TORCH=cpu: PyTorch without CUDA; PYTHON=python3.12: another Python"
	@echo "  make quick        minutes: pre-train, fine-tune and predict on generated phantoms"
	@echo "  make reproduce    the embedded demo: environment, all runs, tables and figures"
	@echo "  make beyond       Table 5: rows beyond the paper, on top of the demo"
	@echo "  make study        the demo with five seeds, one after the other"
	@echo "  make open         the same plan on real data (VOXSEQ_DATA names their folder)"
	@echo "  make clean        remove artefacts, logs and the state of runs; results stay"
	@echo "Check it:"
	@echo "  make test         environment and the test suite, without test-faults"
	@echo "  make test-fast    the same without tests of more than five seconds: those of .ci/run"
	@echo "  make test-faults  kills, full disks, and the scenarios in which the engines must agree"
	@echo "  make test-bundles    exported models in an environment of torch and MONAI without voxseq"
	@echo "  make test-package    the wheel outside of any clone; FULL=1: with all its dependencies"
	@echo "  make test-container  the steps of the Dockerfile in an empty Debian, as root"
	@echo "  make test-slurm   a tiny study on a real Slurm of one node, jobs killed on the way"
	@echo "  make test-slurm-nodes  pre-trainings over two nodes of a real Slurm, as root"
	@echo "  make lint         format, lint, types, workflow lint, code versions"
	@echo "  make smoke        every rule at tiny size, through both engines"
	@echo "  make docs         the documentation as a site in build/site; broken links fail"
	@echo "  make notebook     execute the notebooks and keep their pictures, for a commit"
	@echo "  make test-notebook   execute the notebooks and fail on errors"
	@echo "  make bench        measurements against other ways of the same: benchmarks/results.md"
	@echo "  make bench-gpu    a check of eight minutes on one GPU: benchmarks/gpu.md"
	@echo "CORES=2 limits the cores of a run. On a study of your own images: docs/own-study.md"

environment: $(READY)
	@echo "ready: . $(BIN)/activate"

TORCH_cpu := --extra-index-url https://download.pytorch.org/whl/cpu
PIP_OPTIONS := $(TORCH_$(TORCH))
# pip would compile all modules on one core; most are never imported. An old pip takes minutes where a
# new one takes seconds, and is used where no other is found.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) scripts/environment.py --check
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip || true
	@$(BIN)/python scripts/environment.py requirements.lock $(PIP_OPTIONS)
	@echo "installing into $(VENV); pip is silent for some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		$(PIP_OPTIONS) -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# PATH, so that the commands which the engines start find this environment's programs.
reproduce: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) reproduce_tables
	@$(BIN)/voxseq tables
	@$(BIN)/voxseq where

# A test image of the quick study, and what its network makes of it.
QUICK := workflow/scales/quick.yaml
QUICK_RAW := artifacts/quick/download/task09_spleen/s0/raw
QUICK_CASE := spleen_004.nii.gz
quick: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) --configfile $(QUICK) -- reproduce_tables
	@$(BIN)/voxseq tables --overlay $(QUICK)
	@$(BIN)/voxseq where --overlay $(QUICK)
	$(BIN)/voxseq predict finetune/task09_spleen/ours/s0 $(QUICK_RAW)/imagesTr/$(QUICK_CASE) \
		-o results/quick/prediction --overlay $(QUICK)
	@echo "The prediction (filled) beside the truth (white border):"
	@$(BIN)/voxseq picture $(QUICK_RAW)/imagesTr/$(QUICK_CASE) \
		results/quick/prediction/$(QUICK_CASE) --truth $(QUICK_RAW)/labelsTr/$(QUICK_CASE) \
		--name spleen --title "A generated phantom that no training saw, with its predicted spleen"

beyond: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) --configfile workflow/scales/beyond.yaml -- reproduce_tables
	@$(BIN)/voxseq tables --overlay workflow/scales/beyond.yaml
	@$(BIN)/voxseq where --overlay workflow/scales/beyond.yaml

SEED_BY_SEED := PATH="$(CURDIR)/$(BIN):$$PATH" bash workflow/scripts/seed_by_seed.sh
study: $(READY)
	$(SEED_BY_SEED) workflow/scales/study.yaml $(CORES)
	@$(BIN)/voxseq tables --overlay workflow/scales/study.yaml
	@$(BIN)/voxseq where --overlay workflow/scales/study.yaml

open: $(READY)
	@mkdir -p data/open
	$(SEED_BY_SEED) workflow/scales/open.yaml $(CORES)
	@$(BIN)/voxseq tables --overlay workflow/scales/open.yaml
	@$(BIN)/voxseq where --overlay workflow/scales/open.yaml

# Importing nbmake, where test-notebook has installed it, would take seconds in each process.
PARALLEL := -p no:nbmake --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 20
test: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -m "not faults" $(PARALLEL)

test-fast: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest -m "not slow and not faults" $(PARALLEL)

# The tools of an extra come into the environment when their target is first made. voxseq itself is
# there and stays as it is.
$(VENV)/.docs $(VENV)/.notebook-tests: $(VENV)/.%: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint requirements.lock 'voxseq[$*]'
	@touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo build/site/index.html

# Without the seconds of each cell, which would differ every time, and what a cell prints in one piece.
notebook: $(VENV)/.notebook-tests
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 python -m nbconvert --to notebook \
		--execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb
	$(BIN)/python -m nbconvert --inplace --coalesce-streams notebooks/*.ipynb

# The pictures in the files stay as they are.
test-notebook: $(VENV)/.notebook-tests
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 python -m pytest --nbmake --nbmake-timeout=600 notebooks

# Two halves side by side, each of which keeps about one core busy.
test-faults: $(READY)
	+$(MAKE) -j2 faults-of-runs faults-of-engines

faults-of-runs: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m pytest tests/faults tests/config/test_mutations.py

faults-of-engines: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" VOXSEQ_KILLS=20 python -m pytest \
		tests/workflow/test_engines.py tests/workflow/test_scenario_*.py

# Versions of the lock, so that both environments hold the same torch and MONAI. Most of their
# modules are never imported: none is compiled beforehand.
BARE := .bundles/.ready
$(BARE): requirements.lock
	$(PYTHON) -m venv .bundles
	.bundles/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-compile --constraint requirements.lock torch monai nibabel
	@touch $@

test-bundles: $(READY) $(BARE)
	rm -rf .bundles/cases
	$(BIN)/python -m tests.helpers.bundles .bundles/cases
	.bundles/bin/python tests/predict/without_voxseq.py .bundles/cases
	rm -rf .bundles

test-package: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" bash tests/package/run.sh

test-container:
	bash tests/package/container.sh

# Types take about as long as all the rest.
lint: $(READY)
	+$(MAKE) -j2 lint-types lint-rest

lint-types: $(READY)
	$(BIN)/mypy src

lint-rest: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/snakemake --lint
	$(BIN)/voxseq code check

smoke: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" bash tests/workflow/smoke.sh

test-slurm: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" bash tests/slurm/run.sh

test-slurm-nodes: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" bash tests/slurm/nodes.sh

# A finished demo elsewhere: make bench DEMO=its/workspace.
bench: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m benchmarks $(if $(DEMO),--demo "$(DEMO)")

# Data made before, on a machine without the GPU: make bench-gpu DATA=its/folder. The page is written
# whatever failed; its lines are in gpu.jsonl.
bench-gpu: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m benchmarks.gpu $(if $(DATA),--data "$(DATA)"); \
		status=$$?; \
		PATH="$(CURDIR)/$(BIN):$$PATH" python -m benchmarks.gpu --table gpu.jsonl && exit $$status

clean:
	rm -rf artifacts logs .snakemake .voxseq
