"""The scales: every file is valid, and the paper's holds the published numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from voxseq.catalogue import CATALOGUE
from voxseq.catalogue.splits import part_sizes
from voxseq.config import Config, load_config, merge, read_yaml
from voxseq.config.reading import parse_yaml
from voxseq.config.registry import METHODS
from voxseq.plan import STAGES, build_plan

SCALES = sorted((ROOT / "workflow/scales").glob("*.yaml"))


def load(path: Path) -> Config:
    return load_config(ROOT / "params.yaml", [read_yaml(path)])


PAPER = load(ROOT / "workflow/scales/paper.yaml")
CONTENT = PAPER.model_dump(mode="json")
TASKS = CONTENT["finetune"]["tasks"]

#: What the paper and its published code say, by the keys of the configuration.
PUBLISHED = """
encoder: {width: 768, depth: 12, heads: 12, mlp_width: 3072}
sequences: {length: 4, percentiles: [1, 99.9], validation_every: 500, volume_shape: [128, 128, 128]}
pretrain: {steps: 100000, batch_size: 288, precision: bf16-mixed}
label_ratio: {ratios: [0.5, 0.25, 0.1], methods: null}
data: {root: data/paper}
"""
#: Lists are joined: no kind has a weight of its own.
SEQUENCES = """
spatial: {crops_per_volume: 50, stride: 8, max_start: 63, weight: null,
          crop_shape: [128, 128, 128], window_shape: [128, 128, 128]}
contrast: {crops_per_subject: 100, crop_shape: [128, 128, 32], contrasts: [t1n, t1c, t2w, t2f],
           weight: null}
semantic: {window: [128, 128], draws_per_category: 20000, weight: null}
"""
OURS = """
attention: prefix
token_order: patch_major
optimiser: {lr: 1e-4, betas: [0.9, 0.999], weight_decay: 0.01, decay_one_dimensional: true,
            warmup_steps: 0, schedule: cosine, final_lr_factor: 0.0, clip_norm: null}
"""
#: Nothing of the demo is left, which would come through the overlay unseen: decoder_lr, networks.
SEGMENTATION = """
decoder_features: 16
networks: {unet3d: {features: [32, 64, 128, 256, 512, 32], norm: instance, optimiser: null}}
pretrained: {lr: 3e-4, betas: [0.9, 0.95], weight_decay: 0.05, decay_one_dimensional: false,
             decoder_lr: null, clip_norm: null, schedule: cosine}
scratch: {lr: 1e-4, betas: [0.9, 0.999], weight_decay: 1e-5, decay_one_dimensional: true,
          decoder_lr: null, clip_norm: null, schedule: cosine}
"""
MSD = """
data: {foreground_crop: true}
roi: [96, 96, 96]
crops_per_volume: 4
volumes_per_batch: 4
crop_sampling: class_balanced
augmentation: msd
overlap: 0.75
score_grid: stored
class_weights: null
pretrained: {layer_decay: 0.75}
"""
#: Each MSD task: spacing in mm, HU window, epochs (published code).
MSD_TASKS: dict[str, tuple[list[float], list[float], int]] = {
    "task03_liver": ([1, 1, 1], [-21, 189], 1000),
    "task06_lung": ([1, 1, 1], [-1000, 1000], 1000),
    "task07_pancreas": ([1, 1, 1.5], [-87, 199], 500),
    "task08_hepaticvessel": ([1, 1, 1.5], [0, 230], 500),
    "task09_spleen": ([1, 1, 1], [-57, 175], 1000),
    "task10_colon": ([1, 1, 1.5], [-57, 175], 1000),
}
OTHER_TASKS = {
    "la": """
roi: [192, 192, 64]
crops_per_volume: 1
volumes_per_batch: 4
crop_sampling: uniform
augmentation: la
data: {spacing: null, normalise: none}
pretrained: {layer_decay: 0.9}
""",
    "ricord": """
data: {resize: [128, 128, 64], window: [0, 1400]}
batch_size: 8
augmentation: la
class_balanced_loss: true
select_by: accuracy_plus_auc
steps: 4800
validate_every: 24
pretrained: {lr: 5e-5, weight_decay: 0.05, schedule: poly, clip_norm: 12, layer_decay: 0.75,
             betas: [0.9, 0.95], decoder_lr: null}
scratch: {lr: 1e-5, weight_decay: 1e-4, schedule: poly, clip_norm: 12, decoder_lr: null}
networks: {resnet: {stem: large}}
""",
    "nodule": """
data: {resize: [128, 128, 128], scale: 255}
batch_size: 16
augmentation: nodule
select_by: auc
steps: 7300
validate_every: 73
pretrained:
  {lr: 1.5e-5, weight_decay: 0.01, schedule: cosine, clip_norm: null, layer_decay: null,
   betas: [0.9, 0.999], decoder_lr: null}
