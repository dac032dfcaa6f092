"""``voxseq data`` on a user's own data sets, which a configuration declares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.helpers import ROOT, own_sets
from voxseq.base.errors import DataError
from voxseq.cli import main as cli


@pytest.fixture
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An overlay with a data set of four cases, one of them damaged, that no task uses."""
    monkeypatch.delenv("VOXSEQ_DATA", raising=False)
    folder = own_sets.nnunet(tmp_path / "raw")
    (folder / "imagesTr/b_0000.nii.gz").write_bytes(b"no image")
    facts = {"folder": str(folder), "layout": "nnunet", "modality": "CT"}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"data": {"sets": {"organs": facts}}}))
    return path


def call(overlay: Path, *words: str) -> Result:
    asked = ["data", *words, "--params", str(ROOT / "params.yaml"), "--overlay", str(overlay)]
    return CliRunner().invoke(cli.cli, asked, catch_exceptions=False)


def test_list_and_show_have_it(overlay: Path) -> None:
    listed = call(overlay, "list").output
    line = next(line for line in listed.splitlines() if line.startswith("organs"))
    assert line.split("  ")[-1].strip() == "present, 4"
    assert "your own" in line
    shown = call(overlay, "show", "organs").output
    assert "how to obtain it" not in shown
    assert str(overlay.parent / "raw") in shown


def test_verify_needs_no_data_root_for_it(overlay: Path) -> None:
    result = call(overlay, "verify", "organs", "--json")
    found = json.loads(result.output)
    assert (result.exit_code, found["images"], found["faults"]) == (1, {"organs": 3}, 1)
    (fault,) = (f for f in found["findings"] if f["severity"] == "fault")
    assert fault["file"].endswith("raw/imagesTr/b_0000.nii.gz")


def test_a_data_set_of_a_study_is_not_one_of_params(
    overlay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(overlay.parent)
    Path("studies").mkdir()
    overlay.rename("studies/organs.yaml")
    asked = ["data", "verify", "organs", "--params", str(ROOT / "params.yaml")]
    with pytest.raises(DataError, match="no data set organs in") as caught:
        CliRunner().invoke(cli.cli, asked, catch_exceptions=False)
    assert caught.value.hint.endswith("--overlay studies/organs.yaml")
    # The name of the study is enough.
    result = CliRunner().invoke(cli.cli, [*asked, "--overlay", "organs"], catch_exceptions=False)
    assert "raw/imagesTr/b_0000.nii.gz" in result.output


def test_verify_takes_classes_and_merged_values_from_the_task(overlay: Path) -> None:
    content = yaml.safe_load(overlay.read_text())
    tasks = yaml.safe_load((ROOT / "params.yaml").read_text())["finetune"]["tasks"]
    task = next(t for t in tasks.values() if t["dataset"] == "task09_spleen")
    content["finetune"] = {
        "tasks": {"organs": {**task, "title": "Organs", "dataset": "organs", "class_weights": None}}
    }
    held = content["finetune"]["tasks"]["organs"]

    def reasons() -> str:
        overlay.write_text(yaml.safe_dump(content))
        found = json.loads(call(overlay, "verify", "organs", "--json").output)["findings"]
        return " ".join(finding["reason"] for finding in found)

    held["labels"] = ["kidney", "tumour"]
    assert "labels are 1 kidney, but the study has 1 kidney, 2 tumour" in reasons()
    held["labels"], held["data"] = ["organ"], {**task["data"], "merge_labels": {2: 1}}
    assert "the study has" not in reasons()
