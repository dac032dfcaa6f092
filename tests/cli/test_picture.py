"""The command that draws an image with its labels."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.helpers.calling import Call


def test_the_command_writes_a_picture_and_prints_its_path(tmp_path: Path, call: Call) -> None:
    array = np.zeros((12, 10, 8), np.int16)
    array[3:6, 3:6, 3:6] = 1
    for name in ("image", "labels"):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    words = ("picture", str(tmp_path / "image.nii.gz"), str(tmp_path / "labels.nii.gz"))
    assert call(*words).out == f"{tmp_path / 'labels.png'}\n"
    with Image.open(tmp_path / "labels.png") as shown:
        shown.verify()
    out = tmp_path / "other.png"
    assert call(*words, "--truth", words[2], "-o", str(out)).out == f"{out}\n"
    assert "no.nii" in call("picture", "no.nii", words[2], status=2).err
    before = (tmp_path / "labels.nii.gz").read_bytes()
    assert "would replace" in call(*words, "-o", words[2], status=2).err
    assert (tmp_path / "labels.nii.gz").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "named"), [((), ("liver", "tumour")), (("--name", "mine"), ("mine",))]
)
def test_classes_have_the_names_of_the_model_that_predicted_them(
    tmp_path: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    named: tuple[str, ...],
) -> None:
    from voxseq.report.figures import planes

    seen: list[tuple[str, ...]] = []
    draw = planes.planes_figure
    monkeypatch.setattr(
        planes, "planes_figure", lambda *a, **k: seen.append(k["names"]) or draw(*a, **k)
    )
    place = tmp_path / "scan.nii.gz"
    array = np.arange(960, dtype=np.int16).reshape(12, 10, 8) % 3
    nib.save(nib.Nifti1Image(array, np.eye(4)), place)
    made_by = {"type": "segmentation", "labels": ["liver", "tumour"]}
    (tmp_path / "predictions.jsonl").write_text(json.dumps({"made_by": made_by}) + "\n")
    call("picture", place, place, *words)
    assert seen == [named]
