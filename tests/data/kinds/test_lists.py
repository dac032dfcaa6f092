"""Lists as editors and spreadsheets save them; files that may not be read, are gone or change."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from tests.helpers import trees
from tests.helpers.examining import examined, findings, remarks
from tests.helpers.nobody import as_nobody, open_folder
from tests.helpers.planted import write_good
from tests.helpers.sequence_store import Image, noise, write_download, write_store
from voxseq.base.errors import ConfigError, DataError, ResourceError
from voxseq.base.lists import names
from voxseq.data import examine as stage
from voxseq.data.volume import Entry
from voxseq.plan.data import read_subjects
from voxseq.sequences.exclusion import Selection, select

SPLITS = ("train", "val", "test")


def ricord_of_three(root: Path) -> Path:
    """RICORD with one series in each list."""
    voxels = [np.abs(trees.image(seed=number)) for number in range(3)]
    return trees.ricord(root, [(s, 0, voxels[n], f"1A-4-{n}", {}) for n, s in enumerate(SPLITS)])


# The form of a list

#: How a text becomes bytes.
ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16 le": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16 be": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "windows": lambda text: text.replace("\n", "\r\n").encode(),
    "old mac": lambda text: text.replace("\n", "\r").encode(),
}
#: Ways to write the names a_1, b_2 and c_3.
FORMS = [
    "a_1\nb_2\nc_3\n",
    "a_1  \n\tb_2\nc_3",
    "# of two readers\na_1\n\n# the rest\nb_2\nc_3\n",
    "subject\na_1\nb_2\nc_3\n",
    "Subject ID;source\na_1;liver\nb_2;spleen\nc_3;\n",
    "n\tcase\n1\ta_1\n2\tb_2\n3\tc_3\n",
    '"subject","source"\n"a_1","x, y"\n"b_2","z"\n"c_3",""\n',
    "a_1;liver\nb_2;spleen\nc_3;liver\n",
    "a_1, b_2, c_3",
    "a_1;b_2;c_3;\n",
    "a_1,b_2\nc_3\n",
    "'a_1'\n'b_2'\n'c_3'\n",
    "subject source\na_1 liver\nb_2 spleen\nc_3 liver\n",
]


@pytest.mark.kind("list of any editor")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_list_is_read_whatever_wrote_it(tmp_path: Path, form: str, encoding: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(ENCODINGS[encoding](form))
    assert read_subjects("amos22", str(path)) == ["a_1", "b_2", "c_3"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_published_lists_are_read_whatever_wrote_them(tmp_path: Path, encoding: str) -> None:
    folder = trees.la(tmp_path, ["A", "B"], ["C"])
    ricord = ricord_of_three(tmp_path)
    table = trees.lesions(tmp_path)
    json = trees.msd(tmp_path, ["a", "b"])
    lists = [*folder.glob("*.list"), *ricord.glob("*.txt"), table / "DL_info.csv"]
    for path in (*lists, json / "dataset.json"):
        path.write_bytes(ENCODINGS[encoding](path.read_bytes().decode().replace("\r\n", "\n")))
    counts = {"la": 3, "ricord": 3, "deeplesion": 2, "task09_spleen": 2}
    assert {name: len(examined(tmp_path, name).rows) for name in counts} == counts


@pytest.mark.kind("endings and paths in a list")
@pytest.mark.parametrize(
    "line",
    [
        *("{}/mri_norm2.h5", "{}.h5", '"{}"', "{} ", "2018LA_Seg_Training Set\\{}\\mri_norm2.h5"),
        *("# {}\n{}", "{},"),
    ],
)
def test_cases_of_a_published_list_are_found_by_other_spellings(tmp_path: Path, line: str) -> None:
    folder = trees.la(tmp_path, ["A", "B"], ["C"])
    (folder / "train.list").write_text("".join(line.replace("{}", c) + "\n" for c in "AB"))
    found = examined(tmp_path, "la")
    assert sorted(row["subject"] for row in found.rows) == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *((".nii.gz 0", ".nii.gz,0"), (".nii.gz 0", ".nii 0"), (".nii.gz 0", '.nii.gz"; 0')),
        *((".nii.gz 0", "\t0  "), ("/", "\\"), ("RICORD_nii", "image label\nRICORD_nii")),
    ],
)
def test_lines_of_ricord_are_read_by_other_separators(tmp_path: Path, old: str, new: str) -> None:
    folder = ricord_of_three(tmp_path)
    for path in folder.glob("*.txt"):
        path.write_text(path.read_text().replace(old, new))
    assert len(examined(tmp_path, "ricord").rows) == 3


@pytest.mark.parametrize("separator", [";", "\t"])
def test_the_table_of_lesions_is_read_by_other_separators(tmp_path: Path, separator: str) -> None:
    path = trees.lesions(tmp_path) / "DL_info.csv"
    lines = path.read_text().splitlines()
    cells = [line.replace(", ", "\0").replace(",", separator).replace("\0", ", ") for line in lines]
    path.write_text("\n".join(cells))
    assert len(examined(tmp_path, "deeplesion").rows) == 2


# What a list names


def chosen(folder: Path, listed: str, subjects: tuple[str, ...]) -> Selection:
    """Divide images of AMOS with these subjects by a list with this content."""
    (folder / "list.txt").write_text(listed)
    images = [Image(name, noise(n)) for n, name in enumerate(subjects)]
    inputs = {
        "preprocess/source/amos22": write_store(folder / "store", "amos22", images),
        "download/amos22": write_download(folder / "download", "amos22", images),
    }
    subjects_of = {"amos22": read_subjects("amos22", str(folder / "list.txt"))}
    return select(inputs, ["amos22"], subjects_of, {"amos22": "list.txt"})


@pytest.mark.parametrize(
    "line",
    [
        *("Case_2", "Case_2.nii.gz", "Case_2_0000.nii.gz", "Case_2.NII", "amos22/Case_2/scan"),
        *("Part1\\Case_2_0000.nii.gz", "Case_2 0.99", '"Case_2"', "x/Case_2/y"),
    ],
)
def test_names_with_endings_and_paths_are_those_of_their_subjects(
    tmp_path: Path, line: str
) -> None:
    table = chosen(tmp_path, f"{line}\nCase_3\n", ("Case_1", "Case_2", "Case_3")).excluded
    assert sorted(table["subject"]) == ["Case_2", "Case_3"]


def test_a_subject_of_two_words_is_one(tmp_path: Path) -> None:
    table = chosen(tmp_path, "Doe Jane\n", ("Doe", "Jane", "Doe Jane")).excluded
    assert table["subject"].to_list() == ["Doe Jane"]


@pytest.mark.kind("list of which nothing matches")
def test_a_list_that_names_nobody_of_the_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen(tmp_path, "liver_1\nliver_2\nliver_3\nliver_4\n", ("Case_1", "Case_2"))
    assert "sequences.exclude.amos22 (list.txt): none of its 4 names" in caught.value.what
    assert "liver_1, liver_2, liver_3; subjects there are Case_1, Case_2" in caught.value.what


@pytest.mark.kind("name that does not match")
def test_names_that_are_not_there_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    selection = chosen(tmp_path, "Case_1\ncase_2\nliver_1\n", ("Case_1", "Case_2"))
    assert selection.record["lists"] == {"amos22": {"subjects": 3, "found": 1}}
    (line,) = [r.message for r in caplog.records if "not in the data set" in r.message]
    assert "sequences.exclude.amos22 (list.txt): 2 of 3 subjects" in line
    assert "case_2 (there is Case_2: case matters), liver_1" in line


def test_a_published_list_of_other_names_is_refused_or_named(tmp_path: Path) -> None:
    folder = trees.la(tmp_path, ["Ab", "B"], ["C"])
    (folder / "train.list").write_text("ab\nB\n")
    assert remarks(examined(tmp_path, "la")) == [
        "train.list: 1 of its cases are not here: ab (there is Ab: case matters)"
    ]
    (folder / "train.list").write_text("la_1\nla_2\n")
    with pytest.raises(DataError, match=r"train\.list: none of its 2 cases is here; it names la_1"):
        examined(tmp_path, "la")
    path = ricord_of_three(tmp_path) / "RICORD_test.txt"
    path.write_text(path.read_text().replace("ID4", "ID5"))
    assert "RICORD_test.txt: none of its 1 series is here" in str(
        remarks(examined(tmp_path, "ricord"))
    )


def test_a_cell_beyond_any_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="field larger"):
        names("a," + "x" * 200_000)


# Permission, files that vanish, links

LA = "la/2018LA_Seg_Training Set"
BRATS = "brats/ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-00001-000"
#: Data set, file or folder, and the rights that are left.
LOCKED = [
    ("totalsegmentator", "totalsegmentator/s0002/ct.nii.gz", 0),
    ("totalsegmentator", "totalsegmentator/s0002", 0),
    ("totalsegmentator", "totalsegmentator/s0002", 0o444),
    ("totalsegmentator", "totalsegmentator", 0),
    ("task09_spleen", "msd/Task09_Spleen/labelsTr/spleen_3.nii.gz", 0),
    ("task09_spleen", "msd/Task09_Spleen/imagesTr", 0),
    ("task09_spleen", "msd/Task09_Spleen/imagesTr", 0o444),
    ("task09_spleen", "msd/Task09_Spleen/dataset.json", 0),
    ("la", f"{LA}/{'A' * 20}/mri_norm2.h5", 0),
    ("la", f"{LA}/{'A' * 20}", 0),
    ("la", LA, 0),
    ("la", "la/train.list", 0),
    ("nodule", "nodule/nodulemnist3d.npz", 0),
    ("brats23", BRATS, 0),
    ("brats23", f"{BRATS}/BraTS-GLI-00001-000-t2w.nii.gz", 0),
    ("deeplesion", "deeplesion/DL_info.csv", 0),
    ("deeplesion", "deeplesion/Images_png", 0),
    ("deeplesion", "deeplesion/Images_png/000001_01_01/004.png", 0),
    ("dicom_ct", "dicom/series2/IM003.dcm", 0),
    ("dicom_ct", "dicom/series2", 0),
    ("dicom_ct", "dicom/plain/IM003", 0),
    ("ricord", "ricord/RICORD_test.txt", 0),
    ("ricord", "ricord/any/place1", 0),
    ("stoic", "stoic/mha/1.mha", 0),
]


@pytest.mark.kind("no permission")
def test_what_may_not_be_read_stops_with_its_path() -> None:
    with open_folder() as root:
        write_good(root)
        trees.nodule(root, {"train": 6, "val": 2, "test": 3})
        (root / "stoic/mha").mkdir(parents=True)
        for number in (1, 2):
            image = sitk.GetImageFromArray(trees.image(seed=number))
            sitk.WriteImage(image, str(root / f"stoic/mha/{number}.mha"))
        uid = {"SeriesInstanceUID": "1.9"}
        trees.dicom_series(root / "dicom/plain", np.abs(trees.image()), suffix="", **uid)
        # All that reading needs of Python's own files is loaded now.
        for dataset in dict.fromkeys(name for name, *_ in LOCKED):
            assert not examined(root, dataset).aside
        for dataset, path, rights in LOCKED:
            was = (root / path).stat().st_mode & 0o777
            (root / path).chmod(rights)
            with as_nobody(), pytest.raises(ResourceError) as caught:
                examined(root, dataset)
            (root / path).chmod(was)
            assert str(root / path) in caught.value.what
            assert "Permission denied" in caught.value.what
            assert "damaged" not in caught.value.what


@pytest.mark.kind("file that vanishes or changes")
@pytest.mark.parametrize("how", ["vanished", "changed"])
@pytest.mark.parametrize(
    ("dataset", "path"),
    [
        ("totalsegmentator", "totalsegmentator/s0003/ct.nii.gz"),
        ("task09_spleen", "msd/Task09_Spleen/labelsTr/spleen_3.nii.gz"),
        ("la", f"{LA}/{'B' * 20}/mri_norm2.h5"),
        ("dicom_ct", "dicom/series3/IM002.dcm"),
    ],
)
def test_a_file_that_somebody_touches_meanwhile_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, path: str, how: str
) -> None:
    write_good(tmp_path)
    place = tmp_path / path
    usable_row = stage._usable_row

    def touched(job: stage._Job, entry: Entry) -> object:
        if place.exists() and how == "vanished":
            place.unlink()
        elif place.exists():
            os.utime(place, ns=(7, 7))
        return usable_row(job, entry)

    monkeypatch.setattr(stage, "_usable_row", touched)
    with pytest.raises(ResourceError, match=r"while the data set was read|a moment ago") as caught:
        examined(tmp_path, dataset)
    assert "/".join(place.parts[-2:]) in caught.value.what


@pytest.mark.kind("link that leads nowhere")
@pytest.mark.parametrize(
    ("dataset", "link"),
    [
        ("totalsegmentator", "totalsegmentator/s0009"),
        ("totalsegmentator", "totalsegmentator/s0003/segmentations"),
        ("la", f"{LA}/{'B' * 20}"),
        ("dicom_ct", "dicom/series9"),
        ("ricord", "ricord/any/place1"),
        ("brats23", BRATS.replace("00001", "00009")),
        ("task09_spleen", "msd/Task09_Spleen/imagesTs"),
        ("deeplesion", "deeplesion/Images_png/000001_01_01"),
    ],
)
def test_links_that_lead_nowhere_are_named(tmp_path: Path, dataset: str, link: str) -> None:
    write_good(tmp_path)
    place = tmp_path / link
    if place.exists():
        place.rename(place.with_name("x"))
    place.symlink_to(tmp_path / "nowhere")
    said = [(f.file, f.reason) for f in findings(tmp_path, dataset)]
    name = link.rpartition("/")[2]
    assert any(name in f"{file} {reason}" and "nowhere" in reason for file, reason in said), said


# Words


@pytest.mark.kind("advice on own files")
def test_nobody_is_told_to_obtain_own_files_again(tmp_path: Path) -> None:
    write_good(tmp_path)
    spleen = tmp_path / "msd/Task09_Spleen"
    (spleen / "imagesTr/spleen_1.nii.gz").write_bytes(b"no image")
    trees.write_nifti(spleen / "labelsTr/spleen_2.nii.gz", trees.label())
    (spleen / "labelsTr/spleen_3.nii.gz").unlink()
    trees.write_nifti(spleen / "imagesTr/spleen_4.nii.gz", trees.image() * 0)
    advice = {f.file.rpartition("/")[2]: f.next for f in findings(tmp_path, "task09_spleen")}
    looks = {
        "spleen_1.nii.gz": "compare its size and checksum with the source",
        "spleen_2.nii.gz": "open the segmentation over its image in ITK-SNAP or 3D Slicer",
        "spleen_3.nii.gz": "restore the file",
        "spleen_4.nii.gz": "look at its range of values",
    }
    assert all(looks[name] in advice[name] for name in looks)
    (tmp_path / "dicom/series1/IM002.dcm").unlink()
    (finding,) = [f for f in findings(tmp_path, "dicom_ct") if f.severity == "fault"]
    assert "compare the number and the headers of its slices" in finding.next
    assert "again" not in f"{advice} {finding}"
