"""``voxseq data verify`` finds planted faults, each among good volumes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.helpers import trees
from tests.helpers.planted import (
    FAULTS,
    IMAGE,
    bit_of_the_packed_data,
    copied,
    held_out,
    write_good,
)
from voxseq import catalogue
from voxseq.cli.main import cli
from voxseq.config.datasets import DataConfig
from voxseq.config.runs import SplitSettings, TaskNeeds
from voxseq.data.verify.check import Usage, verify
from voxseq.data.verify.report import Report
from voxseq.fetch.content import checksum
from voxseq.fetch.record import Fetched, Record, unit_id, units, write_record

NAMES = ("task09_spleen", "totalsegmentator", "dicom_ct", "la", "ricord", "brats23", "deeplesion")
SPLIT = SplitSettings.of(DataConfig())


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root in which nothing is wrong."""
    return write_good(tmp_path_factory.mktemp("good"))


def check(root: Path, names: tuple[str, ...] = NAMES, workers: int = 0) -> Report:
    segmentation = TaskNeeds.model_validate(trees.SEGMENTATION)
    tasks = dict.fromkeys(("task09_spleen", "la"), segmentation)
    tasks["ricord"] = TaskNeeds.model_validate(trees.CLASSIFICATION)
    sources = frozenset({"totalsegmentator", "dicom_ct", "brats23", "deeplesion"})
    return verify(names, root, Usage(tasks, sources, SPLIT), workers)


@pytest.fixture(scope="module")
def good_report(good: Path) -> Report:
    return check(good)


@pytest.fixture
def changed(good: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    shutil.copytree(good, tmp_path / "root")
    return tmp_path / "root"


def test_good_data_sets_have_no_faults(good_report: Report) -> None:
    report = good_report
    assert report.faults == 0
    # Data sets that are there in part, and lesions that their table names without the series.
    usual = ("published images are there", "lists name are missing")
    assert all(any(words in f.reason for words in usual) for f in report.findings)
    assert list(report.images) == list(NAMES)
    assert list(report.images.values()) == [10, 5, 5, 6, 5, 12, 2]
    assert report.summary().startswith("7 data sets, 45 usable images: 0 faults, ")


# Planted faults


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(good_report: Report, changed: Path, name: str) -> None:
    fault = FAULTS[name]
    before = {(f.file, f.reason) for f in good_report.findings}
    fault.plant(changed)
    new = [f for f in check(changed).findings if (f.file, f.reason) not in before]
    found = [
        f for f in new if re.fullmatch(fault.file, f.file) and re.search(fault.reason, f.reason)
    ]
    assert found, new
    assert {f.severity for f in found} == {fault.severity}
    assert all(re.search(fault.next, f.next) for f in found), found
    # Nothing is said about files that are as they were.
    assert {f.dataset for f in new} == {found[0].dataset}
    assert not any(str(changed) in f.reason for f in new)


def test_a_fetched_file_is_compared_with_its_checksum(tmp_path: Path) -> None:
    folder = trees.nodule(tmp_path, {"train": 6, "val": 2, "test": 3})
    path = folder / "nodulemnist3d.npz"
    item = record_nodule(folder, checksum(path, "md5"))
    assert check(tmp_path, ("nodule",)).faults == 0
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    finding = next(f for f in check(tmp_path, ("nodule",)).findings if f.severity == "fault")
    assert finding.file == f"nodule/{item}"
    assert "another checksum" in finding.reason


def test_files_without_a_checksum_are_named(tmp_path: Path) -> None:
    record_nodule(trees.nodule(tmp_path, {"train": 6, "val": 2, "test": 3}), "", version="0")
    reasons = [f.reason for f in check(tmp_path, ("nodule",)).findings]
    assert any("another version of the catalogue" in r for r in reasons)
    assert any("no checksum vouches for 1 files, such as https://zenodo" in r for r in reasons)


def record_nodule(folder: Path, found: str, version: str | None = None) -> str:
    """Record the file as fetched as it is; returns its name. Another version is an archive's."""
    dataset = catalogue.get("nodule")
    (file,) = units(dataset)
    size = (folder / file.path).stat().st_size
    word, archive = (unit_id(file), "") if version is None else ("other", "zip")
    by = "checksum" if found else "nothing"
    item = Fetched(word, file.url, file.path, archive, file.url, found, by, size, 1, size)
    write_record(folder, Record("nodule", version or dataset.version, (item,)))
    return file.path


def test_images_that_two_sources_share_are_counted_not_listed(changed: Path) -> None:
    for number in range(3):
        source = changed / "totalsegmentator" / f"s000{number}" / "ct.nii.gz"
        target = changed / "flare23" / "imagesTr2200" / f"FLARE23_000{number}_0000.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    report = check(changed, ("totalsegmentator", "flare23"))
    shared = [f for f in report.findings if "images are also in" in f.reason]
    assert [f.reason for f in shared] == [
        "3 images are also in totalsegmentator, such as totalsegmentator/s0000/ct"
    ]
    assert shared[0].file == "flare23/imagesTr2200/FLARE23_0000_0000.nii.gz"


def test_a_held_out_image_is_found_behind_other_copies(changed: Path) -> None:
    """Three copies, of which the first that is read is no held-out one."""
    for target in ("s0001", "s0002"):
        copied(held_out, f"totalsegmentator/{target}/ct.nii.gz", "the same")(changed)
    report = check(changed, ("totalsegmentator", "task09_spleen"))
    leaks = [f.file for f in report.findings if "holds out" in f.reason]
    assert leaks == [f"totalsegmentator/{s}/ct.nii.gz" for s in ("s0001", "s0002")]


@pytest.mark.slow
def test_processes_change_no_finding(changed: Path) -> None:
    bit_of_the_packed_data(changed)
    names = ("task09_spleen", "totalsegmentator")
    assert check(changed, names, workers=2).as_json() == check(changed, names).as_json()


# The command


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["data", "verify", *map(str, words)])


