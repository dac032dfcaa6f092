"""The layouts of the downstream tasks: one function for each, file names as released."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxseq.config.data import PhantomConfig
from voxseq.phantoms import formats
from voxseq.phantoms.atrium import atrium
from voxseq.phantoms.chest import ChestFindings
from voxseq.phantoms.dicom import Series, make_uid, write_series
from voxseq.phantoms.nodules import nodule
from voxseq.phantoms.shapes import Shape, case_rng
from voxseq.phantoms.sources import spacing_of
from voxseq.phantoms.tasks import MSD_TASKS, msd_case
from voxseq.phantoms.torso import CtStyle, scan, torso, vary

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_SITES = ("419639", "660042", "SITE2", "440808")
_DESCRIPTIONS = ("", "", "ROUTINE CHEST NON CON", "0.625mm bone alg", "CHEST WITHOUT", "AXIAL THIN")
#: Share of COVID-19 positive series in RICORD.
_POSITIVE = 0.6
SPLITS = ("train", "val", "test")


def msd(name: str, folder: Path, config: PhantomConfig) -> None:
    """``imagesTr/``, ``labelsTr/``, two unlabelled cases in ``imagesTs/``, ``dataset.json`` and
    a ``._`` file as in the released archives."""
    task = MSD_TASKS[name]
    training, test = [], []
    for case in range(config.segmentation_cases + 2):
        made = msd_case(task, name, config.seed, case, config.volume_shape)
        stem = f"{task.prefix}_{case + 1 + case // 5:03d}.nii.gz"
        part = "imagesTr" if case < config.segmentation_cases else "imagesTs"
        image = made.image.astype(np.int16)
        formats.write_nifti(folder / part / stem, image, made.spacing, task.orientation)
        if part == "imagesTs":
            test.append(f"./imagesTs/{stem}")
            continue
        formats.write_nifti(folder / "labelsTr" / stem, made.label, made.spacing, task.orientation)
        training.append({"image": f"./imagesTr/{stem}", "label": f"./labelsTr/{stem}"})
    formats.write_apple_double(folder / "imagesTr" / f"._{task.prefix}_001.nii.gz")
    content: dict[str, Any] = {
        "name": task.folder.split("_", 1)[1],
        "description": "generated phantoms in the layout of the Medical Segmentation Decathlon",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {str(i): label for i, label in enumerate(task.labels)},
        "numTraining": len(training),
        "numTest": len(test),
        "training": training,
        "test": test,
    }
    formats.write_json(folder / "dataset.json", content)


def la(name: str, folder: Path, config: PhantomConfig) -> None:
    """``2018LA_Seg_Training Set/<id>/mri_norm2.h5``, ``train.list`` (80 %) and ``test.list``."""
    cases = config.segmentation_cases
    names = [_identifier(case_rng(config.seed, name, case, 2)) for case in range(cases)]
    for case, identifier in enumerate(names):
        image, label = _atrium_case(name, config, case)
        path = folder / "2018LA_Seg_Training Set" / identifier / "mri_norm2.h5"
        formats.write_h5(path, {"image": image, "label": label})
    training = cases - max(1, round(0.2 * cases)) if cases > 1 else cases
    order = case_rng(config.seed, name, 1_000_000).permutation(cases)
    chosen = [names[i] for i in order]
    for file, part in (("train.list", chosen[:training]), ("test.list", chosen[training:])):
        formats.write_text(folder / file, "".join(f"{n}\n" for n in sorted(part)))


def _atrium_case(
    name: str, config: PhantomConfig, case: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Z-scored over the whole field of view first, then cropped in x and y, as published."""
    rng = case_rng(config.seed, name, case)
    x, y, z = config.volume_shape
    image, label = atrium(rng, config.volume_shape, spacing_of((x, y, z), (102.0, 102.0, 102.0)))
    margin = x // 32 + 1
    low, high = rng.integers(0, margin, 2), rng.integers(0, margin, 2)
    box = np.s_[low[0] : x - high[0], low[1] : y - high[1]]
    return np.ascontiguousarray(image[box]), np.ascontiguousarray(label[box])


def nodule_mnist(name: str, folder: Path, config: PhantomConfig) -> None:
    """``nodulemnist3d.npz``: ``{train,val,test}_{images,labels}``, uint8, 28³ voxels of 1 mm."""
    arrays = {}
    for part, split in enumerate(SPLITS):
        labels = _balanced(config, name, part, config.classification_cases[part], 0.45)
        cubes = [
            nodule(case_rng(config.seed, name, part, case), bool(label))
            for case, label in enumerate(labels)
        ]
        arrays[f"{split}_images"] = np.stack(cubes)
        arrays[f"{split}_labels"] = np.asarray(labels, dtype=np.uint8)[:, None]
    formats.write_npz(folder / "nodulemnist3d.npz", arrays)


@dataclass(frozen=True)
class _Chest:
    """One RICORD series: its patient, class, split, and its number among the patient's series."""

    patient: int
    label: int
    split: str
    visit: int


