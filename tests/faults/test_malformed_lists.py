"""Malformed lists, tables and archives: a data set is refused in our own words, or used in part."""

from __future__ import annotations

import csv
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import trees
from tests.helpers.places import Place, Zygote
from tests.helpers.spoilt import aside, index, spoilt_study

DEEP = "[" * 100_000


@pytest.fixture
def place(zygote: Zygote, tmp_path: Path) -> Place:
    return spoilt_study(tmp_path / "x", zygote)


def item(image: str, label: str = "labelsTr/a.nii.gz", times: int = 1) -> str:
    return json.dumps({"training": [{"image": image, "label": label}] * times})


#: Contents of dataset.json.
MSD: dict[str, bytes | str] = {
    "empty": "",
    "not UTF-8": b'{"training": [{"image": "\xff\xfe", "label": "a"}]}',
    "zero bytes": b"\0" * 64,
    "UTF-16 without its mark": item("imagesTr/a.nii.gz").encode("utf-16-le"),
    "a list": "[1, 2]",
    "null": "null",
    "nested to no end": '{"training": ' + DEEP,
    "no training": '{"test": []}',
    "an empty list": '{"training": []}',
    "training is a number": '{"training": 1e400}',
    "training is a mapping": '{"training": {"image": "a", "label": "b"}}',
    "an item is a word": '{"training": ["imagesTr/a.nii.gz"]}',
    "an item lacks its label": '{"training": [{"image": "imagesTr/a.nii.gz"}]}',
    "an image is a number": '{"training": [{"image": 7, "label": "a"}]}',
    "a number of 5000 digits": '{"training": [{"image": %s, "label": "a"}]}' % ("9" * 5000),
    "an image twice": item("imagesTr/a.nii.gz", times=2),
    "a path out of the folder": item("../../../secret.raw"),
    "a label out of the folder": item("imagesTr/a.nii.gz", "labelsTr/../../../../secret.raw"),
    "a path out of a folder that is not there": item("x/../../../../../secret.raw"),
    "an absolute path": item("/etc/hostname"),
    "an absolute path of a label": item("imagesTr/a.nii.gz", "/etc/hostname"),
    "a path of Windows": item("..\\..\\secret.raw"),
    "a name with a zero byte": item("imagesTr/a\0.nii.gz"),
    "a name of 5000 letters": item("a" * 5000),
    "the folder itself": item("."),
    "a constant that is no JSON": '{"training": NaN}',
}


#: Contents of train.list.
LA: dict[str, bytes] = {
    "not UTF-8": b"A\xff\n",
    "a zero byte": b"A\0B\n",
    "a path out of the folder": b"../../secret\n",
    "an absolute path": b"/etc\n",
    "a case twice": b"A\nB\nA\n",
    "a case of the test list": b"A\nC\n",
    "a name of 5000 letters": b"A" * 5000,
}


RICORD_LINE = b"RICORD_nii/MIDRC-RICORD-1A/ID419639-000025_date01-01-2002_2-AXIAL-abcde.nii.gz 1\n"
RICORD: dict[str, bytes] = {
    "not UTF-8": b"\xff" + RICORD_LINE,
    "another collection": RICORD_LINE.replace(b"1A", b"1C"),
    "a class of 2": RICORD_LINE.replace(b" 1\n", b" 2\n"),
    "no class": RICORD_LINE.replace(b" 1\n", b"\n"),
    "a number of dots": RICORD_LINE.replace(b"_2-", b"_...-"),
    "a number of many digits": RICORD_LINE.replace(b"_2-", b"_" + b"9" * 400 + b"-"),
    "a line that takes the pattern for ever": b"MIDRC-RICORD-1A/ID_date" * 20_000,
    "empty": b"",
}


COLUMNS = ("File_name", "Bounding_boxes", "Coarse_lesion_type", "Slice_range", "Spacing_mm_px_")
SOUND_ROW = ("000001_01_01_004.png", "2, 3, 6, 5", "5", "3, 6", "0.8, 0.8, 5")


def table(*rows: tuple[str, ...], columns: tuple[str, ...] = COLUMNS) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue().encode()


#: Contents of DL_info.csv that leave no lesion to use.
TABLES: dict[str, bytes] = {
    "empty": b"",
    "a header and no row": table(),
    "not UTF-8": table(SOUND_ROW) + b"\xff\xfe,1\n",
    "zero bytes": table() + b"\0" * 40 + b"\n",
    "columns missing": table(SOUND_ROW[:3], columns=COLUMNS[:3]),
    "columns without names": table(SOUND_ROW, columns=("", "", "", "", "")),
    "a field of a megabyte": table(("a" * 1_000_000, *SOUND_ROW[1:])),
    "a quote that never ends": table(SOUND_ROW)[:-20] + b'"' + b"x" * 200_000,
    "another file's content": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10,
}