scratch:
  {lr: 1.5e-5, weight_decay: 0.01, schedule: cosine, clip_norm: null, layer_decay: null,
   betas: [0.9, 0.999], decoder_lr: null}
networks: {resnet: {stem: small, input_shape: [28, 28, 28],
           optimiser: {lr: 1e-3, weight_decay: 0, schedule: multistep, clip_norm: null}}}
""",
}


def says(content: dict[str, Any], *expected: str | dict[str, Any]) -> None:
    """Assert that a part of the configuration has these values."""
    for part in expected:
        assert merge(content, parse_yaml(part)[0] if isinstance(part, str) else part) == content


@pytest.mark.parametrize("path", SCALES, ids=lambda p: p.stem)
def test_every_scale_is_valid_and_can_be_planned(path: Path) -> None:
    config, stem = load(path), path.stem
    # Rows beyond the paper and more seeds are added to what the demo has trained.
    added = {"beyond": ("demo", "results/table5"), "study": ("demo", "results/study")}
    expected = added.get(stem, (stem, f"results/{stem}"))
    assert (config.scale, config.results) == expected
    plan = build_plan(config)
    assert {job.stage for job in plan.jobs.values()} <= set(STAGES)
    assert plan.of_stage("tables")


def test_the_scales_are_these() -> None:
    assert {path.stem for path in SCALES} >= {"smoke", "open", "paper", "study", "beyond"}
    assert build_plan(load_config(ROOT / "params.yaml")).runs


def test_the_papers_pretraining() -> None:
    says(CONTENT, PUBLISHED)
    says(CONTENT["sequences"], SEQUENCES)
    says(CONTENT["pretrain"]["methods"]["ours"], OURS)
    assert PAPER.encoder.tokens(PAPER.sequences.volume_shape) == 512
    assert PAPER.sequences.patch_shape == (128, 128, 32)
    kinds = [source.kind for source in PAPER.sequences.sources]
    assert [kinds.count(k) for k in ("spatial", "contrast", "semantic")] == [12, 1, 1]
    assert PAPER.execution.pretrain.gpu == PAPER.execution.finetune.gpu == 1


def test_other_methods_have_their_published_settings() -> None:
    """But for MedCoSS's buffer, whose candidates are fewer."""
    compared = {"simclr", "moco_v3", "dino", "pcrlv2", "mae3d", "medcoss"}
    assert set(PAPER.pretrain.methods) == {"ours", *compared}
    for name in compared:
        model = METHODS[name].settings
        assert model is not None
        changed = {"buffer_candidates": 200_000} if name == "medcoss" else {}
        default = model.model_validate(changed).model_dump(mode="json")
        assert PAPER.pretrain.methods[name] == default


@pytest.mark.parametrize("name", [*MSD_TASKS, *OTHER_TASKS])
def test_the_tasks(name: str) -> None:
    task = TASKS[name]
    if task["type"] == "segmentation":
        says(task, SEGMENTATION)
    if name in OTHER_TASKS:
        says(task, OTHER_TASKS[name])
    if name == "la":
        epoch, epochs = (80 - 8) // 4, 1000
    elif name in MSD_TASKS:
        spacing, window, epochs = MSD_TASKS[name]
        says(task, MSD, {"data": {"spacing": spacing, "window": window}})
        count = CATALOGUE[task["dataset"]].volumes
        assert count is not None
        epoch = math.ceil(part_sizes(count, PAPER.data.split_ratio)[0] / 4)
    else:
        return
    warmup = {"warmup_steps": 50 * epoch}
    steps = {"steps": epoch * epochs, "validate_every": 50 * epoch}
    says(task, steps | {"pretrained": warmup, "scratch": warmup})


def test_every_task_is_there() -> None:
    assert set(TASKS) == {*MSD_TASKS, *OTHER_TASKS}
    assert PAPER.finetune.tasks["task03_liver"].data.merge_labels == {2: 1}


def test_a_task_may_have_a_precision_of_its_own() -> None:
    """RICORD in single precision, segmentation in half (published code)."""
    for name, task in PAPER.finetune.tasks.items():
        single = name in ("ricord", "nodule")
        assert (task.precision or PAPER.finetune.precision) == ("32-true" if single else "16-mixed")


def test_the_ablation() -> None:
    variants = PAPER.ablation.variants
    assert {v.stride for v in variants.values()} - {None} == {4, 12}
    assert {v.without for v in variants.values()} - {None} == {"spatial", "contrast", "semantic"}
    assert variants["no_random_start"].attention == "causal"
    assert not variants["no_sequences"].sequences
