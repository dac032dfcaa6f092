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
from tests.helpers.planted import FAULTS, IMAGE, copied, held_out, truncated, write_good
from voxseq import catalogue
from voxseq.cli.main import cli
from voxseq.data.verify.report import Finding, Report, Study, verify
from voxseq.fetch.content import checksum
from voxseq.fetch.record import Fetched, Record, unit_id, units, write_record

NAMES = ("task09_spleen", "totalsegmentator", "dicom_ct", "la", "ricord", "brats23", "deeplesion")
SPLIT = {"seed": 0, "ratio": [0.7, 0.1, 0.2], "validation_fraction": 0.1}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root in which nothing is wrong."""
    return write_good(tmp_path_factory.mktemp("good"))


def check(root: Path, names: tuple[str, ...] = NAMES, workers: int = 0) -> Report:
    tasks = {
        "task09_spleen": trees.SEGMENTATION,
        "la": trees.SEGMENTATION,
        "ricord": trees.CLASSIFICATION,
    }
    sources = frozenset({"totalsegmentator", "dicom_ct", "brats23", "deeplesion"})
    return verify(names, root, Study(tasks, sources, SPLIT), workers)


@pytest.fixture(scope="module")
def good_report(good: Path) -> Report:
    return check(good)


def test_good_data_sets_have_no_faults(good_report: Report) -> None:
    report = good_report
    assert [f for f in report.findings if f.severity == "fault"] == []
    # A data set that is there in part, and lesions that its table names without their series.
    assert {f.reason for f in report.findings} == {
        "10 of 41 published images are there",
        *(f.reason for f in report.findings if "published images are there" in f.reason),
        *(f.reason for f in report.findings if "lists name are missing" in f.reason),
    }
    assert report.images == {
        "task09_spleen": 10,
        "totalsegmentator": 5,
        "dicom_ct": 5,
        "la": 6,
        "ricord": 5,
        "brats23": 12,
        "deeplesion": 2,
    }
    assert report.faults == 0
    assert report.summary().startswith("7 data sets, 45 usable images: 0 faults, ")


# Planted faults


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(
    good: Path, good_report: Report, tmp_path: Path, name: str
) -> None:
    root, fault = tmp_path / "root", FAULTS[name]
    shutil.copytree(good, root)
    before = {(f.file, f.reason) for f in good_report.findings}
    fault.plant(root)
    new = [f for f in check(root).findings if (f.file, f.reason) not in before]
    found = [
        f for f in new if re.fullmatch(fault.file, f.file) and re.search(fault.reason, f.reason)
    ]
    assert found, new
    assert {f.severity for f in found} == {fault.severity}
    assert all(re.search(fault.next, f.next) for f in found), found
    # Nothing is said about files that are as they were.
    assert {f.dataset for f in new} == {found[0].dataset}
    assert not any(str(tmp_path) in f.reason for f in new)


def test_a_fetched_file_is_compared_with_its_checksum(tmp_path: Path) -> None:
    folder = trees.nodule(tmp_path, {"train": 6, "val": 2, "test": 3})
    dataset = catalogue.get("nodule")
    (file,) = units(dataset)
    path = folder / "nodulemnist3d.npz"
    item = Fetched(
        *(unit_id(file), file.url, file.path, "", file.url, checksum(path, "md5"), "checksum"),
        *(path.stat().st_size, 1, path.stat().st_size),
    )
    write_record(folder, Record("nodule", dataset.version, (item,)))
    assert faults(check(tmp_path, ("nodule",))) == []
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (finding,) = faults(check(tmp_path, ("nodule",)))[:1]
    assert finding.file == "nodule/nodulemnist3d.npz"
    assert "another checksum" in finding.reason


def test_files_that_nothing_vouches_for_are_named(tmp_path: Path) -> None:
    folder = trees.nodule(tmp_path, {"train": 6, "val": 2, "test": 3})
    (file,) = units(catalogue.get("nodule"))
    size = (folder / "nodulemnist3d.npz").stat().st_size
    item = Fetched(*("other", file.url, "", "zip", file.url, "", "nothing", 5, 1, size))
    write_record(folder, Record("nodule", "0", (item,)))
    reasons = [f.reason for f in check(tmp_path, ("nodule",)).findings]
    assert any("another version of the catalogue" in r for r in reasons)
    assert any("no checksum vouches for 1 files, such as https://zenodo" in r for r in reasons)


def test_images_that_two_sources_share_are_counted_not_listed(good: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(good, root)
    for number in range(3):
        source = root / "totalsegmentator" / f"s000{number}" / "ct.nii.gz"
        target = root / "flare23" / "imagesTr2200" / f"FLARE23_000{number}_0000.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    report = check(root, ("totalsegmentator", "flare23"))
    shared = [f for f in report.findings if "images are also in" in f.reason]
    assert [f.reason for f in shared] == [
        "3 images are also in totalsegmentator, such as totalsegmentator/s0000/ct"
    ]
    assert shared[0].file == "flare23/imagesTr2200/FLARE23_0000_0000.nii.gz"


def test_a_held_out_image_is_found_behind_other_copies(good: Path, tmp_path: Path) -> None:
    """Three copies, of which the first that is read is no held-out one."""
    root = tmp_path / "root"
    shutil.copytree(good, root)
    for target in ("s0001", "s0002"):
        copied(held_out, f"totalsegmentator/{target}/ct.nii.gz", "the same")(root)
    report = check(root, ("totalsegmentator", "task09_spleen"))
    leaks = [f.file for f in report.findings if "holds out" in f.reason]
    assert leaks == [f"totalsegmentator/{s}/ct.nii.gz" for s in ("s0001", "s0002")]


@pytest.mark.slow
def test_processes_change_no_finding(good: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(good, root)
    truncated(root)
    names = ("task09_spleen", "totalsegmentator")
    assert check(root, names, workers=2).as_json() == check(root, names).as_json()


def faults(report: Report) -> list[Finding]:
    return [f for f in report.findings if f.severity == "fault"]


# The command


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["data", "verify", *map(str, words)])


def test_the_command_prints_findings_and_ends_with_1(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fine = call("task09_spleen", "totalsegmentator", "--root", good)
    assert fine.exit_code == 0, fine.output
    assert fine.output.splitlines()[-1].startswith("2 data sets, 15 usable images: 0 faults")
    root = tmp_path / "root"
    shutil.copytree(good, root)
    truncated(root)
    bad = call("task09_spleen", "--root", root)
    assert bad.exit_code == 1
    lines = bad.output.splitlines()
    at = lines.index(f"fault    task09_spleen  {IMAGE}")
    assert "damaged, truncated" in lines[at + 1]
    assert lines[at + 2].strip().startswith("next: ")
    assert lines[-1].startswith("1 data sets, 9 usable images: 1 faults")
    content: dict[str, Any] = json.loads(call("task09_spleen", "--root", root, "--json").output)
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
        (tmp_path / Path(name).name).write_bytes((root / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    overlay = read_yaml(tmp_path / "smoke.yaml")
    built = build_plan(load_config(tmp_path / "params.yaml", [overlay]))
    for key in (("download", "la"), ("preprocess", "task.la")):
        Workspace(tmp_path, built).execute(built.jobs[key])
    return tmp_path


def test_stores_are_compared_with_their_checksums(workspace: Path) -> None:
    words = ("--store", "--overlay", workspace / "smoke.yaml")
    fine = call(*words)
    assert fine.exit_code == 0, fine.output
    assert re.search(r"^2 of \d+ results are there: 0 faults$", fine.output, re.MULTILINE)
    path = next((workspace / "artifacts").rglob("preprocess/task/la/images/000001.b2nd"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    bad = call(*words)
    assert bad.exit_code == 1
    assert f"{path.name} does not have its recorded checksum" in bad.output
    assert "next: remove artifacts/smoke/preprocess/task/la, then: snakemake" in bad.output
    content = json.loads(call(*words, "--json").output)
    assert content["finished"] == 2
    assert [f["run"] for f in content["faults"]] == ["preprocess/task/la"]
