"""Predicting folders: files and their headers, resuming, and bad inputs."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from tests.helpers import ROOT, trees
from tests.helpers.calling import Call
from tests.helpers.finetune_store import table
from tests.helpers.trained import AFFINE, SHAPE, Trained
from voxseq.base.errors import DataError
from voxseq.models.bundle import CARD_FILE
from voxseq.models.transfer import ENCODER_FILE
from voxseq.predict.inputs import find_cases
from voxseq.predict.journal import JOURNAL
from voxseq.predict.model import Options, TrainedModel
from voxseq.predict.run import predict_cases


def test_masks_keep_the_headers_of_their_images(
    trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    given = trained["segmentation"]
    call("predict", given.folder, given.images, "-o", tmp_path)
    for path in given.images.iterdir():
        image, mask = nibabel.load(path), nibabel.load(tmp_path / path.name)
        assert mask.shape == image.shape
        assert mask.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(mask.affine, image.affine)
        for field in ("sform_code", "qform_code", "xyzt_units", "descrip", "pixdim"):
            np.testing.assert_array_equal(mask.header[field], image.header[field])
        assert set(np.unique(mask.dataobj)) <= {0, 1, 2}


@pytest.mark.parametrize("ending", ["mha", "nrrd"])
def test_other_formats_come_back_in_their_own(
    ending: str, trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    given = trained["segmentation"]
    source = sorted(given.images.iterdir())[0]
    image = sitk.ReadImage(str(source))
    sitk.WriteImage(image, str(tmp_path / f"a.{ending}"))
    call("predict", given.folder, tmp_path / f"a.{ending}", "-o", tmp_path / "out")
    mask = sitk.ReadImage(str(tmp_path / "out" / f"a.{ending}"))
    assert mask.GetPixelIDValue() == sitk.sitkUInt8
    for name in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(mask, name)(), getattr(image, name)(), rtol=1e-12)
    # The same voxels as of the NIfTI file, and NIfTI on request.
    call(
        *("predict", given.folder, tmp_path / f"a.{ending}"),
        "-o",
        tmp_path / "n",
        "--format",
        "nii",
    )
    call("predict", given.folder, source, "-o", tmp_path / "n2")
    one, two = nibabel.load(tmp_path / "n/a.nii"), nibabel.load(tmp_path / "n2" / source.name)
    np.testing.assert_array_equal(one.dataobj, two.dataobj)
    np.testing.assert_allclose(one.affine, AFFINE, atol=1e-5)


def test_dicom_series_are_predicted_by_their_folders(
    trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    array = np.random.default_rng(0).integers(1000, 2000, (12, 10, 9)).astype(np.int16)
    for name in ("a", "b"):
        tags = {"SeriesInstanceUID": f"1.2.3.1{name == 'a':d}", "PatientID": name}
        trees.dicom_series(tmp_path / "scans" / name / "series", array, **tags)
    model = trained["segmentation"].folder
    call("predict", model, tmp_path / "scans", "-o", tmp_path / "out")
    for name in ("a", "b"):
        mask = nibabel.load(tmp_path / "out" / name / "series.nii.gz")
        assert mask.shape == array.shape
        np.testing.assert_allclose(mask.header.get_zooms(), (0.75, 0.5, 2.5))


def test_everything_that_was_asked_for_is_written(
    trained: dict[str, Trained], ensemble: list[Path], tmp_path: Path, call: Call
) -> None:
    images = trained["segmentation"].images
    name = sorted(images.iterdir())[0].name
    given = ("--probabilities", "--uncertainty", "--gaussian", "--overlap", "0.25")
    call("predict", *ensemble, images / name, "-o", tmp_path, *given)
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.nii.gz")}
    classes = [f"probabilities/{label}/{name}" for label in ("background", "organ", "tumour")]
    assert written == {name, *classes, f"uncertainty/{name}", f"spread/{name}"}
    chances = np.stack([np.asarray(nibabel.load(tmp_path / p).dataobj) for p in classes])
    assert chances.dtype == np.float32
    np.testing.assert_allclose(chances.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(nibabel.load(tmp_path / name).dataobj, chances.argmax(axis=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("classification", ["class", "probability_none", "probability_few", "probability_many"]),
        ("regression", ["value"]),
    ],
)
def test_classes_and_numbers_are_a_table(
    kind: str, columns: list[str], trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    given = trained[kind]
    call("predict", given.folder, given.images, "-o", tmp_path, "--workers", "1")
    found = {line["case"]: line for line in table(tmp_path / "predictions.csv")}
    expected = table(given.folder / "predictions.csv")
    assert len(found) == len(expected)
    for line in expected:
        one = found[line["case"]]
        assert set(columns) <= set(one)
        for column in columns[1:] if kind == "classification" else columns:
            assert float(one[column]) == pytest.approx(float(line[column]), abs=1e-6, rel=1e-6)


def test_channels_are_told_by_their_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a_0000", "a_0001", "b_0000", "c"):
        (tmp_path / f"{name}.nii.gz").touch()
    cases = {case.name: case for case in find_cases([tmp_path], (2,))}
    assert [path.name for path in cases["a"].paths] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert cases["b"].problem == "b: channels 0000 are there, expected 0000 to 0001"
    assert cases["c"].paths == (tmp_path / "c.nii.gz",)
    # For one channel these are four images; nnU-Net's "_0000" is told where all have it.
    assert {case.name for case in find_cases([tmp_path])} == {"a_0000", "a_0001", "b_0000", "c"}
    (tmp_path / "c.nii.gz").unlink()
    assert "as the channels" not in caplog.text
    (tmp_path / "b_0001.nii.gz").touch()
    assert len(find_cases([tmp_path])) == 4
    assert "as the channels of nnU-Net's images do" in caplog.text
    (tmp_path / "a_0001.nii.gz").unlink()
    (tmp_path / "b_0001.nii.gz").unlink()
    assert {case.name for case in find_cases([tmp_path])} == {"a", "b"}
    assert {case.name for case in find_cases([f"{tmp_path}/a_*.nii.gz"])} == {"a_0000"}


_KILLED = """
import os, signal, sys
from pathlib import Path
from voxseq.predict import run
from voxseq.predict.inputs import find_cases
from voxseq.predict.model import TrainedModel
write, seen = run.write_volume, []

