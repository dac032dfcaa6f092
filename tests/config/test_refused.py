"""Values that cannot be, and parts that do not agree: refused before any work, key by key."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from tests.helpers import ROOT
from voxseq.base.errors import ConfigError
from voxseq.catalogue import CATALOGUE
from voxseq.config import load_config, read_yaml
from voxseq.config.load import validate
from voxseq.config.reading import parse_yaml

DEMO = load_config(ROOT / "params.yaml").model_dump(mode="json")
SPATIAL = {"dataset": "amos22", "kind": "spatial"}
#: Dotted keys of the demo with other values, then words of the message, of which @ is the key: the
#: value, and what was expected.
REFUSED = r"""
sequencs: {} | @ | unknown key | `sequences`
encoder.depth: 2147483647 | @ | 2147483647
encoder.heads: 5 | width 96 | heads 5
encoder.patch_size: [4, 4] | @ | Field required
encoder.patch_size: [5, 5, 5] | sequences.volume_shape | multiple | patch_size
encoder.patch_size: [4, 4, 2] | patch_size (4, 4, 2) | power of two | pcrlv2
encoder.widht: 96 | @ | 96 | did you mean `width`
encoder.width: 32 | width 32 | not divisible by 6
encoder.width: 98304, encoder.mlp_width: 98304, encoder.depth: 1000 | weights | at most
pretrain.batch_size: 2147483648 | @ | 2147483648 | less than
pretrain.batch_size: 1 | pretrain.methods.simclr: pretrain.batch_size 1: | expected 2 or more |
    pretrain.methods.moco_v3: pretrain.batch_size 1: | pretrain.methods.pcrlv2: pretrain.batch_size
    1:
pretrain.batch_size: 2147483647 | @ | 2147483647 | GB | at most
pretrain.methods: {} | @ | variants of 'ours'
pretrain.methods.dino.global_shape: [12, 12, 10] | dino.global_shape: (12, 12, 10) | (4, 4, 4)
pretrain.methods.dino.local_shape: [12, 12, 10] | dino.local_shape: (12, 12, 10) | (4, 4, 4)
pretrain.methods.dino.optimiser.layer_decay: 0.9 | dino.optimiser.layer_decay | 0.9 | null
pretrain.methods.dino.output_width: 1 | dino.output_width | 1 | 2
pretrain.methods.mae3d.crop_shape: [12, 12, 10] | mae3d.crop_shape: (12, 12, 10) | multiple | (4, 4,
    4)
pretrain.methods.mae3d.crop_shape: [4, 4, 4] | mae3d.crop_shape | one token | hide
pretrain.methods.mae3d.crop_shape: [32, 12, 12] | crop_shape | exceeds | (12, 12, 20)
pretrain.methods.medcoss.optimiser.warmup_steps: 251 | medcoss.optim | 251 | 250 | stage
pretrain.methods.moco_v3.view_shape: [12, 12, 10] | moco_v3.view_shape: (12, 12, 10) | (4, 4, 4)
pretrain.methods.our: {} | @ | choose from | ours
pretrain.methods.ours: 'yes' | @ | yes | dictionary
pretrain.methods.ours.optimiser.betas: [0.9, 1.5] | optimiser.betas.1 | 1.5 | less than 1
pretrain.methods.ours.optimiser.lr: .inf | optimiser.lr | inf | finite
pretrain.methods.ours.optimiser.lr: .nan | optimiser.lr | nan
pretrain.methods.ours.optimiser.lr: 0 | optimiser.lr | greater than 0
pretrain.methods.ours.optimiser.lr: 1.0e+39 | ours.optimiser.lr | 1e+39 | single precision
pretrain.methods.ours.optimiser.lr: 1.0e-60 | ours.optimiser.lr | 1e-60 | single
pretrain.methods.ours.optimiser.momentum: 0.9 | pretrain.methods.ours | optimiser.momentum | 0.9
pretrain.methods.ours.optimiser.schedule: linear | optimiser.schedule | linear | cosine | poly |
    constant
pretrain.methods.ours.optimiser.warmup_steps: 501 | ours.optimiser.warmup | 501 | 500
pretrain.methods.ours.token_order: raster, beyond.token_order: [la]
    | beyond.token_order | raster | nothing
