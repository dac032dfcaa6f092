"""Phantoms: the real layouts, complete classes, aligned contrasts, and the same bytes each time."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.helpers import ROOT, trees
from voxseq import catalogue
from voxseq.base.errors import DataError
from voxseq.config import load_config
from voxseq.config.amounts import content
from voxseq.config.data import PhantomConfig
from voxseq.data.index import read_index
from voxseq.data.store import VolumeStore
from voxseq.phantoms import NAMES, generate
from voxseq.phantoms.formats import write_nifti
from voxseq.phantoms.lesions import LESION_TYPES
from voxseq.phantoms.scans import MSD_TASKS, chest_image, msd_case
from voxseq.phantoms.shapes import case_rng
from voxseq.phantoms.writers import WRITERS

TINY = PhantomConfig(
    seed=5,
    volume_shape=(16, 16, 16),
    source_volumes=6,
    contrast_subjects=8,
    lesions_per_category=4,
    segmentation_cases=5,
    classification_cases=(20, 6, 10),
)
SPLITS = dict(zip(("train", "val", "test"), TINY.classification_cases, strict=True))
NIFTI_SOURCES = (
    "ribfrac", "tcia_covid19", "amos22", "isles2022", "abdomenct1k", "totalsegmentator", "verse20",
    "flare22", "flare23", "brats23",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data sets at a tiny size, each in its own folder."""
    root = tmp_path_factory.mktemp("phantoms")
    for name in NAMES:
        generate(name, place(root, name), TINY)
    return root


def place(root: Path, name: str) -> Path:
    return root / catalogue.get(name).folder


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def digests(folder: Path) -> dict[str, str]:
    return {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in listing(folder)}


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def images(folder: Path) -> list[Path]:
    """NIfTI images, without labels and without what macOS leaves behind."""
    return [
        p
        for p in sorted(folder.rglob("*.nii.gz"))
        if not p.name.startswith("._")
        and not any(w in p.as_posix() for w in ("labels", "segmentations", "derivatives", "-seg."))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_readers_and_checks_of_real_data_take_every_phantom(
    made: Path, name: str, tmp_path: Path
) -> None:
    row, task, data = catalogue.get(name), None, None
    if row.role != "source":
        task = {"type": row.task, "labels": len(row.classes)}
        data = {"resize": [8, 8, 8], "normalise": "zscore", "foreground_crop": False}
    out = trees.run_download(made, tmp_path, name, task, min_valid_fraction=1.0)
    index, facts = read_index(out), trees.summary(out)
    assert (facts["set_aside"], facts["listed_but_absent"]) == (0, 0)
    overlay = {"data": {"phantoms": TINY.model_dump(mode="json")}}
    assert len(index) == content(name, load_config(ROOT / "params.yaml", [overlay])).volumes
    assert index["content_hash"].is_unique or name == "deeplesion"
    assert index.groupby("subject")["split"].nunique().max() == 1
    assert task is None or set(index["split"]) == {"train", "val", "test"}
    if row.task == "classification":
        assert index["split"].value_counts().to_dict() == SPLITS
        assert (index.groupby("split")["label"].nunique() == 2).all()
    store = VolumeStore(trees.run_preprocess(made, tmp_path, name, data, task or {}))
    assert len(store) == len(index)
    assert task is None or store.image(0).shape == (8, 8, 8)


@pytest.mark.parametrize("name", NAMES)
def test_same_bytes_twice(made: Path, tmp_path: Path, name: str) -> None:
    generate(name, tmp_path / "again", TINY)
    assert digests(tmp_path / "again") == digests(place(made, name))


def test_seeds_give_other_images_and_more_cases_leave_the_first(made: Path, tmp_path: Path) -> None:
    generate("task09_spleen", tmp_path / "other", TINY.model_copy(update={"seed": 6}))
    first, second = digests(place(made, "task09_spleen")), digests(tmp_path / "other")
    assert first.keys() == second.keys()
    assert all(first[n] != second[n] for n in first if n.startswith("imagesTr/spleen"))
    generate("ribfrac", tmp_path / "more", TINY.model_copy(update={"source_volumes": 7}))
    assert digests(made / "ribfrac").items() <= digests(tmp_path / "more").items()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ribfrac", ["Part1/RibFrac1-image.nii.gz", "Part2/RibFrac424-image.nii.gz"]),
        ("tcia_covid19", ["volume-covid19-A-0003.nii.gz"]),
        ("amos22", ["imagesTr/amos_0001.nii.gz", "labelsTr/amos_0001.nii.gz", "dataset.json",
                    "imagesTr/amos_0506.nii.gz", "__MACOSX/imagesTr/._amos_0001.nii.gz"]),
        ("isles2022", [
            f"ISLES-2022/sub-strokecase0001/ses-0001/{p}_{c}.nii.gz"
            for p, c in (("dwi/sub-strokecase0001_ses-0001", "dwi"),
                         ("dwi/sub-strokecase0001_ses-0001", "adc"),
                         ("anat/sub-strokecase0001_ses-0001", "FLAIR"))]),
        ("abdomenct1k", ["AbdomenCT-1K-ImagePart1/Case_00001_0000.nii.gz"]),
        ("totalsegmentator", ["s0000/ct.nii.gz", "meta.csv"]),
        ("verse20", ["dataset-01training/rawdata/sub-verse500/sub-verse500_ct.nii.gz",
                     "dataset-03test/rawdata/sub-verse502/sub-verse502_ct.nii.gz"]),
        ("stoic", ["metadata/reference.csv"]),
        ("flare22", ["Training/FLARE22_LabeledCase50/images/FLARE22_Tr_0001_0000.nii.gz",
                     "Training/FLARE22_UnlabeledCase1-1000/Case_00001_0000.nii.gz",
                     "Validation/FLARETs_0001_0000.nii.gz"]),
        ("flare23", ["imagesTr2200/1-500/FLARE23_0001_0000.nii.gz",
                     "unlabelTr1800/unlabel3101-4000/FLARE23_3101_0000.nii.gz"]),
        ("brats23", [
            "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-00000-000/"
            f"BraTS-GLI-00000-000-{c}.nii.gz" for c in ("t1n", "t1c", "t2w", "t2f", "seg")]),
        ("task03_liver", ["dataset.json", "imagesTr/liver_001.nii.gz", "labelsTr/liver_001.nii.gz",
                          "imagesTr/._liver_001.nii.gz"]),
        ("nodule", ["nodulemnist3d.npz"]),
        ("la", ["test.list", "train.list"]),
        ("ricord", ["RICORD_test.txt", "RICORD_train.txt", "RICORD_val.txt"]),
    ],
)  # fmt: skip
def test_file_names(made: Path, name: str, expected: list[str]) -> None:
    assert set(expected) <= set(listing(place(made, name)))


