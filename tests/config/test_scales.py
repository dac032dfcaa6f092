"""The scales: every file is valid, and the paper's holds the published numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from voxseq.catalogue import CATALOGUE
from voxseq.catalogue.splits import part_sizes
from voxseq.config import Config, load_config, read_yaml
from voxseq.config.finetune import ClassificationTask, SegmentationTask
from voxseq.config.registry import METHODS, pretrained
from voxseq.plan import STAGES, build_plan

SCALES = sorted((ROOT / "workflow/scales").glob("*.yaml"))


def load(path: Path) -> Config:
    return load_config(ROOT / "params.yaml", [read_yaml(path)])


PAPER = load(ROOT / "workflow/scales/paper.yaml")
SEGMENTATION = {n: t for n, t in PAPER.finetune.tasks.items() if isinstance(t, SegmentationTask)}
#: Methods of the paper beside ours.
COMPARED = ("simclr", "moco_v3", "dino", "pcrlv2", "mae3d", "medcoss")
MSD = {name: task for name, task in SEGMENTATION.items() if name != "la"}


@pytest.mark.parametrize("path", SCALES, ids=lambda p: p.stem)
def test_every_scale_is_valid_and_can_be_planned(path: Path) -> None:
    config = load(path)
    assert config.scale == path.stem
    assert config.results == f"results/{path.stem}"
    plan = build_plan(config)
    assert {job.stage for job in plan.jobs.values()} <= set(STAGES)
    assert plan.of_stage("tables")


def test_the_scales_are_these() -> None:
    assert {path.stem for path in SCALES} >= {"smoke", "open", "paper"}


def test_the_papers_encoder_and_pretraining() -> None:
    encoder = PAPER.encoder
    assert (encoder.width, encoder.depth, encoder.heads) == (768, 12, 12)
    assert encoder.mlp_width == 3072
    tokens = [s // p for s, p in zip(PAPER.sequences.volume_shape, encoder.patch_size, strict=True)]
    assert math.prod(tokens) == 512
    pretrain = PAPER.pretrain
    assert (pretrain.steps, pretrain.batch_size, pretrain.seed) == (100_000, 288, 42)
    assert pretrain.precision == "bf16-mixed"
    assert set(pretrain.methods) == {"ours", *COMPARED}
    assert set(pretrain.methods) <= set(pretrained())
    ours = pretrain.methods["ours"]
    assert (ours["attention"], ours["token_order"]) == ("prefix", "patch_major")
    expected = {
        "lr": 1e-4,
        "betas": [0.9, 0.999],
        "weight_decay": 0.01,
        "decay_one_dimensional": True,
        "warmup_steps": 0,
        "schedule": "cosine",
        "final_lr_factor": 0.0,
        "clip_norm": None,
    }
    assert {key: ours["optimiser"][key] for key in expected} == expected


def test_the_papers_sequences() -> None:
    sequences = PAPER.sequences
    assert (sequences.length, sequences.patch_shape) == (4, (128, 128, 32))
    assert sequences.percentiles == (1.0, 99.9)
    assert sequences.validation_every == 500
    spatial = sequences.spatial
    assert (spatial.crops_per_volume, spatial.stride, spatial.max_start) == (50, 8, 63)
    assert spatial.crop_shape == spatial.window_shape == (128, 128, 128)
    contrast = sequences.contrast
    assert (contrast.crops_per_subject, contrast.crop_shape) == (100, (128, 128, 32))
    assert contrast.contrasts == ("t1n", "t1c", "t2w", "t2f")
    assert (sequences.semantic.window, sequences.semantic.draws_per_category) == (
        (128, 128),
        20_000,
    )
    kinds = [source.kind for source in sequences.sources]
    assert [kinds.count(k) for k in ("spatial", "contrast", "semantic")] == [12, 1, 1]
    # Lists are joined: no kind has a weight of its own.
    assert {getattr(sequences, kind).weight for kind in kinds} == {None}


@pytest.mark.parametrize("name", COMPARED)
def test_other_methods_have_their_published_settings(name: str) -> None:
    """But for MedCoSS's buffer, whose candidates are fewer."""
    model = METHODS[name].settings
    assert model is not None
    default = model.model_validate({}).model_dump(mode="json")
    given = dict(PAPER.pretrain.methods[name])
    if name == "medcoss":
        assert given.pop("buffer_candidates") == 200_000
        default.pop("buffer_candidates")
    assert given == default


