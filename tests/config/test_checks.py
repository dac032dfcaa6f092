"""What no single key is wrong with: parts that do not agree are refused before any work."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.helpers import ROOT
from voxseq.base.errors import ConfigError
from voxseq.catalogue import CATALOGUE
from voxseq.config import load_config, read_yaml
from voxseq.config.feasible import WITHOUT_PHANTOMS
from voxseq.config.load import validate

DEMO = load_config(ROOT / "params.yaml").model_dump(mode="json")
SPATIAL = {"dataset": "amos22", "kind": "spatial"}

Changes = dict[str, Any]
#: What is changed, by dotted key, and words of the message: key, value, what was expected.
REFUSED: list[tuple[Changes, list[str]]] = [
    # Batches without which a loss or a batch norm says nothing.
    *(
        (
            {"pretrain.batch_size": 1},
            [f"pretrain.methods.{method}: pretrain.batch_size 1: ", "expected 2 or more"],
        )
        for method in ("simclr", "moco_v3", "pcrlv2")
    ),
    # Shapes against tokens, and against each other.
    *(
        (
            {f"pretrain.methods.{key}": [12, 12, 10]},
            [f"{key}: (12, 12, 10)", "multiple", "(4, 4, 4)"],
        )
        for key in (
            *("simclr.view_shape", "moco_v3.view_shape", "dino.global_shape", "dino.local_shape"),
            *("pcrlv2.global_shape", "pcrlv2.local_shape", "mae3d.crop_shape"),
        )
    ),
    ({"pretrain.methods.mae3d.crop_shape": [4, 4, 4]}, ["mae3d.crop_shape", "one token", "hide"]),
    (
        {"pretrain.methods.mae3d.crop_shape": [32, 16, 16]},
        ["crop_shape", "exceeds", "(16, 16, 16)"],
    ),
    ({"pretrain.methods.pcrlv2.swap_block": [13, 1, 1]}, ["swap_block", "13", "larger", "12"]),
    (
        {"pretrain.methods.pcrlv2.decoder_channels": [8, 8]},
        ["decoder_channels", "(8, 8)", "need 3"],
    ),
    (
        {"finetune.tasks.task06_lung.roi": [16, 32, 16]},
        ["task06_lung.roi", "(16, 32", "msd", "equal"],
    ),
    ({"finetune.tasks.la.roi": [16, 16, 18]}, ["tasks.la.roi", "(16, 16, 18)", "multiple"]),
    ({"finetune.tasks.nodule.data.resize": [28, 28, 28], "encoder.patch_size": [8, 8, 8]}, ["28"]),
    ({"encoder.patch_size": [4, 4, 2]}, ["pcrlv2", "(4, 4, 2)", "power of two"]),
    # Warm-up against the length of the training, or of a stage of it.
    (
        {"pretrain.methods.ours.optimiser.warmup_steps": 1001},
        ["ours.optimiser.warmup", "1001", "1000"],
    ),
    (
        {"pretrain.methods.medcoss.optimiser.warmup_steps": 501},
        ["medcoss.optim", "501", "500", "stage"],
    ),
    (
        {"pretrain.steps": 20},
        ["pcrlv2.optimiser.warmup_steps: 100", "20 steps", "pretrain.steps 20"],
    ),
    (
        {"finetune.tasks.la.pretrained.warmup_steps": 101},
        ["la.pretrained.warmup_steps", "101", "100"],
    ),
    ({"finetune.tasks.la.scratch.warmup_steps": 101}, ["la.scratch.warmup_steps", "101", "100"]),
    (
        {"finetune.tasks.la.networks.unet3d.optimiser.warmup_steps": 101},
        ["tasks.la.networks.unet3d.optimiser.warmup_steps", "101", "100"],
    ),
    # A decay from layer to layer, of which only fine-tuning knows.
    (
        {"pretrain.methods.dino.optimiser.layer_decay": 0.9},
        ["dino.optimiser.layer_decay", "0.9", "null"],
    ),
    # What data sets hold.
    (
        {"sequences.sources.0.kind": "contrast"},
        ["sources.0.kind", "contrast", "ribfrac", "spatial"],
    ),
    (
        {"sequences.sources.0.kind": "semantic"},
        ["sources.0.kind", "semantic", "ribfrac", "spatial"],
    ),
    (
        {"sequences.sources.12.kind": "semantic"},
        ["sources.12.kind", "brats23", "spatial or contrast"],
    ),
    ({"sequences.sources.13.kind": "spatial"}, ["sources.13.kind", "deeplesion", "semantic"]),
    ({"sequences.contrast.contrasts": ["t1n"] * 4}, ["contrast.contrasts", "t1n occurs more than"]),
    (
        {"sequences.contrast.contrasts": ["t1n", "t1c", "t2w", "dwi"]},
        ["sequences.contrast.contrasts", "'dwi'", "t1n, t1c, t2w, t2f"],
    ),
    ({"finetune.tasks.la.dataset": "amos22"}, ["tasks.la.dataset", "amos22 has no labels"]),
    ({"finetune.tasks.la.dataset": "nodule"}, ["tasks.la.type", "segmentation", "classification"]),
    (
        {"finetune.tasks.nodule.dataset": "la"},
        ["tasks.nodule.type", "classification", "segmentation"],
    ),
    ({"sequences.sources": [SPATIAL, SPATIAL]}, ["sequences", "amos22", "more than once"]),
    ({"sequences.sources": [{"dataset": "stoic", "kind": "spatial"}]}, ["medcoss", "no MRI"]),
    (
        {f"sequences.{kind}.weight": 0 for kind in ("spatial", "contrast", "semantic")},
        ["weight", "all 0", "positive"],
    ),
    # Labels.
    (
        {"finetune.tasks.la.labels": ["a", "A "], "finetune.tasks.la.class_weights": None},
        ["labels.1"],
    ),
    ({"finetune.tasks.nodule.labels": ["x", "x"]}, ["nodule.labels", "x occurs more than once"]),
    (
        {"finetune.tasks.la.labels": ["left", "right"], "finetune.tasks.la.class_weights": None},
        ["'right'"],
    ),
    (
        {
            "finetune.tasks.la.labels": [f"l{i}" for i in range(256)],
            "finetune.tasks.la.class_weights": None,
        },
        ["tasks.la.labels", "255"],
    ),
    (
        {"finetune.tasks.task03_liver.data.merge_labels": {}},
        ["task03_liver.data.merge", "label 2", "liver"],
    ),
    ({"finetune.tasks.task03_liver.data.merge_labels": {2: -1}}, ["merge_labels.2", "-1"]),
    ({"finetune.tasks.task03_liver.data.merge_labels": {2: 300}}, ["merge_labels.2", "300", "255"]),
    ({"finetune.tasks.task03_liver.data.merge_labels": {-1: 1}}, ["merge_labels.-1", "-1"]),
    ({"finetune.tasks.task03_liver.data.merge_labels": {300: 1}}, ["merge_labels.300", "300"]),
    (
        {"finetune.tasks.task03_liver.data.merge_labels": {2: 1, 7: 1}},
        ["merge_labels", "7 is no label"],
    ),
    # Titles, names and shares that cannot be told apart.
    (
        {"finetune.tasks.la.title": "task06  LUNG"},
        ["tasks.la.title", "task06  LUNG", "task06_lung.title"],
    ),
    ({"ablation.variants.stride4.title": "Stride 12"}, ["variants.stride", "title", "distinct"]),
    ({"ablation.variants.stride4.title": "full method"}, ["stride4.title", "our full method"]),
    ({"label_ratio.ratios": [0.5, 0.50000001]}, ["label_ratio.ratios", "0.50000001", "50 %"]),
    ({"label_ratio.ratios": [0.9999999999]}, ["label_ratio.ratios", "0.9999999999", "100 %"]),
    (
        {"label_ratio.tasks": ["la"], "label_ratio.methods": ["ours", "resnet"]},
        ["label_ratio.methods", "resnet has no network", "segmentation"],
    ),
    # Rows of tables that change nothing.
    (
        {"ablation.variants.x": {"title": "x"}},
        ["ablation.variants.x", "changes nothing", "the full"],
    ),
    (
        {"ablation.variants.x": {"title": "x", "stride": 2}},
        ["ablation.variants.x", "the full method"],
    ),
    (
        {"ablation.variants.x": {"title": "x", "attention": "prefix"}},
        ["variants.x", "the full method"],
    ),
    ({"ablation.variants.x": {"title": "x", "stride": 1}}, ["variants.x", "variants.stride4"]),
    ({"pretrain.methods.ours.token_order": "raster"}, ["beyond.token_order", "raster", "nothing"]),
    # Numbers that no honest experiment has.
    ({"report.dpi": 1}, ["report.dpi", "20"]),
    ({"report.dpi": 2**31 - 1}, ["report.dpi", "2147483647", "1200"]),
    ({"report.bootstrap_samples": 1}, ["report.bootstrap_samples", "10"]),
    ({"report.max_curve_points": 1}, ["report.max_curve_points", "2"]),
    ({"finetune.tasks.la.class_weights": [0, 1]}, ["la.class_weights.0", "greater than"]),
    ({"finetune.tasks.la.class_weights": [1, 1e308]}, ["la.class_weights.1", "1e+308"]),
    ({"finetune.tasks.la.class_weights": [1, 1e-320]}, ["la.class_weights.1"]),
    (
        {"pretrain.methods.ours.optimiser.lr": 1e39},
        ["ours.optimiser.lr", "1e+39", "single precision"],
    ),
    ({"pretrain.methods.ours.optimiser.lr": 1e-60}, ["ours.optimiser.lr", "1e-60", "single"]),
    ({"pretrain.methods.simclr.temperature": 1e-30}, ["simclr.temperature", "1e-30"]),
    ({"pretrain.methods.simclr.temperature": 0.01}, ["simclr.temperature", "0.01", "0.02"]),
    (
        {"finetune.networks.unet3d.features": [8] * 5 + [1]},
        ["networks.unet3d.features.5", "1", "2"],
    ),
    ({"store.chunk_shape": [1024, 1024, 512]}, ["store", "chunk_shape (1024,", "64 to"]),
    ({"store.chunk_shape": [1, 1, 1]}, ["store", "chunk_shape (1, 1, 1)", "64 to"]),
    ({"data.phantoms.volume_shape": [32, 32, 4]}, ["phantoms.volume_shape.2", "4", "8"]),
    ({"pretrain.methods.dino.output_width": 1}, ["dino.output_width", "1", "2"]),
    ({"pretrain.validation_sequences": 1}, ["pretrain.validation_sequences", "1", "2"]),
    ({"sequences.validation_every": 1}, ["sequences.validation_every", "1", "2"]),
    ({"encoder.depth": 2**31 - 1}, ["encoder.depth", "2147483647"]),
    (
        {"encoder.width": 98304, "encoder.mlp_width": 98304, "encoder.depth": 1000},
        ["weights", "at most"],
    ),
    ({"pretrain.batch_size": 2**31 - 1}, ["pretrain.batch_size", "2147483647", "GB", "at most"]),
    ({"finetune.tasks.la.roi": [4096, 4096, 4096]}, ["tasks.la", "roi", "voxels", "at most"]),
    ({"finetune.tasks.nodule.data.scale": 1e-30}, ["nodule.data.scale", "1e-30"]),
    ({"finetune.tasks.la.data.spacing": [1e-9, 1, 1]}, ["data.spacing.0", "1e-09", "0.01"]),
    ({"finetune.tasks.task06_lung.data.window": [0, 1e-30]}, ["window", "low < high"]),
    ({"finetune.tasks.task06_lung.data.window": [-1e300, 0]}, ["window.0", "-1e+300"]),
    # Dividing batches and models.
    ({"execution.pretrain.accumulate": {"simclr": 2}}, ["accumulate.simclr", "ours", "mae3d"]),
    ({"execution.pretrain.accumulate": {"our": 1}}, ["accumulate.our", "no such"]),
    ({"execution.pretrain.processes": 3}, ["pretrain.batch_size", "16", "3 equal parts"]),
    # Phantoms that do not exist, or are too few.
    ({"sequences.sources.0.dataset": "dicom_ct"}, ["sources.0.dataset", "dicom_ct", "data.root"]),
    ({"data.phantoms.segmentation_cases": 2}, ["phantoms.segmentation_cases", "2", "0 validation"]),
    (
        {"data.phantoms.classification_cases": [9, 1, 9]},
        ["classification_cases", "1 validation", "2"],
    ),
    ({"data.phantoms.lesions_per_category": 3}, ["phantoms.lesions_per_category", "3", "4"]),
    (
        {
            "sequences.sources": [SPATIAL],
            "ablation.tasks": [],
            "data.phantoms.source_volumes": 2,
            "sequences.spatial.crops_per_volume": 3,
        },
        ["sequences.validation_every", "50", "1 of all"],
    ),
    # Folders.
    *(
        ({"results": f"results/{name}"}, ["results/" + name, "the study of the folder results"])
        for name in ("tables", "figures", "report", "plots", "cost", "Tables")
    ),
]


def changed(changes: Changes) -> dict[str, Any]:
    """The demo, every key given, with some keys changed."""
    content = copy.deepcopy(DEMO)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        place: Any = content
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place[key]
        place[int(last) if isinstance(place, list) else last] = value
    return content


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda v: repr(v)[:60])
def test_parts_that_do_not_agree_are_refused(changes: Changes, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(changed(changes), "mine.yaml")
    assert all(word in str(caught.value) for word in words), caught.value


#: Changes that are no fault, though near to one.
ACCEPTED: list[Changes] = [
    {"pretrain.batch_size": 2},
    {"pretrain.methods": {}, "ablation.tasks": [], "beyond.token_order": []},
    {"finetune.scratch": []},
    {"pretrain.methods.ours.optimiser.lr": 1e6},
    {"pretrain.methods.ours.optimiser.lr": 3e38},
    {"finetune.tasks.la.scratch.lr": 3e38},
    {"finetune.tasks.la.pretrained.warmup_steps": 100},
    {"pretrain.validate_every": 5000, "finetune.tasks.la.validate_every": 5000},
    {"finetune.tasks.la.title": "Vorhof ♥ 🫀 心房"},
    {"sequences.sources": [SPATIAL], "ablation.tasks": []},
    {"finetune.tasks.la.dataset": "task09_spleen"},
    {"label_ratio.ratios": [0.5, 0.5001, 1.0]},
    {"ablation.variants": {}},
    {"results": "results/mine"},
    {"execution.pretrain.accumulate": {"ours": 4, "mae3d": 2}},
]


@pytest.mark.parametrize("changes", ACCEPTED, ids=lambda v: repr(v)[:60])
def test_what_is_near_a_fault_is_accepted(changes: Changes) -> None:
    validate(changed(changes), "mine.yaml")


def test_all_problems_are_told_at_once() -> None:
    changes = {"pretrain.batch_size": 1, "report.dpi": 130, "finetune.tasks.la.title": "RICORD"}
    with pytest.raises(ConfigError) as caught:
        validate(changed(changes), "mine.yaml")
    assert str(caught.value).count("batch_size 1") == 3
    assert "tasks.ricord.title" in str(caught.value)


def test_real_volumes_are_counted_by_their_folder_alone() -> None:
    few = {"data.phantoms.segmentation_cases": 1, "sequences.sources.0.dataset": "dicom_ct"}
    validate(changed({**few, "data.root": "/data"}), "mine.yaml")


def test_phantoms_that_do_not_exist_are_known() -> None:
    from voxseq.phantoms.registry import NAMES

    assert set(CATALOGUE) - set(NAMES) == WITHOUT_PHANTOMS


def test_the_catalogue_knows_what_its_labels_and_images_are_for() -> None:
    demo = read_yaml(ROOT / "params.yaml")
    for task in demo["finetune"]["tasks"].values():
        assert CATALOGUE[task["dataset"]].task == task["type"]
    for source in demo["sequences"]["sources"]:
        assert source["kind"] in CATALOGUE[source["dataset"]].kinds
    for row in CATALOGUE.values():
        assert ("contrast" in row.kinds) == ("contrasts" in row.options), row.name
        assert bool(row.task) == (row.role != "source"), row.name
