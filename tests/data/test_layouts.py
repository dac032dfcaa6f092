"""Each layout is found and read as published."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from tests.helpers import trees
from tests.helpers.dicom_sets import read_series
from voxseq import catalogue
from voxseq.base.errors import DataError
from voxseq.base.paths import first_match
from voxseq.data import layouts as adapters
from voxseq.data.index import entry_of, read_index
from voxseq.data.layouts import ricord
from voxseq.data.readers import dicom
from voxseq.data.volume import affine_of_lps

#: Stored values of a CT (columns, rows, slices).
STORED = trees.image((6, 5, 4)).astype(np.int32) + 1000
#: Data set, published path, subject and modality.
PATHS = """
    ribfrac           Part1/RibFrac1-image.nii.gz                                 RibFrac1    CT
    tcia_covid19      volume-covid19-A-0269.nii.gz                    volume-covid19-A-0269   CT
    tcia_covid19      x/volume-covid19-A-0318_1.nii.gz                volume-covid19-A-0318   CT
    tcia_covid19      volume-covid19-A-0721_day008.nii.gz             volume-covid19-A-0721   CT
    amos22            amos22/imagesTr/amos_0001.nii.gz                            amos_0001   CT
    amos22            amos22/imagesVa/amos_0500.nii.gz                            amos_0500   CT
    amos22            amos22/imagesTs/amos_0501.nii.gz                            amos_0501   MRI
    amos22            amos22/imagesTs/amos_0600.nii.gz                            amos_0600   MRI
    isles2022         ISLES-2022/{0}/ses-0001/dwi/{0}_ses-0001_dwi.nii.gz               {0}   MRI
    isles2022         rawdata/{0}/ses-0001/anat/{0}_ses-0001_FLAIR.nii.gz               {0}   MRI
    abdomenct1k       AbdomenCT-1K-ImagePart1/Case_00001_0000.nii.gz             Case_00001   CT
    totalsegmentator  s0000/ct.nii.gz                                                 s0000   CT
    verse20           dataset-01training/rawdata/{1}/{1}_dir-iso_ct.nii.gz              {1}   CT
    stoic             data/mha/1003.mha                                                1003   CT
    flare22           Training/FLARE22_LabeledCase50/images/{2}_0000.nii.gz             {2}   -
    flare22           Training/FLARE22_UnlabeledCase1-1000/Case_00001_0000.nii.gz Case_00001  -
    flare22           Validation/FLARETs_0001_0000.nii.gz                      FLARETs_0001   -
    flare23           imagesTr2200/1-500/FLARE23_0001_0000.nii.gz              FLARE23_0001   -
    flare23           unlabelTr1800/unlabel3101-4000/FLARE23_3101_0000.nii.gz  FLARE23_3101   -