#: Single rows that cannot be used: column, value.
ROWS: dict[str, tuple[int, str]] = {
    "a type of 9": (2, "9"),
    "a type that is a word": (2, "liver"),
    "an infinite type": (2, "inf"),
    "a type that is no number": (2, "nan"),
    "a type of 400 digits": (2, "9" * 400),
    "a box that is a word": (1, "here"),
    "a box of three": (1, "1, 2, 3"),
    "an infinite box": (1, "0, 0, inf, inf"),
    "a box that is no number": (1, "nan, 1, 2, 3"),
    "a box outside": (1, "1e9, 1e9, 1e9, 1e9"),
    "a range backwards": (3, "6, 3"),
    "a range below zero": (3, "-6, 3"),
    "a range without end": (3, "3, 99999999999"),
    "a range of one": (3, "3"),
    "a range beyond the slices": (3, "3, 40"),
    "a spacing of two": (4, "0.8, 0.8"),
    "a negative spacing": (4, "-0.8, 0.8, 5"),
    "a spacing of zero": (4, "0, 0, 0"),
    "a spacing that is no number": (4, "nan, nan, nan"),
    "an infinite spacing": (4, "inf, 1, 1"),
    "a name without a number": (0, "lesion.png"),
    "a path out of the folder": (0, "../../secret/01_004.png"),
    "an absolute path": (0, "/etc/passwd_004.png"),
    "an empty name": (0, ""),
}


@pytest.fixture(scope="module")
def lesions(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, int]:
    """What is set aside of a table with all these rows, and how many rows are usable."""
    made = spoilt_study(tmp_path_factory.mktemp("lesions") / "x", zygote)
    folder = trees.lesions(made.folder / "data")
    rows = [SOUND_ROW] * 2
    for column, value in ROWS.values():
        rows.append((*SOUND_ROW[:column], value, *SOUND_ROW[column + 1 :]))
    (folder / "DL_info.csv").write_bytes(table(*rows))
    ended = index(made, "deeplesion")
    assert ended.status == 0, ended.said
    out = made.folder / made.plan.artefacts / "download/deeplesion"
    with (out / "set_aside.csv").open(newline="") as file:
        reasons = [row["reason"] for row in csv.DictReader(file)]
    return reasons, json.loads((out / "summary.json").read_text())["usable"]


def test_only_sound_rows_are_used(lesions: tuple[Any, int]) -> None:
    reasons, usable = lesions
    assert usable == 2
    assert len(reasons) == len(ROWS)


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("name", ROWS)
def test_rows(lesions: tuple[Any, int], name: str) -> None:
    line = f"DL_info.csv line {4 + list(ROWS).index(name)}: "
    outside = {"a box outside": "lies outside the image", "a range beyond the slices": "not exist"}
    assert any(outside.get(name, line) in reason for reason in lesions[0])


def png(array: np.ndarray) -> Callable[[Path], object]:
    return lambda path: Image.fromarray(array).save(path)


def huge_png(path: Path) -> None:
    """A picture of 60000 x 60000 pixels in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 16, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:90])


PNGS: dict[str, Callable[[Path], object]] = {
    "8 bits": png(np.zeros((10, 12), np.uint8)),
    "colours": png(np.zeros((10, 12, 3), np.uint8)),
    "another size": png(np.full((7, 5), 40000, np.uint16)),
    "missing": lambda path: path.unlink(),
    "half a file": half,
    "a text": lambda path: path.write_text("no picture"),
    "empty": lambda path: path.write_bytes(b""),
    "billions of pixels": huge_png,
    "one broken chunk": lambda path: path.write_bytes(
        path.read_bytes().replace(b"IDAT", b"IDA\xff")
    ),
}


class Trap:
    """Would make a file if it were unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (open, ("unpickled",))


def members(**arrays: Any) -> Callable[[Path], object]:
    """The npz with some of its members replaced; bytes are the member itself, None removes it."""

    def make(path: Path) -> None:
        with np.load(path) as archive:
            sound = dict(archive)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, value in {**sound, **arrays}.items():
                if value is None:
                    continue
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    if isinstance(value, bytes):
                        member.write(value)
                    else:
                        np.lib.format.write_array(member, np.asarray(value))

    return make


def header(shape: str, dtype: str = "'|u1'", rest: int = 0) -> bytes:
    """A member whose header promises this shape, with ``rest`` bytes behind it."""
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + bytes(rest)


def outside_member(path: Path) -> None:
    members(train_images=None)(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../escaped.npy", header("(2, 5, 6, 7)", rest=420))


#: What makes the file as a whole unusable.
NPZ: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "a text": lambda path: path.write_text("no archive"),
    "half a file": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Trap())),
    "labels that are a pickle": members(
        train_labels=b"\x93NUMPY\1\0" + header("(2, 1)", "'|O'")[8:] + pickle.dumps([[Trap()]])
    ),
    "no labels": members(train_labels=None),
    "no images": members(train_images=None),
    "one label too many": members(train_labels=np.zeros((3, 1), np.uint8)),
    "labels that are words": members(train_labels=np.array([["a"], ["b"]])),
    "labels that are no numbers": members(train_labels=np.array([[np.nan], [1.0]])),
    "infinite labels": members(train_labels=np.array([[np.inf], [1.0]])),
    "half labels": members(train_labels=np.array([[0.5], [1.0]])),
    "a header that is code": members(train_labels=header("__import__('os').getcwd()")),
    "a negative shape": members(train_images=header("(-2, 5, 6, 7)")),
    "more labels than bytes": members(train_labels=header("(2, 1)")),
    "terabytes of labels": members(train_labels=header("(1099511627776,)")),
    "names that lead out": outside_member,
}


