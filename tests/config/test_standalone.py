"""Studies that stand alone: nothing comes from params.yaml, and sizes are stated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import ROOT
from voxseq.base.errors import ConfigError
from voxseq.config import load_config, read_yaml
from voxseq.config.overlay import merge

PARAMS = ROOT / "params.yaml"
WHOLE: dict[str, Any] = {
    "standalone": True,
    "scale": "mine",
    "results": "results/mine",
    "sequences": {
        "volume_shape": [16, 16, 16],
        "length": 4,
        "validation_every": 8,
        "sources": [{"dataset": "amos22", "kind": "spatial"}],
        "spatial": {
            "crops_per_volume": 7,
            "crop_shape": [20, 20, 20],
            "window_shape": [16, 16, 16],
            "stride": 1,
        },
    },
    "encoder": {"width": 24, "depth": 2, "heads": 2, "mlp_width": 48, "patch_size": [4, 4, 4]},
    "pretrain": {"steps": 5, "batch_size": 3, "methods": {"ours": {}}},
    "finetune": {"tasks": {}},
}


def without(key: str) -> dict[str, Any]:
    """The study without one key."""
    *above, last = key.split(".")
    made = merge({}, WHOLE)
    part = made
    for word in above:
        part = part[word]
    del part[last]
    return made


def test_nothing_is_taken_from_the_file_below(tmp_path: Path) -> None:
    demo = load_config(PARAMS)
    for base in (PARAMS, tmp_path / "missing.yaml"):
        found = load_config(base, [WHOLE])
        assert set(found.pretrain.methods) == {"ours"}
        assert not found.finetune.tasks
        assert not found.ablation.variants
        # What is no size has the default of its model, not the demo's value.
        assert found.data.phantoms.segmentation_cases != demo.data.phantoms.segmentation_cases
    assert "standalone" not in found.model_dump()


def test_further_files_are_laid_over_it_and_earlier_ones_dropped() -> None:
    before = {"report": {"dpi": 99}, "encoder": {"depth": 9}}
    after = {"pretrain": {"steps": 6}}
    found = load_config(PARAMS, [before, WHOLE, after])
    assert (found.encoder.depth, found.pretrain.steps) == (2, 6)
    assert found.report.dpi == 130


@pytest.mark.parametrize(
    "key",
    [
        "results",
        "encoder.patch_size",
        "pretrain.steps",
        "pretrain.batch_size",
        "sequences.volume_shape",
        "sequences.spatial.crop_shape",
        "sequences.spatial",
    ],
)
def test_a_size_that_is_not_stated_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match="is not stated") as error:
        load_config(PARAMS, [without(key)])
    assert key in str(error.value)
    assert "voxseq init" in error.value.hint


def test_a_misspelt_key_is_named_beside_the_one_that_is_not_stated() -> None:
    study = without("pretrain.steps")
    study["pretrain"] |= {"stepz": 5, "methods": {"ours": {"optimizer": {"lr": 1}}}}
    study["encoder"] |= {"depht": 2, "depth": "deep"}
    with pytest.raises(ConfigError) as error:
        load_config(PARAMS, [study])
    said = str(error.value)
    assert "pretrain.steps: is not stated" in said
    assert "pretrain.stepz: unknown key; did you mean `steps`? (given: 5)" in said
    assert "pretrain.methods.ours.optimizer: unknown key; did you mean `optimiser`?" in said
    assert "encoder.depht: unknown key; did you mean `depth`?" in said
    assert "encoder.depth: Input should be a valid integer" in said


def test_without_pre_training_no_sequences_are_asked_for() -> None:
    text = yaml.safe_dump(without("pretrain.steps") | {"pretrain": {"methods": {}}})
    with pytest.raises(ConfigError) as error:
        load_config(PARAMS, [yaml.safe_load(text)])
    assert "is not stated" not in str(error.value)
    assert "nothing would be trained" in str(error.value)


def test_a_part_that_a_study_does_without_need_not_be_there() -> None:
    without_tasks = load_config(PARAMS, [without("finetune")])
    assert not without_tasks.finetune.tasks
    tasks = {"finetune": read_yaml(PARAMS)["finetune"]}
    study = {k: v for k, v in WHOLE.items() if k not in ("sequences", "pretrain")}
    found = load_config(PARAMS, [study | tasks])
    assert not found.pretrain.methods
    assert not found.sequences.sources


@pytest.mark.parametrize("word", ["yes please", 1, None])
def test_a_word_that_is_neither_true_nor_false_is_refused(word: object) -> None:
    with pytest.raises(ConfigError, match="standalone: expected true or false"):
        load_config(PARAMS, [{**WHOLE, "standalone": word}])


def test_false_means_an_ordinary_overlay() -> None:
    overlay = {"standalone": False, "scale": "mine", "results": "results/mine"}
    assert load_config(PARAMS, [overlay]).encoder == load_config(PARAMS).encoder


def test_a_file_may_stand_alone_as_the_base_and_its_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(WHOLE, sort_keys=False))
    assert load_config(path) == load_config(PARAMS, [read_yaml(path)])
    path.write_text(path.read_text().replace("depth: 2", "depth: none"))
    with pytest.raises(ConfigError, match=r"encoder.depth.*mine.yaml, line"):
        load_config(PARAMS, [read_yaml(path)])


@pytest.mark.parametrize("folder", ["studies", "workflow/scales"])
def test_a_copied_study_needs_a_name_of_its_own(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder / "second.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(WHOLE, sort_keys=False))
    if folder == "studies":
        with pytest.raises(
            ConfigError, match=r"scale: mine, but the file is second\.yaml"
        ) as caught:
            load_config(PARAMS, [read_yaml(path)])
        assert "results/second" in str(caught.value)
    named = {**WHOLE, "scale": "second", "results": "results/second"}
    path.write_text(yaml.safe_dump(named, sort_keys=False))
    assert load_config(PARAMS, [read_yaml(path)]).scale == "second"