#: Spacing in mm, HU window, epochs (published code).
PUBLISHED: dict[str, tuple[tuple[float, ...], tuple[float, float], int]] = {
    "task03_liver": ((1, 1, 1), (-21, 189), 1000),
    "task06_lung": ((1, 1, 1), (-1000, 1000), 1000),
    "task07_pancreas": ((1, 1, 1.5), (-87, 199), 500),
    "task08_hepaticvessel": ((1, 1, 1.5), (0, 230), 500),
    "task09_spleen": ((1, 1, 1), (-57, 175), 1000),
    "task10_colon": ((1, 1, 1.5), (-57, 175), 1000),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_msd_tasks(name: str) -> None:
    spacing, window, epochs = PUBLISHED[name]
    task = MSD[name]
    assert (task.data.spacing, task.data.window) == (spacing, window)
    assert task.data.foreground_crop
    assert (task.roi, task.crops_per_volume, task.volumes_per_batch) == ((96, 96, 96), 4, 4)
    assert (task.crop_sampling, task.augmentation) == ("class_balanced", "msd")
    assert (task.overlap, task.score_grid, task.class_weights) == (0.75, "stored", None)
    count = CATALOGUE[task.dataset].volumes
    assert count is not None
    training = part_sizes(count, PAPER.data.split_ratio)[0]
    check_epochs(task, math.ceil(training / task.volumes_per_batch), epochs)


def check_epochs(task: SegmentationTask, epoch: int, epochs: int) -> None:
    assert task.steps == epoch * epochs
    assert task.validate_every == 50 * epoch
    assert task.pretrained.warmup_steps == task.scratch.warmup_steps == 50 * epoch


def test_every_task_is_there() -> None:
    assert set(MSD) == set(PUBLISHED)
    assert set(PAPER.finetune.tasks) == {*PUBLISHED, "la", "ricord", "nodule"}
    assert MSD["task03_liver"].data.merge_labels == {2: 1}


@pytest.mark.parametrize("name", sorted(SEGMENTATION))
def test_optimisers_of_segmentation(name: str) -> None:
    task = SEGMENTATION[name]
    pretrained_recipe, scratch = task.pretrained, task.scratch
    assert (pretrained_recipe.lr, pretrained_recipe.betas) == (3e-4, (0.9, 0.95))
    assert pretrained_recipe.weight_decay == 0.05
    assert not pretrained_recipe.decay_one_dimensional
    assert pretrained_recipe.layer_decay == (0.9 if name == "la" else 0.75)
    assert (scratch.lr, scratch.betas, scratch.weight_decay) == (1e-4, (0.9, 0.999), 1e-5)
    assert scratch.decay_one_dimensional
    for recipe in (pretrained_recipe, scratch):
        assert (recipe.decoder_lr, recipe.clip_norm, recipe.schedule) == (None, None, "cosine")


def test_la() -> None:
    task = SEGMENTATION["la"]
    assert (task.roi, task.crops_per_volume, task.volumes_per_batch) == ((192, 192, 64), 1, 4)
    assert (task.crop_sampling, task.augmentation) == ("uniform", "la")
    assert (task.data.spacing, task.data.normalise) == (None, "none")
    check_epochs(task, (80 - 8) // 4, 1000)


def classification(name: str) -> ClassificationTask:
    task = PAPER.finetune.tasks[name]
    assert isinstance(task, ClassificationTask)
    return task


def recipe_of(optimiser: Any) -> tuple[Any, ...]:
    return (optimiser.lr, optimiser.weight_decay, optimiser.schedule, optimiser.clip_norm)


def test_ricord() -> None:
    task = classification("ricord")
    assert (task.data.resize, task.data.window) == ((128, 128, 64), (0, 1400))
    assert (task.batch_size, task.augmentation) == (8, "la")
    assert task.class_balanced_loss
    assert task.select_by == "accuracy_plus_auc"
    assert (task.steps, task.validate_every) == (200 * (194 // 8), 194 // 8)
    assert recipe_of(task.pretrained) == (5e-5, 0.05, "poly", 12)
    assert recipe_of(task.scratch) == (1e-5, 1e-4, "poly", 12)
    assert (task.pretrained.layer_decay, task.pretrained.betas) == (0.75, (0.9, 0.95))
    assert task.networks.resnet.stem == "large"


def test_nodule() -> None:
    task = classification("nodule")
    assert (task.data.resize, task.data.scale) == ((128, 128, 128), 255)
    assert (task.batch_size, task.augmentation, task.select_by) == (16, "nodule", "auc")
    epoch = math.ceil(1158 / 16)
    assert (task.steps, task.validate_every) == (100 * epoch, epoch)
    for recipe in (task.pretrained, task.scratch):
        assert recipe_of(recipe) == (1.5e-5, 0.01, "cosine", None)
        assert (recipe.layer_decay, recipe.betas) == (None, (0.9, 0.999))
    resnet = task.networks.resnet
    assert (resnet.stem, resnet.input_shape) == ("small", (28, 28, 28))
    assert resnet.optimiser is not None
    assert recipe_of(resnet.optimiser) == (1e-3, 0, "multistep", None)


def test_a_task_may_have_a_precision_of_its_own() -> None:
    """RICORD in single precision, segmentation in half (published code)."""
    runs = build_plan(PAPER).runs.values()
    found = {run.config.task: run.config.precision for run in runs if run.stage == "finetune"}
    assert {found[name] for name in SEGMENTATION} == {"16-mixed"}
    assert found["ricord"] == found["nodule"] == "32-true"


def test_the_ablation_and_the_shares_of_labels() -> None:
    variants = PAPER.ablation.variants
    assert {v.stride for v in variants.values()} - {None} == {4, 12}
    assert {v.without for v in variants.values()} - {None} == {"spatial", "contrast", "semantic"}
    assert variants["no_random_start"].attention == "causal"
    assert not variants["no_sequences"].sequences
    assert PAPER.label_ratio.ratios == (0.5, 0.25, 0.1)
    assert PAPER.label_ratio.methods is None


def test_nothing_of_the_demo_is_left_in_the_papers_recipes() -> None:
    """Keys that only the demo sets would come through the overlay unseen."""
    for task in PAPER.finetune.tasks.values():
        assert task.pretrained.decoder_lr is None
        assert task.scratch.decoder_lr is None
    assert {t.decoder_features for t in SEGMENTATION.values()} == {16}
    assert {t.networks.unet3d.features for t in SEGMENTATION.values()} == {
        (32, 64, 128, 256, 512, 32)
    }
    assert {t.networks.unet3d.norm for t in SEGMENTATION.values()} == {"instance"}
    assert {t.networks.unet3d.optimiser for t in SEGMENTATION.values()} == {None}
    assert PAPER.data.root == "data/paper"
    assert PAPER.execution.pretrain.gpu == PAPER.execution.finetune.gpu == 1