def killed(path, array, place):
    seen.append(path)
    if len(seen) == 2:
        path.write_bytes(b"")  # What another program would leave.
        path.with_name(f".{path.name}.x.tmp").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, array, place)

run.write_volume = killed
model, images, out = sys.argv[1:]
run.predict_cases(TrainedModel.load(model), find_cases([images]), Path(out))
"""


@pytest.mark.slow
def test_a_killed_folder_resumes(trained: dict[str, Trained], tmp_path: Path, call: Call) -> None:
    given = trained["segmentation"]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, given.folder, given.images, tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=False,
    )
    assert done.returncode == -9
    out, names = tmp_path / "out", sorted(p.name for p in given.images.iterdir())
    # The last line may be half written too.
    with (out / JOURNAL).open("a") as file:
        file.write('{"case": "test1", "inp')
    first = (out / names[0]).stat()
    said = call("predict", given.folder, given.images, "-o", out).out
    assert said == f"{out}: 3 of 3 images predicted, 1 of them before\n"
    assert (out / names[0]).stat() == first
    call("predict", given.folder, given.images, "-o", tmp_path / "straight")
    assert not list(out.glob(".*.tmp"))
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    lines = (out / JOURNAL).read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [x["case"] for x in found if "case" in x] == ["test0", "test1", "test2"]
    # A file is named before it is written, once.
    assert [x["writes"] for x in found if "writes" in x] == [[name] for name in names]


def test_results_below_the_images_are_no_images(
    trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    given = trained["segmentation"]
    images = shutil.copytree(given.images, tmp_path / "images")
    for count in ("3 of 3 images predicted\n", "3 of 3 images predicted, 3 of them before\n"):
        assert call("predict", given.folder, images, "-o", images / "masks").out.endswith(count)


def test_a_folder_above_the_images_may_hold_the_results(
    trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    given = trained["segmentation"]
    images = shutil.copytree(given.images, tmp_path / "images")
    assert "3 of 3 images" in call("predict", given.folder, images, "-o", tmp_path).out
    assert {path.name for path in tmp_path.glob("*.nii.gz")} == {p.name for p in images.iterdir()}


@pytest.mark.parametrize(
    ("kind", "named", "out", "reason"),
    [
        ("segmentation", "images", "images", "the results would lie among the images"),
        ("segmentation", "images/test1.nii.gz", "images", "would replace the image itself"),
        ("segmentation", "images", "labels", "would replace a file that was there before"),
        ("classification", "images", "labels", "would replace a file that was there before"),
    ],
)
def test_nothing_that_was_there_is_replaced(
    trained: dict[str, Trained],
    tmp_path: Path,
    call: Call,
    kind: str,
    named: str,
    out: str,
    reason: str,
) -> None:
    given = trained[kind]
    shutil.copytree(given.images, tmp_path / "images")
    (tmp_path / "labels").mkdir()
    for name in ("test1.nii.gz", "predictions.csv"):
        (tmp_path / "labels" / name).write_text("by an expert")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    words = ("predict", given.folder, tmp_path / named, "-o", tmp_path / out)
    for _ in range(2):
        said = call(*words, status=2).err
        assert reason in said
        assert "another folder" in said
    assert {path: path.read_bytes() for path in before} == before
    assert not [p for p in tmp_path.rglob("*.nii.gz") if p not in before]


def test_probabilities_that_were_there_are_kept(
    trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    """What is known only when an image has been predicted: the others are done."""
    given = trained["segmentation"]
    there = tmp_path / "out/probabilities/background/test1.nii.gz"
    there.parent.mkdir(parents=True)
    there.write_text("by another program")
    words = ("predict", given.folder, given.images, "-o", tmp_path / "out", "--probabilities")
    said = call(*words, status=1)
    assert "2 of 3 images predicted" in said.out
    assert "test1.nii.gz: the prediction would replace a file" in said.err
    assert there.read_text() == "by another program"
    assert not (tmp_path / "out/test1.nii.gz").exists()


def test_what_has_changed_is_done_again(trained: dict[str, Trained], tmp_path: Path) -> None:
    given = trained["segmentation"]
    images = shutil.copytree(given.images, tmp_path / "images")
    model, out = TrainedModel.load(given.folder), tmp_path / "out"
    cases = find_cases([images])
    predict_cases(model, cases, out)
    (out / "test0.nii.gz").write_bytes(b"")
    os.utime(images / "test1.nii.gz", (1, 1))
    again = predict_cases(model, cases, out)
    assert (again.done, again.kept) == (["test0", "test1"], ["test2"])
    with pytest.raises(DataError, match=r"other options \(options:"):
        predict_cases(model, cases, out, Options(flips=True))


def _image(path: Path, array: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


def _air() -> np.ndarray:
    """An image below the task's window."""
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16) - 9000