pretrain.methods.ours.loss: norm, beyond.loss: [la] | beyond.loss | norm | nothing
pretrain.methods.pcrlv2.decoder_channels: [8, 8] | decoder_channels | (8, 8) | need 3
pretrain.methods.pcrlv2.global_shape: [12, 12, 10] | pcrlv2.global_shape: (12, 12, 10) | (4, 4, 4)
pretrain.methods.pcrlv2.local_shape: [12, 12, 10] | pcrlv2.local_shape: (12, 12, 10) | (4, 4, 4)
pretrain.methods.pcrlv2.swap_block: [13, 1, 1] | swap_block | 13 | larger | 12
pretrain.methods.simclr.temperature: 1.0e-30 | simclr.temperature | 1e-30
pretrain.methods.simclr.temperature: 0.01 | simclr.temperature | 0.01 | 0.02
pretrain.methods.simclr.view_shape: [12, 12, 10] | simclr.view_shape: (12, 12, 10) | (4, 4, 4)
pretrain.precision: 8-bit | @ | 8-bit | bf16-mixed
pretrain.steps: -5 | @ | -5 | greater than 0
pretrain.steps: 12.5 | @ | 12.5 | integer
pretrain.steps: true | @ | True | number
pretrain.steps: many | @ | many | integer
pretrain.steps: null | @ | None | integer
pretrain.steps: [1200] | @ | 1200 | integer
pretrain.steps: 20 | pcrlv2.optimiser.warmup_steps: 50 | 20 steps | pretrain.steps 20
pretrain.validation_sequences: 1 | @ | 1 | 2
pretrain.precission: 32, pretrain.methods.ours.tokn_order: raster | `precision` | ours.tokn_order |
    `token_order`
pretrain.methods.ours.optimiser.zzz: 1 | optimiser.zzz: unknown key (given: 1)
sequences.sources.0.datset: amos22 | sequences.sources.0.datset | `dataset`
finetune: null | @ | None | dictionary
finetune: fast | @
finetune.defaults: 3 | defaults | segmentation, classification, regression
finetune.defaults.segmentation: 3 | defaults | mapping | segmentation
finetune.networks.unet3d.features: [8, 8, 8, 8, 8, 1] | networks.unet3d.features.5 | 1 | 2
finetune.scratch: [swin] | @ | swin | unetr, unet3d, resnet, vit
finetune.scratch: [ours] | @ | ours | unetr, unet3d, resnet, vit
finetune.seeds: [0, 1, 2] | @ | is gone | at the top of the file: seeds: 3
pretrain.seed: 42 | @ | is gone | at the top of the file: seeds: 1
seeds: 0 | @ | greater than 0
seeds: [0, 1] | @ | integer
seeds: true | @ | not true or false
finetune.tasks: {} | label_ratio.tasks: unknown task 'la' | finetune.tasks has none
finetune.tasks: [1] | @ | dictionary
finetune.tasks.$(id): {type: segmentation} | $(id) | pattern
finetune.tasks: {../x: {type: segmentation}} | ../x
finetune.tasks.la.class_weights: [1] | class_weights has 1 | expected 2 | left atrium
finetune.tasks.la.class_weights: [0, 1] | la.class_weights.0 | greater than
finetune.tasks.la.class_weights: [1, 1.0e+308] | la.class_weights.1 | 1e+308
finetune.tasks.la.class_weights: [1, 1.0e-320] | la.class_weights.1
finetune.tasks.la.data.resize: [16, 16, 16] | spacing or resize, not both
finetune.tasks.la.data.spacing: [1.0e-09, 1, 1] | data.spacing.0 | 1e-09 | 0.01
finetune.tasks.la.dataset: left_atrium_2 | @ | left_atrium_2
finetune.tasks.la.dataset: amos22 | tasks.la.dataset | amos22 has no labels
finetune.tasks.la.dataset: nodule | tasks.la.type | segmentation | classification
finetune.tasks.la.data.channels: [0, 0] | la.data.channels | 0 occurs more than once
finetune.tasks.la.data.channels: [1] | la.data.channels | la: there is no channel 1; it has 1
finetune.tasks.la.data.channels: [flair] | la.data.channels | no channel 'flair'
finetune.tasks.la.labels: [] | labels | at least one
finetune.tasks.la.ignore_label: 1 | ignore_label 1 | 'left atrium' | above 1
finetune.tasks.la.ignore_label: 0 | la.ignore_label | greater than 0
finetune.tasks.task03_liver.ignore_label: 2 | task03_liver.ignore_label | merge_labels
finetune.tasks.la.surface_tolerance: [1, 2] | surface_tolerance has 2 entries | left atrium
finetune.tasks.la.surface_tolerance: 0 | la.surface_tolerance | 0.01
finetune.tasks.la.labels: [a, 'A '], finetune.tasks.la.class_weights: null | labels.1
finetune.tasks.la.labels: [left, right], finetune.tasks.la.class_weights: null | 'right'
finetune.tasks.la.networks.unet3d.optimiser.warmup_steps: 201 |
    tasks.la.networks.unet3d.optimiser.warmup_steps | 201 | 200
