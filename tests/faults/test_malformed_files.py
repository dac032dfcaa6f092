"""Malformed files of every format: set aside with file and reason, or refused in our own words."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.helpers import bad_dicom, bad_h5, bad_metaimage, bad_nifti
from tests.helpers.bad_nifti import trees
from tests.helpers.places import Place, Zygote
from tests.helpers.spoilt import aside, index, spoilt_study

SOUND = [f"sound{n}" for n in range(4)]


@pytest.fixture(scope="module")
def place(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A workspace for the spoilt data sets."""
    return spoilt_study(tmp_path_factory.mktemp("malformed") / "x", zygote)


def indexed(place: Place, dataset: str) -> dict[str, tuple[str, str]]:
    """What is set aside, after a run that must not fail."""
    ended = index(place, dataset)
    assert ended.status == 0, ended.said
    assert "Traceback" not in ended.output
    return aside(place, dataset)


def check(found: Mapping[str, tuple[str, str]], name: str, words: str) -> None:
    """The image called ``name`` is set aside, with its path and the words in the reason."""
    assert name in found, f"{name} was taken for a sound image"
    path, reason = found[name]
    assert path.split("/")[-1].split(".")[0] in reason or path in reason, reason
    assert words in reason
    assert len(reason) > len(path) + 10
    assert "Traceback" not in reason


@pytest.fixture(scope="module")
def nifti(place: Place) -> dict[str, tuple[str, str]]:
    names = [*SOUND, *bad_nifti.NIFTI_IMAGES, *bad_nifti.NIFTI_LABELS]
    folder = trees.msd(place.folder / "data", names)
    for kind, cases in (("images", bad_nifti.NIFTI_IMAGES), ("labels", bad_nifti.NIFTI_LABELS)):
        for name, (make, _) in cases.items():
            path = folder / f"{kind}Tr" / f"{name}.nii.gz"
            path.unlink()
            make(path)
    return indexed(place, "task09_spleen")


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(
    ("name", "words"),
    [(n, w) for n, (_, w) in (bad_nifti.NIFTI_IMAGES | bad_nifti.NIFTI_LABELS).items()],  # type: ignore[operator]
)
def test_nifti(nifti: Mapping[str, tuple[str, str]], name: str, words: str) -> None:
    check(nifti, name, words)


def test_sound_nifti_files_beside_them_are_used(nifti: Mapping[str, tuple[str, str]]) -> None:
    assert not set(SOUND) & set(nifti)


@pytest.fixture(scope="module")
def metaimages(place: Place) -> dict[str, tuple[str, str]]:
    folder = place.folder / "data/stoic/data/mha"
    folder.mkdir(parents=True)
    for number, name in enumerate(SOUND):
        bad_metaimage.metaimage(trees.image(bad_nifti.SHAPE, 20 + number).tobytes())(
            folder / f"{name}.mha"
        )
    for name, (make, _) in bad_metaimage.METAIMAGES.items():
        make(folder / f"{name}.mha")
    return indexed(place, "stoic")


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(
    ("name", "words"), [(n, w) for n, (_, w) in bad_metaimage.METAIMAGES.items()]
)
def test_metaimage(metaimages: Mapping[str, tuple[str, str]], name: str, words: str) -> None:
    check(metaimages, name, words)


def test_sound_metaimages_beside_them_are_used(
    metaimages: Mapping[str, tuple[str, str]],
) -> None:
    assert not set(SOUND) & set(metaimages)


@pytest.fixture(scope="module")
def series(place: Place) -> dict[str, tuple[str, str]]:
    folder = place.folder / "data/dicom"
    cases: dict[str, Callable[[Path], object]] = {
        **{name: bad_dicom.tagged() for name in SOUND},
        **{name: make for name, (make, _) in bad_dicom.SERIES.items()},
    }
    for number, (name, make) in enumerate(cases.items()):
        made = folder / name
        make(made)
        for path in made.iterdir():
            # Subjects are told apart by PatientID; it is of the same length in all files.
            content = path.read_bytes()
            path.write_bytes(content.replace(b"patient ", b"p%06d " % number))
    ended = index(place, "dicom_ct")
    assert ended.status == 0, ended.said
    assert "Traceback" not in ended.output
    path = place.folder / place.plan.artefacts / "download/dicom_ct/set_aside.csv"
    with path.open(newline="") as file:
        return {
            row["path"].split("/")[0]: (row["path"], row["reason"]) for row in csv.DictReader(file)
        }


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(("name", "words"), [(n, w) for n, (_, w) in bad_dicom.SERIES.items()])
def test_dicom(series: Mapping[str, tuple[str, str]], name: str, words: str) -> None:
    check(series, name, words)


def test_sound_series_beside_them_are_used(series: Mapping[str, tuple[str, str]]) -> None:
    assert not set(SOUND) & set(series)


@pytest.fixture(scope="module")
def h5_files(place: Place) -> dict[str, tuple[str, str]]:
    folder = trees.la(place.folder / "data", [*SOUND, *bad_h5.H5_FILES], ["tested"])
    for name, (make, _) in bad_h5.H5_FILES.items():
        path = folder / "2018LA_Seg_Training Set" / name / "mri_norm2.h5"
        path.unlink()
        make(path, place.folder)
    return indexed(place, "la")


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(("name", "words"), [(n, w) for n, (_, w) in bad_h5.H5_FILES.items()])
def test_h5(h5_files: Mapping[str, tuple[str, str]], name: str, words: str) -> None:
    check(h5_files, name, words)


def test_sound_h5_files_beside_them_are_used(h5_files: Mapping[str, tuple[str, str]]) -> None:
    assert not set(SOUND) & set(h5_files)
