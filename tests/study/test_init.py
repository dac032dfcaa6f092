"""`voxseq init`: the studies that it writes are valid, and its refusals leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from tests.cli.conftest import call, workspace
from tests.helpers import own_images, trees
from tests.helpers.calling import Call
from voxseq.base.commands import STUDIES
from voxseq.cli.schema import PLACE, schema
from voxseq.config import load_config, read_yaml
from voxseq.plan import build_plan

# Fixtures of the command line.
__all__ = ["call", "workspace"]

CASES: dict[str, tuple[Callable[[Path], None], tuple[str, ...], str]] = {
    "files": (own_images.scans, ("--images", "{}", "--pretrain-only"), ""),
    "dicom": (own_images.dicom, ("--images", "{}", "--pretrain-only"), ""),
    "nnunet": (own_images.nnunet, ("--images", "{}"), "segmentation"),
    "msd": (own_images.decathlon, ("--images", "{}/imagesTr"), "segmentation"),
    "classes": (own_images.tables, ("--images", "{}/knees.csv"), "classification"),
    "numbers": (
        own_images.tables,
        ("--images", "{}/age.csv", "--target", "age"),
        "regression",
    ),
}


@pytest.mark.parametrize("preset", ["tiny", pytest.param("base", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_a_study_is_written_that_can_be_planned(
    workspace: Path, tmp_path: Path, call: Call, case: str, preset: str
) -> None:
    write, words, kind = CASES[case]
    write(tmp_path / "own")
    given = [word.format(tmp_path / "own") for word in words]
    said = call("init", "mine", *given, "--preset", preset, "--seeds", "2").out
    path = STUDIES / "mine.yaml"
    config = load_config(Path("params.yaml"), [read_yaml(path)])
    assert config.data.dataset("mine").volumes
    assert [task.type for task in config.finetune.tasks.values()] == ([kind] if kind else [])
    runs = build_plan(config).runs
    assert {"pretrain/ours/s0", "pretrain/ours/s1"} <= set(runs)
    # "Ours" would be somebody else's in a user's tables.
    assert runs["tables/all"].config.title_of("ours") == "AR (autoregressive)"
    assert "2 seeds, each with its own pre-training" in " ".join(said.split())
    assert sum(run.action == "finetune" for run in runs.values()) == (4 if kind else 0)
    assert {"layout", "spacing", "on this machine", "voxseq run mine"} <= {
        word
        for word in ("layout", "spacing", "on this machine", "voxseq run mine")
        if word in " ".join(said.split())
    }
    # The file says why, and is short.
    text = path.read_text()
    assert text.startswith("# A study of ")
    assert len(text.splitlines()) < 100
    assert f"\n# yaml-language-server: $schema=../{PLACE}\n" in text
    jsonschema.validate(read_yaml(path), schema())
    assert max(map(len, text.splitlines()[3:])) <= 120


@pytest.mark.parametrize(
    ("words", "modality"), [((), "CT"), (("--modality", "MRI"), "MRI")], ids=["found", "told"]
)
def test_ct_that_was_cropped_to_soft_tissue_is_ct_unless_told_otherwise(
    workspace: Path, tmp_path: Path, call: Call, words: tuple[str, ...], modality: str
) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        tissue = rng.choice((-90, 45, 60), (16, 16, 16)) + rng.normal(0, 20, (16, 16, 16))
        trees.write_nifti(tmp_path / f"images/x{number}.nii.gz", np.rint(tissue).astype(np.int16))
    given = ("--images", str(tmp_path / "images"), "--pretrain-only", "--preset", "tiny")
    call("init", "mine", *given, *words)
    found = load_config(Path("params.yaml"), [read_yaml(STUDIES / "mine.yaml")])
    assert found.data.dataset("mine").modality == modality


@pytest.mark.parametrize("name", ["CT", "MRI"])
def test_dataset_json_tells_the_modality(
    workspace: Path, tmp_path: Path, call: Call, name: str
) -> None:
    own_images.decathlon(tmp_path)
    listed = tmp_path / "dataset.json"
    listed.write_text(listed.read_text().replace('{"0": "MRI"}', f'{{"0": "{name}"}}'))
    call("init", "mine", "--images", str(tmp_path), "--preset", "tiny")
    found = load_config(Path("params.yaml"), [read_yaml(STUDIES / "mine.yaml")])
    assert found.data.dataset("mine").modality == name


def test_channels_of_a_fourth_axis_are_written(workspace: Path, tmp_path: Path, call: Call) -> None:
    for number in range(3):
        both = [trees.image((16, 16, 16), seed) for seed in (number, number + 9)]
        trees.write_nifti(tmp_path / f"images/x{number}.nii.gz", np.stack(both, axis=-1))
    given = ("--images", str(tmp_path / "images"), "--pretrain-only", "--preset", "tiny")
    assert "--channels T1,T2" in call("init", "mine", *given, status=2).err
    call("init", "mine", *given, "--channels", "T1, T2")
    found = load_config(Path("params.yaml"), [read_yaml(STUDIES / "mine.yaml")])
    assert found.data.dataset("mine").channels == ("T1", "T2")


def test_steps_and_sizes_can_be_told(workspace: Path, tmp_path: Path, call: Call) -> None:
    own_images.decathlon(tmp_path / "own")
    call("init", "mine", "--images", str(tmp_path / "own"), "--preset", "tiny", "--steps", "7")
    config = load_config(Path("params.yaml"), [read_yaml(STUDIES / "mine.yaml")])
    assert config.pretrain.steps == config.finetune.tasks["mine"].steps == 7
    assert config.seeds == 3
    assert config.finetune.tasks["mine"].labels == ("liver",)


def test_an_encoder_alone_is_trained_once(workspace: Path, tmp_path: Path, call: Call) -> None:
    own_images.scans(tmp_path / "own")
    said = call("init", "mine", "--images", str(tmp_path / "own"), "--pretrain-only").out
    assert load_config(Path("params.yaml"), [read_yaml(STUDIES / "mine.yaml")]).seeds == 1
    assert "seeds, each" not in said


def test_values_with_gaps_become_classes_in_their_order(
    workspace: Path, tmp_path: Path, call: Call
) -> None:
    for number in range(4):
        trees.write_nifti(tmp_path / f"images/x{number}.nii.gz", trees.image((16, 16, 16)))
        label = trees.label((16, 16, 16)) * 2
        label[8:12, 8:12, 8:12] = 4
        trees.write_nifti(tmp_path / f"labels/x{number}.nii.gz", label)
    words = ("--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels"))
    call("init", "mine", *words, "--preset", "tiny")
    task = load_config(Path("params.yaml"), [read_yaml(STUDIES / "mine.yaml")]).finetune.tasks
    assert task["mine"].labels == ("label 2", "label 4")
    assert task["mine"].data.merge_labels == {2: 1, 4: 2}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mine", "--images", "nowhere"), "nowhere does not exist"),
        (("mine", "--images", "own", "--like", "nnunet"), "dataset.json"),
        (("mine", "--images", "own"), "no labels to fine-tune on"),
        (("old", "--images", "own"), "--force"),
        (("la", "--images", "own"), "the catalogue has a data set of this name"),
        (("a-b", "--images", "own"), "use letters, digits and underscores"),
        (("study", "--images", "own"), "study is a scale of the workflow"),
        (("demo", "--images", "own"), "demo is a scale of the workflow"),
    ],
    ids=str,
)
def test_a_refusal_writes_nothing(
    workspace: Path, call: Call, words: tuple[str, ...], said: str
) -> None:
    own_images.scans(Path("own"))
    STUDIES.mkdir()
    (STUDIES / "old.yaml").write_text("scale: old\n")
    printed = call("init", *words, status=2)
    assert said in printed.err
    assert "next: " in printed.err
    assert [path.name for path in STUDIES.iterdir()] == ["old.yaml"]
    assert (STUDIES / "old.yaml").read_text() == "scale: old\n"


def test_the_same_study_is_replaced_when_asked_to(workspace: Path, call: Call) -> None:
    own_images.scans(Path("own"))
    STUDIES.mkdir()
    (STUDIES / "old.yaml").write_text("scale: old\n")
    call("init", "old", "--images", "own", "--pretrain-only", "--preset", "tiny", "--force")
    assert "standalone: true" in (STUDIES / "old.yaml").read_text()