def ricord(name: str, folder: Path, config: PhantomConfig) -> None:
    """``MIDRC-RICORD-1A/<PatientID>/<study>/<series>/1-01.dcm`` as TCIA's retriever names it, and
    ``RICORD_{train,val,test}.txt``. 1A holds the COVID-19 positive patients, 1B the others."""
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for chest in _plan(name, config):
        lines[chest.split].append(_write_chest(name, folder, config, chest))
    for split, content in lines.items():
        formats.write_text(folder / f"RICORD_{split}.txt", "".join(f"{line}\n" for line in content))


def _plan(name: str, config: PhantomConfig) -> Iterator[_Chest]:
    """The first patients of each split, a tenth of its series, have two series in that split."""
    patient = 0
    for part, split in enumerate(SPLITS):
        series = config.classification_cases[part]
        second = series // 10
        labels = _balanced(config, name, part, series - second, _POSITIVE)
        for index, label in enumerate(labels):
            for visit in range(2 if index < second else 1):
                yield _Chest(patient, label, split, visit)
            patient += 1


def _balanced(
    config: PhantomConfig, name: str, part: int, count: int, positive: float
) -> list[int]:
    """Class labels in random order; both classes occur from two cases on."""
    ones = round(count * positive)
    if count > 1:
        ones = min(max(ones, 1), count - 1)
    labels = np.arange(count) < ones
    case_rng(config.seed, name, 1_000_000, part).shuffle(labels)
    return [int(v) for v in labels]


def _write_chest(name: str, folder: Path, config: PhantomConfig, chest: _Chest) -> str:
    """Write one series; returns its line of the list."""
    person = case_rng(config.seed, name, chest.patient)
    visit = case_rng(config.seed, name, chest.patient, 1 + chest.visit)
    site = _SITES[int(person.integers(len(_SITES)))]
    tail = f"{site}-{chest.patient + 1:06d}"
    collection = f"MIDRC-RICORD-1{'A' if chest.label else 'B'}"
    date = f"{int(person.integers(1999, 2009))}{int(person.integers(1, 13)):02d}" + (
        f"{int(person.integers(1, 28)):02d}"
    )
    root = f"1.2.826.0.1.3680043.10.474.{site if site.isdigit() else '207576'}"
    study_uid = make_uid(person, root)
    description = _DESCRIPTIONS[int(visit.integers(len(_DESCRIPTIONS)))]
    series = Series(
        f"{collection}-{tail}", study_uid, make_uid(visit, root), date, 2 + chest.visit, description
    )
    shown = description.replace(" ", "-") or "NA"
    american = f"{date[4:6]}-{date[6:]}-{date[:4]}"
    end = series.series_uid[-5:]
    place = folder / collection / series.patient / f"{american}-NA-CT-{study_uid[-5:]}"
    shape = (config.volume_shape[0], config.volume_shape[1], int(visit.integers(8, 13)))
    image, spacing = ricord_image(person, visit, shape, bool(chest.label))
    target = place / f"{series.number}.000000-{shown}-{end}"
    write_series(target, series, image, spacing, "1-{:02d}.dcm".format)
    return (
        f"RICORD_nii/{collection}/ID{tail}_date{american}_{series.number}.000000-{shown}-{end}"
        f".nii.gz {chest.label}"
    )


def ricord_image(
    person: np.random.Generator, visit: np.random.Generator, shape: Shape, positive: bool
) -> tuple[np.ndarray[Any, Any], tuple[float, float, float]]:
    """Chest CT (X, Y, Z) in HU with or without patchy ground-glass opacity, and its spacing.

    Depth of inspiration, congestion around the hila, gradients towards the back, scars, noise and
    dose vary in both classes, so that density alone tells little: place and pattern do.
    """
    style = vary(person, CtStyle(venous=0.1, arterial=0.1, noise=22.0, lung=-825.0))
    congested = person.random() < (0.2 if positive else 0.5)
    found = ChestFindings(
        ground_glass=float(person.uniform(140, 280)) if positive else 0.0,
        extent=float(person.uniform(0.11, 0.30) if positive else person.uniform(0.07, 0.24)),
        congestion=float(person.uniform(90, 220)) if congested else 0.0,
        dependent=float(person.uniform(20, 150)),
        scars=int(person.integers(0, 5)),
    )
    style = CtStyle(
        style.venous, style.arterial, float(visit.uniform(14, 34)), float(visit.uniform(0.3, 0.8)),
        style.lung + float(person.normal(0, 25)), pathology=found,
    )  # fmt: skip
    extent = 192.0 * float(person.uniform(0.92, 1.08))
    spacing = spacing_of(shape, (extent, extent, 7.5 * shape[2]))
    where = (float(visit.normal(0, 6)), -2.0, float(visit.normal(132, 8)))
    canvas = torso(person, shape, spacing, where, style)
    return scan(visit, canvas, style), spacing


def _identifier(rng: np.random.Generator) -> str:
    return "".join(_ALPHABET[int(i)] for i in rng.integers(0, len(_ALPHABET), 20))


TASK_WRITERS = {**dict.fromkeys(MSD_TASKS, msd), "la": la, "nodule": nodule_mnist, "ricord": ricord}