""".format("sub-strokecase0001", "sub-verse823", "FLARE22_Tr_0001")
OTHERS = [
    "s0000/segmentations/liver.nii.gz",
    "s0001/segmentations/multilabel.nii.gz",
    "amos22/labelsTr/amos_0001.nii.gz",
    "rawdata/sub-verse823/sub-verse823_seg-vert_msk.nii.gz",
    "derivatives/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_msk.nii.gz",
    "labelsTr2200/FLARE23_0001.nii.gz",
    "Part1/RibFrac1-label.nii.gz",
    "metadata/reference.csv",
]


@pytest.mark.parametrize("line", PATHS.strip().splitlines())
def test_published_paths_are_recognised(line: str) -> None:
    name, path, subject, modality = line.split()
    dataset = catalogue.get(name)
    patterns = dataset.options["patterns"]
    modalities = dataset.options.get("modalities", [dataset.modality] * len(patterns))
    found = first_match(patterns, path)
    assert found is not None
    assert found[1]["subject"] == subject
    assert modality in {"-", modalities[found[0]]}
    assert not any(first_match(patterns, other) for other in OTHERS)


def test_copies_of_an_image_get_distinct_names_and_junk_is_left_out(tmp_path: Path) -> None:
    for place in ("a", "b", "__MACOSX"):
        trees.write_nifti(tmp_path / place / "s0001" / "ct.nii.gz", trees.image())
    (tmp_path / "a" / "s0001" / "._ct.nii.gz").write_bytes(b"x")
    found = adapters.get("nifti_tree").scan(tmp_path, catalogue.get("totalsegmentator"))
    assert [e.image for e in found.entries] == ["a%2Fs0001%2Fct.nii.gz", "b%2Fs0001%2Fct.nii.gz"]
    assert {e.subject for e in found.entries} == {"s0001"}


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    trees.write_nifti(tmp_path / "disk" / "s0001" / "ct.nii.gz", trees.image())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "part").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "disk")
    found = adapters.get("nifti_tree").scan(tmp_path / "data", catalogue.get("totalsegmentator"))
    assert [e.path for e in found.entries] == ["part/s0001/ct.nii.gz"]


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    for dataset in catalogue.CATALOGUE.values():
        with pytest.raises(DataError) as caught:
            adapters.get(dataset.layout).scan(tmp_path, dataset)
        assert str(tmp_path) in caught.value.what


def test_nrrd_of_the_atrium_challenge_is_read_with_its_labels(tmp_path: Path) -> None:
    directions = (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    cases = ("0RZDK210BSMWAA6467LU", "1D7CUD1955YZPGK8XHJX")
    for number, case in enumerate(cases):
        values = {"lgemri": trees.image(seed=number), "laendo": trees.label() * 255}
        for name, array in values.items():
            stored = sitk.GetImageFromArray(array.transpose(2, 1, 0).astype(np.uint8))
            stored.SetSpacing((0.625, 0.625, 0.625))
            stored.SetDirection(directions)
            (tmp_path / case).mkdir(exist_ok=True)
            sitk.WriteImage(stored, str(tmp_path / case / f"{name}.nrrd"), useCompression=True)
    options = {
        "patterns": [r"(?:.*/)?(?P<subject>[0-9A-Z]{20})/(?P<image>lgemri)\.nrrd"],
        "label": "laendo.nrrd",
        "label_value": 255,
    }
    dataset = dataclasses.replace(
        catalogue.get("la"), layout="metaimage", folder="la_raw", options=options
    )
    adapter = adapters.get("metaimage")
    last = tmp_path / cases[1] / "laendo.nrrd"
    last.rename(last.with_suffix(".NRRD"))
    scan = adapter.scan(tmp_path, dataset)
    assert not scan.remarks
    entries = scan.entries
    assert [(e.subject, e.image) for e in entries] == [(case, "lgemri") for case in cases]
    image, label = (read(tmp_path, entries[1]) for read in (adapter.read_image, adapter.read_label))
    assert label is not None
    np.testing.assert_array_equal(image.array, trees.image(seed=1).astype(np.uint8))
    np.testing.assert_array_equal(label.array, trees.label())
    np.testing.assert_array_equal(image.affine, label.affine)
    # Directions of -1 in the world of ITK are +1 in that of NIfTI.
    np.testing.assert_allclose(image.affine[:3, :3], np.eye(3) * 0.625)
    wrong = sitk.GetImageFromArray(np.full((7, 8, 9), 3, np.uint8))
    sitk.WriteImage(wrong, str(tmp_path / entries[0].label_path))
    with pytest.raises(DataError, match=rf"{entries[0].label_path}: unknown label value 3"):
        adapter.read_label(tmp_path, entries[0])


def test_dicom_agrees_with_itk(tmp_path: Path) -> None:
    trees.dicom_series(tmp_path / "s", STORED)
    volume = read_series(tmp_path, "s")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sorted((str(p) for p in (tmp_path / "s").iterdir()), reverse=True))
    image = reader.Execute()
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    steps = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    np.testing.assert_allclose(volume.affine, affine_of_lps(steps, image.GetOrigin()), atol=1e-6)
    assert volume.spacing == pytest.approx((0.75, 0.5, 2.5))
    by_instance = read_series(tmp_path, "s", order="instance", values="stored")
    np.testing.assert_array_equal(by_instance.array, STORED.transpose(1, 0, 2))
    # RICORD's order: rows before columns, as PixelSpacing has them.
    assert by_instance.spacing == pytest.approx((0.5, 0.75, 2.5))
    assert not by_instance.oriented


def test_plain_and_compressed_pixels_are_read_alike(tmp_path: Path) -> None:
    trees.dicom_series(tmp_path / "plain", STORED)
    trees.dicom_series(tmp_path / "packed", STORED)
    for path in (tmp_path / "packed").iterdir():
        header = pydicom.dcmread(path)
        header.compress(pydicom.uid.RLELossless)
        header.save_as(path)
    one, other = (read_series(tmp_path, name) for name in ("plain", "packed"))
    np.testing.assert_array_equal(one.array, other.array)
    headers = dicom.read_headers(tmp_path, "plain/IM002.dcm")
    ((header, pixels),) = dicom.read_slices(tmp_path, headers)
    by_itk = dicom.decoded_by_itk(tmp_path / header.path, header)
    np.testing.assert_array_equal(by_itk, pixels)


def test_slope_and_intercept_are_applied_slice_by_slice(tmp_path: Path) -> None:
    trees.dicom_series(tmp_path / "s", STORED, RescaleSlope=0.5, RescaleIntercept=-100.25)
    path = tmp_path / "s" / "IM002.dcm"
    header = pydicom.dcmread(path)
    header.RescaleSlope, header.RescaleIntercept = 2, -1000
    header.save_as(path)
    volume = read_series(tmp_path, "s")
    expected = STORED * 0.5 - 100.25
    expected[:, :, 2] = STORED[:, :, 2] * 2.0 - 1000
    # Slices are in order of position: the last instance lies lowest.
    np.testing.assert_array_equal(volume.array, expected[:, :, ::-1].astype(np.float32))
    assert volume.array.dtype == np.float32
    as_stored = read_series(tmp_path, "s", values="stored")
    np.testing.assert_array_equal(as_stored.array, STORED[:, :, ::-1])
    assert as_stored.array.dtype == np.uint16
    trees.dicom_series(tmp_path / "whole", STORED)
    whole = read_series(tmp_path, "whole")
    assert whole.array.dtype == np.int32
    np.testing.assert_array_equal(whole.array, STORED[:, :, ::-1] - 1024)


def test_series_of_one_folder_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "dicom"
    uids = ("1.2.3.1", "1.2.3.2")
    for number, uid in enumerate(uids):
        array = trees.image((6, 5, 4), seed=number).astype(np.int32) + 1000
        tags = {"SeriesInstanceUID": uid, "PatientID": "one/two"}
        trees.dicom_series(folder / "all", array, suffix=f"-{number}.dcm", **tags)
    index = read_index(trees.run_download(tmp_path / "data", tmp_path, "dicom_ct"))
    assert index["volume_id"].tolist() == [f"dicom_ct/one%2Ftwo/{uid}" for uid in uids]
    assert index["path"].tolist() == ["all", "all"]
    for number in range(2):
        volume = adapters.get("dicom_tree").read_image(folder, entry_of(index.loc[number]))
        expected = trees.image((6, 5, 4), seed=number).astype(np.int32) + 1000 - 1024
        np.testing.assert_array_equal(volume.array, expected[:, :, ::-1])


def test_a_file_without_a_header_costs_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "dicom"
    for name in ("good", "loose"):
        trees.dicom_series(folder / name, STORED, suffix="", PatientID=name)
    (folder / "loose" / "broken.dcm").write_bytes(b"no DICOM")
    (folder / "alone").mkdir()
    (folder / "alone" / "broken.dcm").write_bytes(b"no DICOM")
    (folder / "good" / "notes.txt").write_text("not an image")
    out = trees.run_download(tmp_path / "data", tmp_path, "dicom_ct")
    aside = trees.set_aside(out)
    assert set(aside) == {"dicom_ct/alone/broken.dcm"}
    assert all(r.startswith("alone/broken.dcm: damaged") for r in aside.values())
    (remark,) = trees.remarks(out)
    assert remark["path"] == "loose/broken.dcm"
    assert "damaged" in remark["reason"]
    assert read_index(out)["subject"].tolist() == ["good", "loose"]


def test_ricord_series_are_found_by_their_line(tmp_path: Path) -> None:
    coronal = {"SeriesNumber": 602, "SeriesDescription": "COR 3X3"}
    sagittal = {"SeriesNumber": 605, "SeriesDescription": "SAG"}
    folder = trees.ricord(
        tmp_path / "data",
        [
            ("train", 1, STORED, "1A-SITE2-000001", {}),
            ("train", 0, STORED[::-1], "1B-419639-000002", {"SeriesNumber": 4}),
            ("val", 1, STORED[:, ::-1], "1A-419639-000003",
             {**coronal, "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}),
            ("test", 1, STORED[:, :, ::-1], "1A-419639-000004",
             {**sagittal, "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}),
        ],
    )  # fmt: skip
    with (folder / "RICORD_train.txt").open("a") as file:
        name = "ID1-2_date10-19-2004_3.000000-NA-36469"
        file.write(f"RICORD_nii/MIDRC-RICORD-1B/{name}.nii.gz 0\n")
    trees.dicom_series(folder / "unlisted", STORED)
    out = trees.run_download(tmp_path / "data", tmp_path, "ricord", trees.CLASSIFICATION)
    index = read_index(out).set_index("path")
    assert trees.set_aside(out) == {}
    assert index["split"].tolist() == ["train", "train", "val", "test"]
    assert index["label"].tolist() == [1, 0, 1, 1]
    assert index["contrast"].tolist() == ["", "", ricord.REFORMATTED, ricord.REFORMATTED]
    assert index.loc["any/place1", "subject"] == "MIDRC-RICORD-1B-419639-000002"
    facts = trees.summary(out)
    assert facts["absent"] == ["MIDRC-RICORD-1B-1-2/10-19-2004_3.000000-NA-36469"]
    assert facts["notes"] == [
        "1 series that no list names",
        "4 of 330 published images are there",
        "2 of 4 series are reformatted; axial.csv lists the others",
        "val, class 1: 1 of 1 are reformatted",
        "test, class 1: 1 of 1 are reformatted",
    ]
    with (out / "axial.csv").open(newline="") as file:
        axial = [(row["subject"], row["split"], row["label"]) for row in csv.DictReader(file)]
    assert axial == [
        ("MIDRC-RICORD-1A-SITE2-000001", "train", "1"),
        ("MIDRC-RICORD-1B-419639-000002", "train", "0"),
    ]
    # Stored values as published, not Hounsfield units.
    assert index.loc["any/place0", "minimum"] >= 0


def test_every_line_of_the_published_lists_of_ricord_is_understood(root: Path) -> None:
    folder = root / "../shared/splits/ricord_official"
    if not folder.is_dir():
        pytest.skip(f"no published lists in {folder}")
    keys = set()
    for line in (folder / "../ricord_series_map.tsv").read_text().splitlines()[1:]:
        patient, _, uid, date, number = line.split("\t")[4:9]
        keys.add((patient, date.replace("-", ""), int(number), uid[-5:]))
    listed = [ricord._read_list(folder, split) for split in ("train", "val", "test")]
    assert [len(items) for items in listed] == [194, 52, 84]
    assert {item.key for items in listed for item in items} == keys


def test_deeplesion_has_one_entry_for_each_typed_lesion(tmp_path: Path) -> None:
    folder = trees.lesions(tmp_path / "data")
    out = trees.run_download(tmp_path / "data", tmp_path, "deeplesion")
    index = read_index(out)
    assert index["volume_id"].tolist() == [
        "deeplesion/000001/000001_01_01_004_1",
        "deeplesion/000001/000001_01_01_004_2",
    ]
    assert index["label"].tolist() == [5, 2]
    # Boxes are (column, row) and arrays (row, column), as published.
    assert index[["centre_x", "centre_y"]].to_numpy().tolist() == [[6, 4], [3, 2]]
    assert trees.summary(out)["absent"] == ["000002/000002_01_01_007_1"]
    volume = adapters.get("deeplesion").read_image(folder, entry_of(index.loc[0]))
    np.testing.assert_array_equal(volume.array[:, :, 2], trees.image((12, 10), seed=5).T)
    assert volume.array.shape == (10, 12, 4)
    assert volume.spacing == pytest.approx((0.9, 0.8, 5))
