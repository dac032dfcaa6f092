"""``data.sets`` of the configuration: what is refused, what enters fingerprints, what is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT, own_sets
from voxseq.base.errors import ConfigError
from voxseq.config import Config, load_config
from voxseq.config.amounts import content
from voxseq.config.load import write_resolved
from voxseq.data.examined import dataset_of
from voxseq.plan import build_plan

FACTS = {"folder": "somewhere", "layout": "files", "modality": "CT"}
SPATIAL = {"dataset": "mine", "kind": "spatial"}


def study(facts: Any, name: str = "mine", **overlay: Any) -> Config:
    """The demo with own data as a source beside its own."""
    sources = [SPATIAL, {"dataset": "amos22", "kind": "spatial"}]
    overlays: list[dict[str, Any]] = [
        {"scale": "own", "results": "results/own"},
        {"data": {"sets": {name: facts}}, "sequences": {"sources": sources}},
        {"ablation": {"variants!": {}}},
        overlay,
    ]
    return load_config(ROOT / "params.yaml", overlays)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"foldre": "x"}, r"data\.sets\.mine\.foldre: unknown key; did you mean `folder`"),
        ({"folder": 3}, r"data\.sets\.mine\.folder: Input should be a valid string"),
        ({"folder": "~nobody-here/x"}, r"data\.sets\.mine: folder: ~nobody-here"),
        ({"layout": "nifty"}, r"data\.sets\.mine\.layout: unknown layout 'nifty'"),
        ({"layout": "table"}, r"data\.sets\.mine: options\.file: table needs it"),
        ({"options": {"suffix": "T1w"}}, r"options\.suffix: files does not read it"),
        ({"options": {"images": "../x/*"}}, r"options\.images.*begins at the data set's folder"),
        ({"options": {"images": "{name}.mha"}}, r"options\.images.*\{name\} means nothing"),
        ({"options": {"subject": "x"}}, r"options\.subject.*\?P<subject>"),
        ({"files": []}, r"data\.sets\.mine: files: your own data sets are not fetched"),
        ({"layout": "msd", "modality": "CT and MRI"}, "modality: msd cannot tell CT from MRI"),
        ({"modality": "PET"}, r"data\.sets\.mine\.modality: Input should be 'CT', 'MRI'"),
    ],
)
def test_wrong_facts_are_refused_by_key(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        study({**FACTS, **change})


def test_a_name_of_the_catalogue_and_an_unknown_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="amos22: the catalogue has a data set of this name"):
        study(FACTS, name="amos22")
    with pytest.raises(ConfigError, match=r"unknown data set 'mine'.*data\.sets has other"):
        study(FACTS, name="other")


def test_an_own_set_is_real_beside_phantoms(tmp_path: Path) -> None:
    config = study(FACTS)
    runs = build_plan(config).runs
    own, other = runs["download/mine"].config, runs["download/amos22/s0"].config
    assert (own.phantoms, other.phantoms is None) == (None, False)
    row = dataset_of(own)
    assert (row.own, row.role, row.folder, row.modality) == (True, "source", "somewhere", "CT")
    assert dataset_of(runs["preprocess/source/mine"].config) == row
    assert other.own is None
    assert "own" not in runs["download/amos22/s0"].settings
    assert content("mine", config).assumed == ("images",)
    stated = study({**FACTS, "volumes": 7, "assumed": {"shape": [9, 8, 7]}})
    assert content("mine", stated).voxels == 7 * 9 * 8 * 7


def test_the_resolved_configuration_is_the_same(tmp_path: Path) -> None:
    config = study({**FACTS, "options": {"images": ["a/*", "b/*"], "channels": ["x", "y"]}})
    path = write_resolved(config, tmp_path)
    assert load_config(path) == config
    assert set(json.loads(path.read_text())["data"]["sets"]["mine"]) == {*FACTS, "options"}


def test_place_and_title_are_no_part_of_a_fingerprint_and_lists_are(tmp_path: Path) -> None:
    places = [own_sets.nnunet(tmp_path / name) for name in ("one", "two")]
    split = {"train": ["a"], "val": ["b"], "test": ["c", "d"]}

    def fingerprint(place: Path, name: str = "s.json", **facts: Any) -> str:
        options = {"splits": name}
        written = {"folder": str(place), "layout": "nnunet", "modality": "CT", "options": options}
        return build_plan(study({**written, **facts})).runs["download/mine"].fingerprint

    for place in places:
        (place / "s.json").write_text(json.dumps(split))
        (place / "other.json").write_text(json.dumps(split))
    first = fingerprint(places[0])
    assert fingerprint(places[1], title="Mine") == fingerprint(places[0], "other.json") == first
    assert fingerprint(places[0], modality="MRI") != first
    (places[1] / "s.json").write_text(json.dumps({**split, "train": ["a", "d"], "test": ["c"]}))
    assert fingerprint(places[1]) != first
    with pytest.raises(ConfigError, match=r"data\.sets\.mine\.options\.splits: there is no file"):
        fingerprint(places[0], "none.json")


def with_task(facts: Any, labels: Sequence[str] = ("kidney",), **data: Any) -> Config:
    """The demo with a segmentation of own data as its only task."""
    base = load_config(ROOT / "params.yaml").model_dump(mode="json")["finetune"]["tasks"]
    usual = next(task for task in base.values() if task["type"] == "segmentation")
    held = {**usual, "dataset": "mine", "labels": list(labels), "class_weights": None}
    held["data"] = {**held["data"], "merge_labels": {}, **data}
    alone: dict[str, Any] = {"label_ratio": {"tasks": []}, "beyond!": {}, "ablation": {"tasks": []}}
    return study(facts, finetune={"tasks!": {"t": held}}, **alone)


@pytest.mark.parametrize(
    ("options", "stated", "labels", "data", "value"),
    [
        ({}, {"kidney": 1, "ignore": 2}, ["kidney"], {}, 2),
        ({}, {"kidney": 1, "Ignore": 7}, ["kidney"], {}, 7),
        ({}, {"kidney": 1}, ["kidney"], {}, None),
        ({"ignore": 9}, {"kidney": 1, "ignore": 2}, ["kidney"], {}, 9),
        # What the task uses is a class.
        ({}, {"kidney": 1, "ignore": 2}, ["kidney"], {"merge_labels": {2: 1}}, None),
        ({}, {"kidney": 1, "ignore": 2}, ["kidney", "rest"], {}, None),
        # Others say what is wrong with the file.
        ({}, "nothing", ["kidney"], {}, None),
    ],
)
def test_voxels_that_a_data_set_leaves_out_are_known_without_being_named_again(
    options: dict[str, Any],
    stated: Any,
    labels: list[str],
    data: dict[str, Any],
    value: int | None,
    tmp_path: Path,
) -> None:
    folder = own_sets.nnunet(tmp_path / "own", labels=stated)
    facts = {"folder": str(folder), "layout": "nnunet", "modality": "CT", "options": options}
    config = with_task(facts, labels, **data)
    runs = build_plan(config).runs
    assert runs["preprocess/task/t"].config.task.ignore_label == value
    assert {run.config.recipe.ignore_label for run in runs.values() if run.stage == "finetune"} == {
        value
    }
    # A job that reads the resolved configuration takes no other value, whatever the file says now.
    path = write_resolved(config, tmp_path)
    (folder / "dataset.json").unlink()
    assert load_config(path) == config


def test_a_task_gives_its_classes_unless_it_merges_labels(tmp_path: Path) -> None:
    def needed(**data: Any) -> tuple[Any, Any]:
        run = build_plan(with_task(FACTS, **data)).runs["download/mine"].config
        return run.task.labels, dataset_of(run).classes

    assert needed() == (1, ("kidney",))
    assert needed(merge_labels={3: 1, 2: 0}) == (3, ())