@pytest.mark.parametrize("name", [*NIFTI_SOURCES, *MSD_TASKS])
def test_nifti_files_name_neither_file_nor_time(made: Path, name: str) -> None:
    found = images(place(made, name))
    assert found
    for path in found:
        array, raw = voxels(path), path.read_bytes()
        assert array.ndim == 3
        assert array.min() < array.max()
        # Neither a file name (flag 8) nor a time stamp in the gzip header.
        assert raw[3] == 0
        assert raw[4:8] == bytes(4)
        if name in ("ribfrac", "totalsegmentator", "abdomenct1k"):
            assert array.dtype == np.int16
            assert array.min() >= -1024
            assert 200 < array.max() <= 3071
        if name == "amos22":
            is_mri = int(path.name[5:9]) > 500
            assert (array.min() >= 0) == is_mri
    codes = {nibabel.aff2axcodes(nibabel.load(path).affine) for path in found}
    assert len(codes) == (4 if name == "verse20" else 1)


def test_stored_orientation_does_not_move_the_anatomy(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for code in ("RAS", "LPS", "PIR"):
        write_nifti(tmp_path / f"{code}.nii.gz", array, (1.0, 2.0, 3.0), code)
        image = nibabel.load(tmp_path / f"{code}.nii.gz")
        assert "".join(nibabel.aff2axcodes(image.affine)) == code
        back = nibabel.as_closest_canonical(image)
        np.testing.assert_array_equal(np.asarray(back.dataobj), array)
        np.testing.assert_allclose(back.affine, np.diag([1, 2, 3, 1]), atol=1e-6)


def test_dicom_series_are_in_hounsfield_units(made: Path) -> None:
    for name, pattern in (("rsna2022_csfd", "train_images/*"), ("rsna2020_ped", "train/*/*")):
        series = sorted((made / name).glob(pattern))
        assert len(series) == TINY.source_volumes
        for folder in series:
            slices = [pydicom.dcmread(p) for p in folder.glob("*.dcm")]
            assert len({s.SOPInstanceUID for s in slices}) == len(slices)
            assert len({s.SeriesInstanceUID for s in slices}) == 1
            steps = np.diff(sorted(float(s.ImagePositionPatient[2]) for s in slices))
            np.testing.assert_allclose(steps, float(slices[0].SliceThickness), atol=1e-3)
            hu = slices[0].pixel_array * float(slices[0].RescaleSlope) + slices[0].RescaleIntercept
            assert hu.min() >= -1024
    assert {p.name for p in (made / "rsna2022_csfd").rglob("*.dcm")} >= {"1.dcm", "2.dcm"}


def test_tables_beside_the_images(made: Path) -> None:
    rows = table(made / "stoic" / "metadata" / "reference.csv")
    assert list(rows[0]) == ["PatientID", "probCOVID", "probSevere"]
    names = {path.stem for path in (made / "stoic" / "data" / "mha").iterdir()}
    assert names == {row["PatientID"] for row in rows}
    lines = (made / "totalsegmentator" / "meta.csv").read_text().splitlines()
    assert lines[0].startswith("image_id;age;gender")
    assert lines[1].startswith("s0000;")


def test_brats_contrasts_are_aligned(made: Path) -> None:
    subjects = sorted(place(made, "brats23").glob("ASNR*/BraTS-*"))
    assert len(subjects) == TINY.contrast_subjects
    assert {p.name.split("-")[1] for p in subjects} == {"GLI", "MEN", "MET", "PED", "SSA"}
    for subject in subjects:
        loaded = {
            c: nibabel.load(subject / f"{subject.name}-{c}.nii.gz")
            for c in ("t1n", "t1c", "t2w", "t2f")
        }
        heads = [np.asarray(image.dataobj) > 0 for image in loaded.values()]
        for image, head in zip(loaded.values(), heads, strict=True):
            np.testing.assert_array_equal(head, heads[0])
            np.testing.assert_array_equal(image.affine, loaded["t1n"].affine)
        assert heads[0].any()
        seg = subject / f"{subject.name}-seg.nii.gz"
        assert seg.exists() == ("TrainingData" in subject.parent.name)
        if seg.exists():
            lesion = voxels(seg)
            assert set(np.unique(lesion)) <= {0, 1, 2, 3}
            flair = np.asarray(loaded["t2f"].dataobj)
            assert flair[lesion == 2].mean() > 1.2 * flair[heads[0] & (lesion == 0)].mean()


@pytest.mark.parametrize("name", MSD_TASKS)
def test_msd_tasks(made: Path, name: str) -> None:
    folder, task = place(made, name), MSD_TASKS[name]
    listed = json.loads((folder / "dataset.json").read_text())
    assert listed["numTraining"] == len(listed["training"]) == TINY.segmentation_cases
    assert list(listed["labels"].values()) == ["background", *task.classes]
    assert (folder / listed["test"][0]).exists()
    for item in listed["training"]:
        image, label = (nibabel.load(folder / item[k]) for k in ("image", "label"))
        assert image.shape == label.shape == TINY.volume_shape
        np.testing.assert_array_equal(image.affine, label.affine)
        assert set(np.unique(np.asarray(label.dataobj))) == set(range(1 + len(task.classes)))


def test_msd_classes_are_large_enough_and_differ_within_the_window() -> None:
    for name, task in MSD_TASKS.items():
        for case in range(2):
            _, label = msd_case(name, 0, case, (32, 32, 32))
            assert min(np.bincount(label.ravel(), minlength=1 + len(task.classes))) >= 30, name
    # Organ and tumour differ inside the window that the published recipe clips to.
    image, label = msd_case("task03_liver", 0, 1, (24, 24, 24))
    inside = np.clip(image.array, -21, 189)
    organ, tumour = inside[label == 1].mean(), inside[label == 2].mean()
    assert 60 < organ < 160
    assert organ - tumour > 20


TUMOURS = [name for name, task in MSD_TASKS.items() if task.tumours is not None]


@pytest.mark.parametrize("name", TUMOURS)
def test_a_decoy_like_the_tumour_is_unlabelled(name: str) -> None:
    assert set(MSD_TASKS) - {*TUMOURS} == {"task09_spleen"}
    found = []
    for case in range(3):
        image, label = msd_case(name, 0, case, (24, 24, 24))
        decoy, tumour = (image.canvas.mask(part) for part in ("decoy", "tumour"))
        assert decoy.sum() >= 30
        assert not label[decoy].any()
        values = image.canvas.values[0]
        found.append(values[decoy].mean() - values[tumour].mean())
    # Borders mix with what is around, which is another organ.
    assert abs(np.mean(found)) < 60


def test_the_field_of_view_wanders() -> None:
    places = [
        msd_case("task09_spleen", 0, case, (8, 8, 8))[0].canvas.points.mean(axis=(1, 2, 3))
        for case in range(40)
    ]
    assert (np.std(places, axis=0) > 9).all()
    assert (np.abs(places - np.array(MSD_TASKS["task09_spleen"].region)) < 45).all()


def test_the_place_of_the_haze_tells_the_classes_of_ricord_not_its_amount() -> None:
    shape = (24, 24, 10)
    persons = [[case_rng(0, "ricord", n), case_rng(0, "ricord", n, 1)] for n in range(6)]
    again = [[case_rng(0, "ricord", n), case_rng(0, "ricord", n, 1)] for n in range(6)]
    moved, differ = [], []
    for (person, visit), (same, day) in zip(persons, again, strict=True):
        ill, well = chest_image(person, visit, shape, True), chest_image(same, day, shape, False)
        lungs = ill.canvas.mask("lung_right", "lung_left")
        one, other = ill.array[lungs], well.array[lungs]
        moved.append(np.abs(one - other).mean())
        differ.append(abs(one.mean() - other.mean()))
    assert np.mean(differ) < 0.25 * np.mean(moved)


def test_la_cases_are_scored_and_cropped(made: Path) -> None:
    train, test = ((made / "la" / f).read_text().split() for f in ("train.list", "test.list"))
    assert (len(train), len(test)) == (3, 2)
    for case in (*train, *test):
        assert len(case) == 20
        path = made / "la" / "2018LA_Seg_Training Set" / case / "mri_norm2.h5"
        with h5py.File(path) as file:
            image, label = file["image"][()], file["label"][()]
        assert (image.dtype, label.dtype) == (np.float32, np.uint8)
        assert image.shape == label.shape
        assert image.shape[2] == TINY.volume_shape[2]
        assert set(np.unique(label)) == {0, 1}
        assert abs(float(image.mean())) < 0.3


def test_nodules_in_medmnist_format(made: Path) -> None:
    with np.load(made / "nodule" / "nodulemnist3d.npz", allow_pickle=False) as file:
        for split, count in SPLITS.items():
            cubes, labels = file[f"{split}_images"], file[f"{split}_labels"]
            assert cubes.shape == (count, 28, 28, 28)
            assert labels.shape == (count, 1)
            assert cubes.dtype == labels.dtype == np.uint8
            assert (cubes.reshape(count, -1).std(1) > 5).all()


def test_ricord_lists_name_collections_and_some_patients_twice(made: Path) -> None:
    """That each line fits one series is what the reader checks."""
    for split, count in SPLITS.items():
        lines = (made / "ricord" / f"RICORD_{split}.txt").read_text().splitlines()
        names = [line.split("/")[1:] for line in lines]
        assert all(
            collection == f"MIDRC-RICORD-1{'A' if name.endswith(' 1') else 'B'}"
            for collection, name in names
        )
        patients = {name.split("_date")[0] for _, name in names}
        assert count - len(patients) == count // 10


def test_deeplesion_table_and_slices(made: Path) -> None:
    rows = table(made / "deeplesion" / "DL_info.csv")
    assert len(rows[0]) == 18
    kinds = [int(row["Coarse_lesion_type"]) for row in rows]
    assert {kinds.count(kind) for kind in LESION_TYPES} == {TINY.lesions_per_category}
    assert -1 in kinds
    for row in rows:
        series, key = row["File_name"].removesuffix(".png").rsplit("_", 1)
        first, last = (int(n) for n in row["Slice_range"].split(", "))
        assert 6 <= last - first + 1 <= 12
        assert first <= int(key) <= last
        assert (row["Train_Val_Test"] in "23") == (row["Coarse_lesion_type"] != "-1")
        with Image.open(made / "deeplesion" / "Images_png" / series / f"{key}.png") as image:
            hu = np.asarray(image).astype(np.int64) - 32768
        assert hu.shape == (32, 32)
        assert -1024 <= hu.min() < hu.max() <= 3071
        x1, y1, x2, y2 = (float(n) for n in row["Bounding_boxes"].split(", "))
        assert -1 <= x1 < x2 <= 32
        assert -1 <= y1 < y2 <= 32


def test_names_and_folders_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, words in (
        ("task9_spleen", "did you mean 'task09_spleen'"),
        ("x", "there are rib"),
    ):
        with pytest.raises(DataError, match=words):
            generate(name, tmp_path / "x", TINY)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not empty"):
        generate("nodule", tmp_path / "mine", TINY)

    def fails(name: str, folder: Path, config: PhantomConfig) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    monkeypatch.setitem(WRITERS, "nodule", fails)
    with pytest.raises(OSError, match="disk full"):
        generate("nodule", tmp_path / "nodule", TINY)
    assert listing(tmp_path) == ["mine/mine.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
