"""Malformed files of every format: set aside with file and reason, or refused in our own words."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.helpers import trees
from tests.helpers.bad_dicom import SERIES, tagged
from tests.helpers.bad_h5 import H5_FILES
from tests.helpers.bad_metaimage import METAIMAGES, metaimage
from tests.helpers.bad_nifti import NIFTI_IMAGES, NIFTI_LABELS, SHAPE, Case, Maker
from tests.helpers.places import Place, Zygote
from tests.helpers.spoilt import index, spoilt_study

SOUND = [f"sound{n}" for n in range(4)]


def maker(case: Case) -> Maker:
    return case[0] if isinstance(case, tuple) else case


def nifti(data: Path, _: Path) -> None:
    folder = trees.msd(data, [*SOUND, *NIFTI_IMAGES, *NIFTI_LABELS])
    for kind, cases in (("images", NIFTI_IMAGES), ("labels", NIFTI_LABELS)):
        for name, case in cases.items():
            path = folder / f"{kind}Tr" / f"{name}.nii.gz"
            path.unlink()
            maker(case)(path)


def mha(data: Path, _: Path) -> None:
    folder = data / "stoic/data/mha"
    folder.mkdir(parents=True)
    sound = {name: metaimage(trees.image(SHAPE, 20 + n).tobytes()) for n, name in enumerate(SOUND)}
    for name, case in {**sound, **METAIMAGES}.items():
        maker(case)(folder / f"{name}.mha")


def dicom(data: Path, _: Path) -> None:
    cases = {**{name: tagged() for name in SOUND}, **SERIES}
    for number, (name, case) in enumerate(cases.items()):
        maker(case)(data / "dicom" / name)
        for path in (data / "dicom" / name).iterdir():
            # Subjects are told apart by PatientID; it is of the same length in all files.
            content = path.read_bytes()
            path.write_bytes(content.replace(b"patient ", b"p%06d " % number))


def h5(data: Path, outside: Path) -> None:
    folder = trees.la(data, [*SOUND, *H5_FILES], ["tested"])
    for name, case in H5_FILES.items():
        path = folder / "2018LA_Seg_Training Set" / name / "mri_norm2.h5"
        path.unlink()
        maker(case)(path, outside)


@dataclass(frozen=True)
class Format:
    """A data set of one format, with every case and four sound images.

    Attributes:
        lay: writes the data set to (folder of data sets, folder outside of them).
        subject: name of a case from its volume and its path.
    """

    dataset: str
    cases: Mapping[str, Case]
    lay: Callable[[Path, Path], None]
    subject: Callable[[str, str], str] = lambda volume, _: volume.split("/")[1]


FORMATS = {
    "nifti": Format("task09_spleen", {**NIFTI_IMAGES, **NIFTI_LABELS}, nifti),
    "metaimage": Format("stoic", METAIMAGES, mha),
    "dicom": Format("dicom_ct", SERIES, dicom, lambda _, path: path.split("/")[0]),
    "h5": Format("la", H5_FILES, h5),
}


@pytest.fixture(scope="module")
def place(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A workspace for the spoilt data sets."""
    return spoilt_study(tmp_path_factory.mktemp("malformed") / "x", zygote)


@pytest.fixture(scope="module")
def set_aside(place: Place) -> Callable[[str], dict[str, tuple[str, str]]]:
    """Name of each case that is set aside: path and reason, after a run that must not fail."""

    @cache
    def index_all(kind: str) -> dict[str, tuple[str, str]]:
        of = FORMATS[kind]
        of.lay(place.folder / "data", place.folder)
        ended = index(place, of.dataset)
        assert ended.status == 0, ended.said
        assert "Traceback" not in ended.output
        path = place.folder / place.plan.artefacts / "download" / of.dataset / "set_aside.csv"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {of.subject(r["volume_id"], r["path"]): (r["path"], r["reason"]) for r in rows}

    return index_all


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, of in FORMATS.items() for name in of.cases]
)
def test_files(
    set_aside: Callable[[str], dict[str, tuple[str, str]]], kind: str, name: str
) -> None:
    """Each is set aside with its path and words of the reason; the sound ones beside it are not."""
    aside, case = set_aside(kind), FORMATS[kind].cases[name]
    assert name in aside, f"{name} was taken for a sound image"
    assert not set(SOUND) & set(aside)
    path, reason = aside[name]
    assert path.split("/")[-1].split(".")[0] in reason or path in reason, reason
    assert (case[1] if isinstance(case, tuple) else "") in reason
    assert len(reason) > len(path) + 10
    assert "Traceback" not in reason