def test_the_command_prints_findings_and_ends_with_1(
    changed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fine = call("task09_spleen", "totalsegmentator", "--root", changed)
    assert fine.exit_code == 0, fine.output
    assert fine.output.splitlines()[-1].startswith("2 data sets, 15 usable images: 0 faults")
    bit_of_the_packed_data(changed)
    bad = call("task09_spleen", "--root", changed)
    assert bad.exit_code == 1
    lines = bad.output.splitlines()
    at = lines.index(f"fault    task09_spleen  {IMAGE}")
    assert "damaged, truncated" in lines[at + 1]
    assert lines[at + 2].strip().startswith("next: ")
    assert lines[-1].startswith("1 data set, 9 usable images: 1 fault, ")
    content: dict[str, Any] = json.loads(call("task09_spleen", "--root", changed, "--json").output)
    assert content["faults"] == 1
    assert {"severity", "dataset", "file", "reason", "next"} == set(content["findings"][0])


def test_the_command_takes_the_data_sets_of_the_configuration(root: Path, good: Path) -> None:
    result = call("--root", good, "--params", root / "params.yaml", "--json")
    assert result.exit_code == 1
    content = json.loads(result.output)
    assert {"task09_spleen", "la", "ricord", "stoic", "flare22"} <= set(content["images"])
    absent = [f["dataset"] for f in content["findings"] if "does not exist" in f["reason"]]
    assert "stoic" in absent
    assert "la" not in absent


def test_without_a_data_root_or_with_an_unknown_name_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VOXSEQ_DATA", raising=False)
    assert "no data root" in str(call("la").exception)
    assert "did you mean 'stoic'" in str(call("stoik", "--root", tmp_path).exception)
    assert "does not exist" in str(call("la", "--root", tmp_path / "nowhere").exception)


# Finished results


@pytest.fixture
def workspace(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the smoke study in which the index and store of LA are finished."""
    from voxseq.config import load_config, read_yaml
    from voxseq.engine.workspace import Workspace
    from voxseq.plan import build_plan

    for name in ("params.yaml", "workflow/scales/smoke.yaml"):
        text = (root / name).read_text(encoding="utf-8")
        # LA has jobs of its own.
        text = text.replace("phantoms_per_job: 5", "phantoms_per_job: 1")
        (tmp_path / Path(name).name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    overlay = read_yaml(tmp_path / "smoke.yaml")
    built = build_plan(load_config(tmp_path / "params.yaml", [overlay]))
    for name in ("download/la/s0", "preprocess/task/la/s0"):
        run = built.runs[name]
        key = (run.stage, run.job)
        Workspace(tmp_path, built).execute(built.jobs[key])
    return tmp_path


def test_stores_are_compared_with_their_checksums(workspace: Path) -> None:
    words = ("--store", "--overlay", workspace / "smoke.yaml")
    fine = call(*words)
    assert fine.exit_code == 0, fine.output
    assert re.search(r"^2 of \d+ results are there: 0 faults$", fine.output, re.MULTILINE)
    path = next((workspace / "artifacts").rglob("preprocess/task/la/s0/volumes-000.bin"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    bad = call(*words)
    assert bad.exit_code == 1
    assert f"{path.name} does not have its recorded checksum" in bad.output
    assert "next: remove artifacts/smoke/preprocess/task/la/s0, then: snakemake" in bad.output
    content = json.loads(call(*words, "--json").output)
    assert content["finished"] == 2
    assert [f["run"] for f in content["faults"]] == ["preprocess/task/la/s0"]