def _channels() -> np.ndarray:
    return np.arange(375).reshape(5, 5, 5, 3).astype(np.int16)


#: Name → (what makes a bad image of that path, part of the reason).
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.nii.gz": (lambda p: p.touch(), "empty.nii.gz"),
    "cut.nii.gz": (
        lambda p: p.write_bytes(gzip.compress(bytes(range(256)) * 40)[:200]),
        "damaged, truncated or no NIfTI",
    ),
    "text.nii": (lambda p: p.write_text("no image"), "no NIfTI"),
    "flat.nii.gz": (
        lambda p: _image(p, np.full(SHAPE, 7, np.int16)),
        "every voxel has the value 7",
    ),
    "air.nii.gz": (
        lambda p: _image(p, _air()),
        "prepared as the task asks, every voxel has one value",
    ),
    "plane.nii.gz": (lambda p: _image(p, np.ones((5, 5), np.int16)), "axes"),
    "series.nii.gz": (
        lambda p: _image(p, _channels()),
        "takes one channel, but the image has 3 channels",
    ),
    "nan.nii.gz": (lambda p: _image(p, np.full(SHAPE, np.nan, np.float32)), "voxels are NaN"),
    "bad.mha": (lambda p: p.write_bytes(b"ObjectType = Image\nNDims = 3\n"), "no MetaImage"),
    "worse.nrrd": (lambda p: p.write_bytes(b"NRRD0004\n"), "no NRRD"),
    "gone.nii.gz": (lambda p: p.symlink_to(p.with_name("nowhere")), "does not exist"),
}