@dataclass(frozen=True)
class Spoilt:
    """A data set of which one file is replaced.

    Attributes:
        make: writes it into the folder of data sets.
        file: path in that folder.
        cases: its contents, or what is done to it.
        named: the message names another file than this.
    """

    dataset: str
    make: Callable[[Path], object]
    file: str
    cases: Mapping[str, bytes | str | Callable[[Path], object]]
    named: Mapping[str, str] = field(default_factory=dict)


def three_lists(data: Path) -> None:
    trees.dicom_series(data / "ricord/one", np.abs(trees.image()))
    for split in ("train", "val", "test"):
        (data / f"ricord/RICORD_{split}.txt").write_bytes(RICORD_LINE)


NODULES = "nodule/nodulemnist3d.npz"
SLICE = "deeplesion/Images_png/000001_01_01/004.png"
SPOILT = {
    "dataset.json": Spoilt(
        "task09_spleen",
        lambda data: trees.msd(data, ["a", "b", "c"]),
        "msd/Task09_Spleen/dataset.json",
        MSD,
    ),
    "cases": Spoilt("la", lambda data: trees.la(data, ["A", "B"], ["C"]), "la/train.list", LA),
    "series": Spoilt("ricord", three_lists, "ricord/RICORD_val.txt", RICORD, {"empty": "RICORD"}),
    "table": Spoilt("deeplesion", trees.lesions, "deeplesion/DL_info.csv", TABLES),
    "slices": Spoilt("deeplesion", trees.lesions, SLICE, PNGS, {"another size": "000001_01_01"}),
    "archive": Spoilt(
        "nodule", lambda data: trees.nodule(data, {"train": 2, "val": 1, "test": 1}), NODULES, NPZ
    ),
}


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, of in SPOILT.items() for name in of.cases]
)
def test_lists(place: Place, kind: str, name: str) -> None:
    """The data set is refused with an error of ours that names the file and says what to do."""
    of = SPOILT[kind]
    path, case = place.folder / "data" / of.file, of.cases[name]
    of.make(place.folder / "data")
    if callable(case):
        case(path)
    else:
        path.write_bytes(case if isinstance(case, bytes) else case.encode())
    ended = index(place, of.dataset)
    assert ended.status == 2, ended.said
    assert "Traceback" not in ended.output
    last = ended.output[ended.output.index("error: ") :]
    assert "\n  next: " in last
    assert of.named.get(name, path.name) in last
    assert not list(place.folder.parent.rglob("unpickled"))
    assert not list(place.folder.parent.rglob("escaped*"))


#: What makes the training images unusable.
NPZ_IMAGES: dict[str, Callable[[Path], object]] = {
    "three axes": members(train_images=np.zeros((2, 5, 6), np.uint8)),
    "words": members(train_images=np.full((2, 5, 6, 7), "x")),
    "complex numbers": members(train_images=np.ones((2, 5, 6, 7)) * 1j),
    "only NaN": members(train_images=np.full((2, 5, 6, 7), np.nan)),
    "one value everywhere": members(train_images=np.ones((2, 5, 6, 7))),
    "fewer bytes than promised": members(train_images=header("(2, 5, 6, 7)", rest=100)),
    "terabytes": members(train_images=header("(2, 100000, 100000, 100000)")),
    "a bomb": members(train_images=header("(2, 1400, 1000, 1000)", rest=1 << 26)),
    "an axis of length 0": members(train_images=np.zeros((2, 5, 0, 7), np.uint8)),
}


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("name", NPZ_IMAGES)
def test_images_in_archives(place: Place, name: str) -> None:
    folder = trees.nodule(place.folder / "data", {"train": 2, "val": 2, "test": 2})
    NPZ_IMAGES[name](folder / "nodulemnist3d.npz")
    ended = index(place, "nodule")
    # Both training images are set aside, without which there is nothing to train on.
    assert ended.status == 2, ended.said
    assert "Traceback" not in ended.output
    assert ended.output.count("set aside: nodulemnist3d.npz: ") == 2
    assert "the train split has no case" in ended.output


def test_a_class_that_the_task_does_not_know_is_set_aside(place: Place) -> None:
    folder = trees.nodule(place.folder / "data", {"train": 4, "val": 2, "test": 2})
    labels = np.array([[7], [0], [-1], [1]], np.int64)
    members(train_labels=labels)(folder / "nodulemnist3d.npz")
    assert index(place, "nodule").status == 0
    found = aside(place, "nodule")
    assert "class 7, expected [0, 1]" in found["train0000"][1]
    assert "class -1, expected [0, 1]" in found["train0002"][1]