finetune.tasks.la.overlap: 1.0 | overlap | 1.0 | less than 1
finetune.tasks.la.pretrained.leyer_decay: 0.5 | .la. | leyer_decay | 0.5 | `layer_decay`
finetune.tasks.la.pretrained.warmup_steps: 201 | la.pretrained.warmup_steps | 201 | 200
finetune.tasks.la.roi: [16, 16, 18] | @ | multiple | (16, 16, 18)
finetune.tasks.la.roi: [4096, 4096, 4096] | tasks.la | roi | voxels | at most
finetune.tasks.la.scratch.warmup_steps: 201 | la.scratch.warmup_steps | 201 | 200
finetune.tasks.la.steps: 0 | steps | greater than 0
finetune.tasks.la.title: task06  LUNG | tasks.la.title | task06  LUNG | task06_lung.title
finetune.tasks.la.type: detection | detection | segmentation | classification | regression
finetune.tasks.la.type: [segmentation] | la | type
finetune.tasks.nodule.data.resize: null | nodule.data.resize | shape
finetune.tasks.nodule.data.resize: [28, 28, 28], encoder.patch_size: [8, 8, 8] | 28
finetune.tasks.nodule.data.scale: 1.0e-30 | nodule.data.scale | 1e-30
finetune.tasks.nodule.dataset: la | tasks.nodule.type | classification | segmentation
finetune.tasks.nodule.labels: [one] | nodule.labels | at least 2 items
finetune.tasks.nodule.labels: [a, b, c] | nodule.labels | 3 names | 2 classes
finetune.tasks.nodule.labels: [x, x] | nodule.labels | x occurs more than once
finetune.tasks.task03_liver.data.merge_labels: {} | task03_liver.data.merge | label 2
finetune.tasks.task03_liver.data.merge_labels: {2: -1} | merge_labels.2 | -1
finetune.tasks.task03_liver.data.merge_labels: {2: 300} | merge_labels.2 | 300 | 255
finetune.tasks.task03_liver.data.merge_labels: {-1: 1} | merge_labels.-1
finetune.tasks.task03_liver.data.merge_labels: {300: 1} | merge_labels.300
finetune.tasks.task03_liver.data.merge_labels: {2: 1, 7: 1} | merge_labels | 7 is no label
finetune.tasks.task06_lung.data.window: [0, 1.0e-30] | window | low < high
finetune.tasks.task06_lung.data.window: [[0, 1], [0, 2]] | lung.data.window | 2 entries | 1 channels
finetune.tasks.task06_lung.data.window: [[0, 1], [2, 1]] | window (2.0, 1.0) | low < high
finetune.tasks.task06_lung.data.window: [[0, 1], [0, a]] | lung.data.window.1.1 | a
finetune.tasks.task06_lung.data.window: [-1.0e+300, 0] | window.0 | -1e+300
finetune.tasks.task06_lung.roi: [16, 32, 16] | task06_lung.roi | (16, 32 | msd | equal
finetune.tasks.task09_spleen.data.merge_labels.a: b | merge_labels
finetune.tasks.task09_spleen.data.window: [9, -9] | window | low < high
finetune.tasks.task09_spleen.data.window: null | needs window
sequences.contrast.contrasts: [t1n, t1n, t1n, t1n] | contrast.contrasts | t1n occurs more than
sequences.contrast.contrasts: [t1n, t1c, t2w, dwi] | @ | 'dwi' | t1n, t1c, t2w, t2f
sequences.length: 8 | contrast.contrasts | names 4 | length = 8
sequences.percentiles: [99, 1] | percentiles (99.0, 1.0) | low < high
sequences.sources: [] | @ | pretrain.methods
sequences.sources: [{dataset: amos22, kind: spatial}, {dataset: amos22, kind: spatial}] | sources |
    amos22 | more than once | sequences
sequences.sources: [{dataset: stoic, kind: spatial}] | medcoss | no MRI
sequences.sources: [{dataset: amos22, kind: spatial}], ablation.tasks: [],
    data.phantoms.source_volumes: 2, sequences.spatial.crops_per_volume: 3 |
    sequences.validation_every | 50 | 1 of all
sequences.sources.0.channels: [t2] | sources.0.channels | no channel 't2' | it has 1
sequences.sources.0.dataset: amos2 | sequences.sources.0 | 'amos2' | amos22
sequences.sources.0.dataset: dicom_ct | sources.0.dataset | dicom_ct | data.root
sequences.sources.0.kind: temporal | sources.0.kind | temporal | spatial
sequences.sources.0.kind: contrast | sources.0.kind | contrast | ribfrac | spatial
sequences.sources.0.kind: semantic | sources.0.kind | semantic | ribfrac | spatial
sequences.sources.12.kind: semantic | sources.12.kind | brats23 | spatial or contrast
sequences.sources.13.kind: spatial | sources.13.kind | deeplesion | semantic
sequences.spatial.stride: 5 | spatial.stride 5 | overruns | at most 4
sequences.spatial.weight: 1.0 | weight | spatial | contrast | semantic
sequences.spatial.weight: 0, sequences.contrast.weight: 0, sequences.semantic.weight: 0 | weight |
    all 0 | positive
sequences.spatial.window_shape: [8, 8, 16] | spatial.window_shape | agree
sequences.validation_every: 1 | @ | 1 | 2
sequences.volume_shape: [16, 16, 18] | last axis 18 | multiple of length 4
ablation.tasks: [task99] | unknown task 'task99' | finetune.tasks has
ablation.tasks: [la, la] | @ | more than once
ablation.variants.no_random_start.attention: full | attention | full
ablation.variants.stride12.stride: 9 | ablation.variants.stride12 | stride 9 | at most 4
ablation.variants.stride4.title: Stride 12 | variants.stride | title | distinct
ablation.variants.stride4.title: full method | stride4.title | our full method
ablation.variants.x: {title: x} | @ | changes nothing | the full
ablation.variants.x: {title: x, stride: 2} | @ | the full method
ablation.variants.x: {title: x, attention: prefix} | variants.x | the full method
ablation.variants.x: {title: x, stride: 1} | variants.x | variants.stride4
label_ratio.ratios: [0.5, 1.5] | label_ratio.ratios.1 | 1.5 | less than or equal
label_ratio.ratios: [0.5, 0.5] | @ | 0.5 | more than once
label_ratio.ratios: [0.5, 0.50000001] | @ | 0.50000001 | 50 %
label_ratio.ratios: [0.9999999999] | @ | 0.9999999999 | 100 %
label_ratio.tasks: [task99] | unknown task 'task99' | task03_liver
label_ratio.tasks: [la], label_ratio.methods: [ours, resnet] | label_ratio.methods | resnet has no
    network | segmentation
data.fetch_at_most_gb: 1e400 | @
data.fetch_at_most_gb: 1e308 | @
data.min_valid_fraction: 0 | @ | greater than 0
data.min_valid_fraction: 2 | @
data.phantoms.classification_cases: [9, 1, 9] | classification_cases | 1 validation | 2
data.phantoms.lesions_per_category: 3 | phantoms.lesions_per_category | 3 | 4
data.phantoms.seed: -1 | @ | -1 | greater than or equal
data.phantoms.segmentation_cases: 2 | phantoms.segmentation_cases | 2 | 0 validation
data.phantoms.volume_shape: [32, 32, 4] | phantoms.volume_shape.2 | 4 | 8
data.split_ratio: [0.5, 0.1, 0.1] | split_ratio | 0.7 | expected 1
data.split_ratio: [1, 1, 1] | split_ratio
scale: ../elsewhere | @ | ../elsewhere | pattern
scale: 'a    b' | @
results: /somewhere | @ | /somewhere | pattern
results: results/../.. | @ | pattern
results: results/tables | results/tables | the study of the folder results
results: results/figures | results/figures | the study of the folder results
results: results/report | results/report | the study of the folder results
results: results/plots | results/plots | the study of the folder results
results: results/cost | results/cost | the study of the folder results
results: results/Tables | results/Tables | the study of the folder results
execution: {pretrain: {threads: 0}} | execution.pretrain.threads | 0
execution.pretrain.accumulate: {simclr: 2} | accumulate.simclr | ours | mae3d
execution.pretrain.accumulate: {our: 1} | accumulate.our | no such
execution.pretrain.processes: 3 | pretrain.batch_size | 16 | 3 equal parts
report.dpi: 1 | @ | 20
report.dpi: 2147483647 | @ | 2147483647 | 1200
report.max_curve_points: 1 | @ | 2
store.chunk_shape: [1024, 1024, 512] | store | chunk_shape (1024, | 64 to
store.chunk_shape: [1, 1, 1] | store | chunk_shape (1, 1, 1) | 64 to
finetune.networks.resnet: {depth: 50} | networks.resnet.depth
finetune.networks.unet3d.features: [8, 16, 32] | networks.unet3d.features
finetune.tasks.la.roi: [16, 15, 16] | tasks.la.roi | every axis needs 16 voxels or more
finetune.tasks.la.networks.unet3d.norm: instance | tasks.la.roi | instance norm maps to zero
finetune.tasks.nodule.batch_size: 1 | tasks.nodule.batch_size 1: the batch norm
"""


def rows(table: str) -> list[Any]:
    """Changes and words of each line; an indented one continues the line above."""
    lines = re.sub(r"\n\s+", " ", table.strip()).splitlines()
    cells = [line.split(" | ") for line in lines]
    return [
        pytest.param(changes, [key if word == "@" else word for word in words], id=key)
        for text, *words in cells
        for changes in (parse_yaml(f"{{{text}}}")[0],)
        for key in (next(iter(changes)),)
    ]


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The demo, every key given, with some keys changed."""
    content = copy.deepcopy(DEMO)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        place: Any = content
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        place[int(last) if isinstance(place, list) else last] = value
    return content


@pytest.mark.parametrize(("changes", "words"), rows(REFUSED))
def test_what_cannot_be_is_refused(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(changed(changes), "mine.yaml")
    message = str(caught.value)
    assert "mine.yaml" in message
    assert all(word in message for word in words), message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pretrain.steps": 10**400}, ["pretrain.steps", "1000", "2147483647"]),
        ({"pretrain.methods.ours.optimiser.lr": 10**400}, ["optimiser.lr", "number"]),
        ({"finetune.tasks.la.labels": [f"l{i}" for i in range(256)]}, ["tasks.la.labels", "254"]),
        ({"scale": "a\nb"}, ["scale", "U+000A"]),
        *(
            ({"results": f"results/{name}"}, ["results/" + name, "the study of the folder results"])
            for name in ("tables", "figures", "report", "plots", "cost", "Tables")
        ),
    ],
)
def test_what_no_line_can_hold_or_folder(changes: dict[str, Any], words: list[str]) -> None:
    test_what_cannot_be_is_refused(changes, words)


def test_keys_that_are_no_words() -> None:
    with pytest.raises(ConfigError, match=r"1: Keys should be strings"):
        validate({**DEMO, 1: 2}, "mine.yaml")


#: Changes that are no fault, though near to one.
ACCEPTED: list[dict[str, Any]] = [
    {"pretrain.batch_size": 2},
    {"pretrain.methods": {}, "ablation.tasks": [], "beyond.token_order": []},
    {"finetune.scratch": []},
    {"pretrain.methods.ours.optimiser.lr": 1e6},
    {"pretrain.methods.ours.optimiser.lr": 3e38},
    {"finetune.tasks.la.scratch.lr": 3e38},
    {"finetune.tasks.la.pretrained.warmup_steps": 200},
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
def test_what_is_near_a_fault_is_accepted(changes: dict[str, Any]) -> None:
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
    from voxseq.phantoms import NAMES

    assert {name for name, row in CATALOGUE.items() if row.phantoms} == set(NAMES)


def test_the_catalogue_knows_what_its_labels_and_images_are_for() -> None:
    demo = read_yaml(ROOT / "params.yaml")
    for task in demo["finetune"]["tasks"].values():
        assert CATALOGUE[task["dataset"]].task == task["type"]
    for source in demo["sequences"]["sources"]:
        assert source["kind"] in CATALOGUE[source["dataset"]].kinds
    for row in CATALOGUE.values():
        assert ("contrast" in row.kinds) == ("contrasts" in row.options), row.name
        assert bool(row.task) == (row.role != "source"), row.name