def test_bad_images_are_named_and_the_others_are_done(
    trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    given = trained["segmentation"]
    images = shutil.copytree(given.images, tmp_path / "images")
    for name, (make, _) in BAD.items():
        make(images / name)
    said = call("predict", given.folder, images, "-o", tmp_path / "out", status=1)
    assert "3 of 14 images predicted" in said.out
    assert {p.name for p in (tmp_path / "out").glob("*.nii.gz")} == {
        p.name for p in given.images.iterdir()
    }
    lines = [line for line in said.err.splitlines() if line.startswith("not predicted: ")]
    assert len(lines) == len(BAD)
    for name, (_, reason) in BAD.items():
        stem = name.split(".")[0]
        (line,) = [line for line in lines if line.startswith(f"not predicted: {stem}: ")]
        assert reason in line


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nothing", "x.nii.gz"], "no trained model"),
        (["MODEL"], "no image is named"),
        (["MODEL", "nowhere*.nii.gz"], "no file that fits it"),
        (["MODEL", "notes.txt"], "not a file that holds an image"),
        (["MODEL", "none"], "no image found"),
        (["MODEL", "one", "two"], "several images have the name 'scan'"),
        (["MODEL", "one", "--device", "mps"], "finds no such device"),
        (["finetune/no/run/s0", "one"], "there is no params.yaml here"),
    ],
)
def test_calls_that_cannot_work_say_why(
    words: list[str],
    reason: str,
    trained: dict[str, Trained],
    tmp_path: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "none").mkdir()
    source = sorted(trained["segmentation"].images.iterdir())[0]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(source, tmp_path / folder / "scan.nii.gz")
    given = [str(trained["segmentation"].folder) if word == "MODEL" else word for word in words]
    assert reason in call("predict", *given, "-o", "out", status=2).err


def test_a_run_of_the_workspace_is_a_model(
    trained: dict[str, Trained], tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its id; without its network, or unfinished, it is refused."""
    from voxseq.cli.options import workspace_of
    from voxseq.engine.markers import write_run_marker

    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    given = trained["segmentation"]
    name = "finetune/la/ours/s0"
    words = ("predict", name, given.images, "-o", "out")
    said = call(*words, status=2).err
    assert f"run {name} of scale demo is not finished" in said
    assert "`snakemake --cores all finetune` trains it" in said
    assert (
        "no run of this configuration"
        in call(*("predict", "finetune/la/ours/s77", given.images), "-o", "out", status=2).err
    )
    workspace = workspace_of(Path("params.yaml"))
    run = workspace.plan.runs[name]
    folder = shutil.copytree(given.folder, workspace.folder(run))
    (folder / "config.json").write_text("{}")
    write_run_marker(
        *(workspace.marker(run), run.id, run.fingerprint, {}), workspace.memory(run).checksums
    )
    assert "3 of 3 images predicted" in call(*words).out
    (folder / CARD_FILE).unlink()
    assert "is not finished" in call(*words, status=2).err


@pytest.mark.parametrize(
    ("command", "name", "further", "weights"),
    [
        ("predict", "finetune/task09_spleen/ours/s0", ("scan.nii.gz",), CARD_FILE),
        ("features", "pretrain/ours/s0", ("scan.nii.gz",), ENCODER_FILE),
        ("export", "pretrain/ours/s0", ("--to", "monai"), ENCODER_FILE),
    ],
)
def test_a_run_that_another_scale_has_finished_is_named(
    tmp_path: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    name: str,
    further: tuple[str, ...],
    weights: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for scale, files in (("half", ()), ("demo", ("run-1.json",)), ("quick", ("run-1.json",))):
        folder = Path("artifacts", scale, name)
        folder.mkdir(parents=True)
        for file in (weights, *files):
            (folder / file).touch()
    said = call(command, name, *further, "-o", "out.npz", status=2).err
    assert f"run {name} of scale demo is not finished" in said
    assert f"next: that of another scale is: artifacts/quick/{name}\n" in said


def test_an_unfinished_run_is_recognised_by_its_folder(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    Path("studies").mkdir()
    shutil.copy(ROOT / "workflow/scales/quick.yaml", "studies")
    name = "finetune/task09_spleen/ours/s0"
    for where in ("artifacts/quick", tmp_path / "artifacts/quick"):
        said = call("predict", f"{where}/{name}", "scan.nii.gz", "-o", "out", status=2).err
        assert f"run {name} of study quick is not finished" in said
        assert "`voxseq run quick finetune` trains it" in said
    elsewhere = f"/elsewhere/artifacts/quick/{name}"
    assert "no trained model" in call("predict", elsewhere, "x", "-o", "out", status=2).err
    Path("params.yaml").unlink()
    away = call("predict", f"artifacts/quick/{name}", "x", "-o", "out", status=2).err
    assert "there is no params.yaml here" in away
