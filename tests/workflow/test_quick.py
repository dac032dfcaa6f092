"""`make quick`: a small study of both kinds of task, and a prediction of a test image."""

from __future__ import annotations

import re
from collections import Counter

from tests.helpers import ROOT
from voxseq.catalogue.splits import TEST, ratio_split
from voxseq.config import Config, load_config, read_yaml
from voxseq.plan import build_plan

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
OVERLAY = "workflow/scales/quick.yaml"


def quick() -> Config:
    return load_config(ROOT / "params.yaml", [read_yaml(ROOT / OVERLAY)])


def variable(name: str) -> str:
    (found,) = re.findall(rf"^{name} := (.+)$", MAKEFILE, re.MULTILINE)
    return str(found)


def test_it_compares_ours_with_random_initialisation_and_nothing_else() -> None:
    config, plan = quick(), build_plan(quick())
    assert config.data.root is None
    assert {task.type for task in config.finetune.tasks.values()} == {
        "segmentation",
        "classification",
    }
    counts = Counter(run.stage for run in plan.runs.values())
    assert counts["pretrain"] == 1
    assert counts["finetune"] == 4
    assert not {"ablation", "label_ratio", "beyond"} & set(counts)


def test_it_predicts_a_test_image_with_a_network_that_is_kept() -> None:
    config, plan = quick(), build_plan(quick())
    assert variable("QUICK") == OVERLAY
    (run,) = set(re.findall(r"voxseq predict (\S+)", MAKEFILE))
    assert plan.runs[run].config.kept is not None
    data = plan.runs["download/task09_spleen/s0"]
    assert variable("QUICK_RAW") == f"{plan.artefacts}/{data.id}/raw"
    # Numbers as the phantoms have them, with gaps.
    cases = range(config.data.phantoms.segmentation_cases)
    subjects = [f"spleen_{case + 1 + case // 5:03d}" for case in cases]
    parts = ratio_split(subjects, config.data.split_ratio, config.data.split_seed)
    assert parts[variable("QUICK_CASE").removesuffix(".nii.gz")] == TEST
    assert f"-o {config.results}/prediction" in MAKEFILE
