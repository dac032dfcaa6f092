"""Scores of masks and tables, whoever made them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from tests.helpers.calling import Call
from tests.helpers.finetune_store import table
from tests.helpers.trained import Trained
from voxseq.base.errors import DataError
from voxseq.predict.evaluate import Settings, evaluate


def box(start: int, number: int = 1, shape: tuple[int, ...] = (12, 12, 12)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[start : start + 4, 2:6, 2:6] = number
    return mask


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def rows(path: Path, header: str, *lines: str) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


@pytest.mark.slow
def test_predicted_folders_have_the_scores_of_the_run(
    trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    given = trained["segmentation"]
    call("predict", given.folder, given.images, "-o", tmp_path / "p", "--probabilities")
    call("evaluate", tmp_path / "p", given.labels, "-o", tmp_path / "scores.csv", "--workers", "1")
    found = {(r["case"], r["label"], r["metric"]): r for r in table(tmp_path / "scores.csv")}
    for line in table(given.folder / "scores.csv"):
        one = found[line["case"], line["label"], line["metric"]]
        assert float(one["value"]) == pytest.approx(float(line["value"]), abs=1e-6)
    assert {metric for _, _, metric in found} == {"dice", "surface_dice", "hd95"}


def test_known_masks_have_known_scores(tmp_path: Path) -> None:
    affine = np.diag([2.0, 1, 1, 1])
    write(tmp_path / "l/a.nii.gz", box(2), affine)
    write(tmp_path / "p/a.nii.gz", box(3), affine)
    write(tmp_path / "l/b.nii.gz", box(2) + box(7, 2), affine)
    write(tmp_path / "p/b.nii.gz", box(2), affine)
    found = evaluate(tmp_path / "p", tmp_path / "l", Settings(names=("one",), tolerance=1.0))
    scores = {row[:3]: row[3] for row in found.rows}
    assert scores["a", "one", "dice"] == 0.75
    assert scores["a", "one", "hd95"] == 2.0
    assert 0 < scores["a", "one", "surface_dice"] < 1
    assert scores["b", "one", "dice"] == scores["b", "one", "surface_dice"] == 1
    # Class 2 has no name: its number. The prediction of b misses it; a has none.
    assert scores["b", "2", "dice"] == scores["b", "2", "surface_dice"] == 0
    assert np.isnan(scores["a", "2", "dice"])
    means = {(label, metric): (mean, n) for label, metric, mean, n in found.means()}
    assert means["one", "dice"] == (0.875, 2)
    assert means["2", "dice"] == (0, 1)
    ignored = evaluate(tmp_path / "p", tmp_path / "l", Settings(ignored=2, surface=False))
    assert {row[1:3] for row in ignored.rows} == {("1", "dice")}


def test_files_of_other_formats_and_directions_are_compared_in_space(tmp_path: Path) -> None:
    label = write(tmp_path / "a.nii.gz", box(2))
    turned = np.diag([-1.0, 1, 1, 1])
    turned[0, 3] = 11
    write(tmp_path / "b.nii.gz", box(2)[::-1], turned)
    sitk.WriteImage(sitk.ReadImage(str(label)), str(tmp_path / "c.mha"))
    for name in ("b.nii.gz", "c.mha"):
        (first, *_) = evaluate(tmp_path / name, label, Settings(surface=False)).rows
        assert first[3] == 1


def test_what_cannot_be_scored_is_named(tmp_path: Path, call: Call) -> None:
    for name in ("good", "moved", "small", "soft", "alone"):
        write(tmp_path / f"l/{name}.nii.gz", box(2))
    shifted = np.eye(4)
    shifted[0, 3] = 5
    write(tmp_path / "p/good.nii.gz", box(2))
    write(tmp_path / "p/moved.nii.gz", box(2), shifted)
    write(tmp_path / "p/small.nii.gz", box(2)[:6])
    write(tmp_path / "p/soft.nii.gz", box(2) * np.float32(0.5))
    said = call("evaluate", tmp_path / "p", tmp_path / "l", status=1)
    for text in (
        "moved: prediction and label lie 5 mm apart",
        "small: the prediction has (6, 12, 12) voxels",
        "soft: ",
        "expected whole numbers",
        "alone: it has no prediction",
    ):
        assert text in said.err
    assert "good" not in said.err
    alone = call("evaluate", tmp_path / "p/small.nii.gz", tmp_path / "l/small.nii.gz", status=1)
    # No table without scores.
    assert alone.out == ""
    shutil.rmtree(tmp_path / "p")
    (tmp_path / "p").mkdir()
    assert (
        "none of which has a prediction"
        in call("evaluate", tmp_path / "p", tmp_path / "l", status=2).err
    )


def test_scores_do_not_replace_what_is_scored(tmp_path: Path, call: Call) -> None:
    for name in ("predictions", "truth"):
        (tmp_path / f"{name}.csv").write_text("case,target,value\na,1,1\n")
    words = ("evaluate", tmp_path / "predictions.csv", tmp_path / "truth.csv")
    for name in ("predictions", "truth"):
        assert "would replace" in call(*words, "-o", tmp_path / f"{name}.csv", status=2).err
        assert (tmp_path / f"{name}.csv").read_text() == "case,target,value\na,1,1\n"


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_tables_have_the_scores_of_the_run(
    kind: str, trained: dict[str, Trained], tmp_path: Path
) -> None:
    given = trained[kind].folder
    with (given / "predictions.csv").open() as file:
        lines = list(csv.DictReader(file))
    names = ["none", "few", "many"]
    known = kind == "classification"
    truth = rows(
        tmp_path / "truth.csv",
        "case,target",
        *(f"{r['case']},{names[int(r['target'])] if known else r['target']}" for r in lines),
    )
    found = {(r[1], r[2]): r[3] for r in evaluate(given / "predictions.csv", truth).rows}
    expected = table(given / "scores.csv")
    assert expected
    for line in expected:
        key = (line["label"], line["metric"])
        assert found[key] == pytest.approx(float(line["value"]), abs=1e-6, nan_ok=True)


def test_two_classes_need_one_column(tmp_path: Path) -> None:
    made = rows(tmp_path / "p.csv", "case,probability", "a,0.2", "b,0.9", "c,0.6", "d,0.1")
    truth = rows(tmp_path / "t.csv", "case,target", "a,0", "b,1", "c,0", "d,1", "e,1")
    found = evaluate(made, truth)
    scores = {row[2]: row[3] for row in found.rows}
    assert scores == {"auc": 0.5, "accuracy": 0.5}
    assert found.failed == {"e": "it has no prediction"}


@pytest.mark.parametrize(
    ("made", "truth", "reason"),
    [
        ("case,value\na,x\n", "case,target\na,1\n", "could not convert"),
        ("case,value\na,1\n", "case,target\nb,1\n", "no case of"),
        ("case,chance\na,1\n", "case,target\na,1\n", "no column of a prediction"),
        ("case,probability\na,1\n", "case,target\na,7\n", "class '7', expected one of 0, 1"),
        ("case,value\na\n", "case,target\na,1\n", "line 2 is too short"),
        ("case,value\na,1\n", "case,colour\na,1\n", "name one of them target"),
        ("", "case,target\na,1\n", "not readable as a table"),
    ],
)
def test_tables_that_do_not_fit_say_why(made: str, truth: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(made)
    (tmp_path / "t.csv").write_text(truth)
    with pytest.raises(DataError, match=reason):
        evaluate(tmp_path / "p.csv", tmp_path / "t.csv")
