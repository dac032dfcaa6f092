"""The layouts of the data sets, file names as released."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from voxseq.config.data import PhantomConfig, listed_test
from voxseq.phantoms import formats, mri
from voxseq.phantoms.deeplesion import deeplesion
from voxseq.phantoms.formats import Series, make_uid, write_nifti, write_series
from voxseq.phantoms.lesions import nodule
from voxseq.phantoms.scans import (
    MSD_TASKS,
    Image,
    abdominal_mri,
    chest_image,
    msd_case,
    source_image,
    stroke_case,
)
from voxseq.phantoms.shapes import Rng, case_rng, spacing_of

Writer = Callable[[str, Path, PhantomConfig], None]
SPLITS = ("train", "val", "test")
_RSNA_ROOT = "1.2.826.0.1.3680043"
#: Labels of AMOS22 that the torso has.
_AMOS_LABELS = {
    "spleen": 1, "kidney_right": 2, "kidney_left": 3, "gallbladder": 4, "liver": 6,
    "liver_vessel": 6, "stomach": 7, "aorta": 8, "cava": 9, "pancreas": 10, "bladder": 14,
}  # fmt: skip
_SITES = ("419639", "660042", "SITE2", "440808")
_DESCRIPTIONS = ("", "", "ROUTINE CHEST NON CON", "0.625mm bone alg", "CHEST WITHOUT", "AXIAL THIN")


class Tree(NamedTuple):
    """Where the NIfTI files of a data set are, and how they are stored."""

    #: path with the image's number, and the number of the first; places take turns
    places: tuple[tuple[str, int], ...]
    orientations: tuple[str, ...] = ("RAS",)  #: these take turns too
    step: int = 1  #: numbers between images
    by_turn: bool = False  #: whether numbers rise once for all places


_COVID, _VERSE = "volume-covid19-A-{:04d}", "rawdata/sub-verse{0}/sub-verse{0}_ct"
_UNLABELLED = "Training/FLARE22_UnlabeledCase{}/Case_{{:05d}}_0000"
#: Data sets that are nothing but such files.
TREES = {
    "ribfrac": Tree(
        ((("Part1/RibFrac{}-image", 1),) * 3 + (("Part2/RibFrac{}-image", 421),)
         + (("ribfrac-val-images/RibFrac{}-image", 501),)
         + (("ribfrac-test-images/RibFrac{}-image", 581),)), ("LPS",),
    ),
    # A follow-up has its patient's number, and a suffix.
    "tcia_covid19": Tree(
        (((_COVID, 3),) * 9 + ((f"{_COVID}_1", -4), (_COVID, 3), (f"{_COVID}_day008", -4))), step=7,
    ),
    "abdomenct1k": Tree((("AbdomenCT-1K-ImagePart{part}/Case_{:05d}_0000", 1),), ("LAS",)),
    "verse20": Tree(
        tuple((f"dataset-0{part}/{_VERSE}", 500) for part in ("1training", "2validation", "3test")),
        ("RAS", "LAS", "PIR", "LPS"),
    ),
    "flare22": Tree(
        ((_UNLABELLED.format("1-1000"), 1), (_UNLABELLED.format("1001-2000"), 1001),
         ("Training/FLARE22_LabeledCase50/images/FLARE22_Tr_{:04d}_0000", 1),
         ("Validation/FLARETs_{:04d}_0000", 1)), ("LAS",), by_turn=True,
    ),
    "flare23": Tree(
        (("imagesTr2200/1-500/FLARE23_{:04d}_0000", 1),
         ("imagesTr2200/2001-2200/FLARE23_{:04d}_0000", 2001),
         ("unlabelTr1800/unlabelTr2201-3100/FLARE23_{:04d}_0000", 2201),
         ("unlabelTr1800/unlabel3101-4000/FLARE23_{:04d}_0000", 3101)), ("LPS",), by_turn=True,
    ),
}  # fmt: skip


def _cts(name: str, config: PhantomConfig) -> Iterator[tuple[int, Image]]:
    for case in range(config.source_volumes):
        yield case, source_image(name, config.seed, case, config.volume_shape)


def _write_image(path: Path, image: Image, orientation: str = "RAS") -> None:
    write_nifti(path, image.array.astype(np.int16), image.spacing, orientation)


def nifti_tree(name: str, folder: Path, config: PhantomConfig) -> None:
    """The files of :data:`TREES`."""
    tree = TREES[name]
    count = len(tree.places)
    for case, image in _cts(name, config):
        path, first = tree.places[case % count]
        number = first + tree.step * (case // count if tree.by_turn else case)
        path = path.format(number, part=1 + 3 * case // config.source_volumes)
        orientation = tree.orientations[case % len(tree.orientations)]
        _write_image(folder / f"{path}.nii.gz", image, orientation)


def totalsegmentator(name: str, folder: Path, config: PhantomConfig) -> None:
    """``s0000/ct.nii.gz``, ``segmentations/`` beside it, and ``meta.csv`` with semicolons."""
    rows = []
    for case, image in _cts(name, config):
        subject = f"s{case:04d}"
        _write_image(folder / subject / "ct.nii.gz", image)
        bones = image.canvas.mask("spine", "rib", "pelvis").astype(np.uint8)
        write_nifti(folder / subject / "segmentations" / "bones.nii.gz", bones, image.spacing)
        rng = case_rng(config.seed, name, case, 9)
        rows.append((subject, int(rng.integers(20, 90)), rng.choice(["f", "m"]), "train"))
    formats.write_table(folder / "meta.csv", ("image_id", "age", "gender", "split"), rows, ";")


def amos22(name: str, folder: Path, config: PhantomConfig) -> None:
    """``imagesTr|Va|Ts/amos_0001.nii.gz``, every sixth (from 501) an MRI, and ``__MACOSX``."""
    listed: dict[str, list[dict[str, str] | str]] = {"training": [], "validation": [], "test": []}
    parts = (("Tr", "training"), ("Tr", "training"), ("Va", "validation"), ("Ts", "test"))
    for case in range(config.source_volumes):
        is_mri = case % 6 == 5
        image_of = abdominal_mri if is_mri else source_image
        image = image_of(name, config.seed, case, config.volume_shape)
        part, key = parts[case % 4]
        stem = f"amos_{(501 if is_mri else 1) + case:04d}.nii.gz"
        _write_image(folder / f"images{part}" / stem, image)
        if part == "Ts":
            listed[key].append(f"./imagesTs/{stem}")
            continue
        label = np.zeros(image.array.shape, dtype=np.uint8)
        for structure, number in _AMOS_LABELS.items():
            label[image.canvas.mask(structure)] = number
        write_nifti(folder / f"labels{part}" / stem, label, image.spacing)
        listed[key].append({"image": f"./images{part}/{stem}", "label": f"./labels{part}/{stem}"})
    formats.write_json(folder / "dataset.json", {"name": "AMOS", **listed})
    formats.write_apple_double(folder / "__MACOSX" / "imagesTr" / "._amos_0001.nii.gz")


def isles2022(name: str, folder: Path, config: PhantomConfig) -> None:
    """``ISLES-2022/sub-strokecase0001/ses-0001/{dwi,anat}/…`` and masks under ``derivatives``."""
    places = {"dwi": "{}/{}/dwi", "adc": "{}/{}/dwi", "FLAIR": "{}/{}/anat"}
    for case in range(config.source_volumes):
        subject, session = f"sub-strokecase{case + 1:04d}", "ses-0001"
        images = stroke_case(name, config.seed, case, config.volume_shape)
        for kind, image in images.items():
            place = places.get(kind, "derivatives/{}/{}").format(subject, session)
            path = folder / "ISLES-2022" / place / f"{subject}_{session}_{kind}.nii.gz"
            write_nifti(path, image.array, image.spacing, "LPS")


def rsna2022_csfd(name: str, folder: Path, config: PhantomConfig) -> None:
    """``train_images/<StudyUID>/<n>.dcm`` and ``train.csv``."""
    rows = []
    for case, (image, spacing, _) in _cts(name, config):
        rng = case_rng(config.seed, name, case, 9)
        study = make_uid(rng, _RSNA_ROOT, 5)
        series = Series(study.rsplit(".", 1)[1], study, f"{study}.1.1", "20220101", 1, "", 0, True)
        names = [f"{number + 1}.dcm" for number in range(image.shape[2])]
        write_series(folder / "train_images" / study, series, image, spacing, names)
        rows.append((study, int(rng.random() < 0.5)))
    formats.write_table(folder / "train.csv", ("StudyInstanceUID", "patient_overall"), rows)


def rsna2020_ped(name: str, folder: Path, config: PhantomConfig) -> None:
    """``train/<study>/<series>/<instance>.dcm``, names without order, and ``train.csv``."""
    rows: list[tuple[str, str, str]] = []
    for case, (image, spacing, _) in _cts(name, config):
        rng = case_rng(config.seed, name, case, 9)
        study, series, *instances = (_word(rng, 12, 16) for _ in range(2 + image.shape[2]))
        patient = _word(rng, 12, 16)
        uids = make_uid(rng, _RSNA_ROOT), make_uid(rng, _RSNA_ROOT)
        names = [f"{instance}.dcm" for instance in instances]
        identity = Series(patient, *uids, "20200101", 2)
        write_series(folder / "train" / study / series, identity, image, spacing, names)
        rows += [(study, series, instance) for instance in instances]
    header = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    formats.write_table(folder / "train.csv", header, rows)


def _word(rng: Rng, length: int, characters: int) -> str:
    """A random word of hexadecimal digits, or of capitals and digits."""
    letters = "0123456789abcdef" if characters == 16 else "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return "".join(letters[int(i)] for i in rng.integers(0, characters, length))


def stoic(name: str, folder: Path, config: PhantomConfig) -> None:
    """``data/mha/<PatientID>.mha`` and ``metadata/reference.csv``."""
    rows = []
    for case, image in _cts(name, config):
        rng = case_rng(config.seed, name, case, 9)
        patient = 10 * (case + 1) + int(rng.integers(0, 10))
        path = folder / "data" / "mha" / f"{patient}.mha"
        formats.write_mha(path, image.array.astype(np.int16), image.spacing)
        covid = int(rng.random() < 0.6)
        rows.append((patient, covid, int(covid and rng.random() < 0.3)))
    header = ("PatientID", "probCOVID", "probSevere")
    formats.write_table(folder / "metadata" / "reference.csv", header, rows)


def brats23(name: str, folder: Path, config: PhantomConfig) -> None:
    """``ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-00000-000/…-t1n.nii.gz``."""
    cycle = ("GLI", "MEN", "GLI", "MET", "GLI", "PED", "MEN", "SSA")
    x, y, z = config.volume_shape
    size = (x, y, max(4, round(z * 0.75)))
    spacing = spacing_of(size, (172, 172, 129))
    for case in range(config.contrast_subjects):
        rng = case_rng(config.seed, name, case)
        cohort = cycle[case % len(cycle)]
        part = "ValidationData" if case % 8 in (2, 6) else "TrainingData"
        subject = f"BraTS-{cohort}-{case:05d}-000"
        place = folder / f"ASNR-MICCAI-BraTS2023-{cohort}-Challenge-{part}" / subject
        canvas = mri.brain(rng, size, spacing, mri.BRATS_TISSUES)
        labels = mri.tumours(canvas, mri.COHORTS[cohort])
        for index, contrast in enumerate(("t1n", "t1c", "t2w", "t2f")):
            gain = float(rng.uniform(0.6, 1.8))
            array = mri.acquire(canvas, index, mri.COHORTS[cohort].noise, gain)
            image = Image(array, spacing, canvas)
            _write_image(place / f"{subject}-{contrast}.nii.gz", image, "LPS")
        if part == "TrainingData":
            write_nifti(place / f"{subject}-seg.nii.gz", labels, spacing, "LPS")


def msd(name: str, folder: Path, config: PhantomConfig) -> None:
    """``imagesTr/``, ``labelsTr/``, two unlabelled cases in ``imagesTs/``, ``dataset.json`` and
    a ``._`` file as in the released archives."""
    task = MSD_TASKS[name]
    training, test = [], []
    for case in range(config.segmentation_cases + 2):
        image, label = msd_case(name, config.seed, case, config.volume_shape)
        stem = f"{task.prefix}_{case + 1 + case // 5:03d}.nii.gz"
        if case >= config.segmentation_cases:
            _write_image(folder / "imagesTs" / stem, image, task.orientation)
            test.append(f"./imagesTs/{stem}")
            continue
        _write_image(folder / "imagesTr" / stem, image, task.orientation)
        write_nifti(folder / "labelsTr" / stem, label, image.spacing, task.orientation)
        training.append({"image": f"./imagesTr/{stem}", "label": f"./labelsTr/{stem}"})
    formats.write_apple_double(folder / "imagesTr" / f"._{task.prefix}_001.nii.gz")
    content: dict[str, Any] = {
        "name": task.folder.split("_", 1)[1],
        "description": "generated phantoms in the layout of the Medical Segmentation Decathlon",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {str(i): label for i, label in enumerate(("background", *task.classes))},
        "numTraining": len(training),
        "numTest": len(test),
        "training": training,
        "test": test,
    }
    formats.write_json(folder / "dataset.json", content)


def la(name: str, folder: Path, config: PhantomConfig) -> None:
    """``2018LA_Seg_Training Set/<id>/mri_norm2.h5``, ``train.list`` and ``test.list`` (40 %).

    Images are z-scored over the whole field of view first, then cropped in x and y, as published.
    """
    cases, (x, y, _) = config.segmentation_cases, config.volume_shape
    names = [_word(case_rng(config.seed, name, case, 2), 20, 36) for case in range(cases)]
    for case, identifier in enumerate(names):
        rng = case_rng(config.seed, name, case)
        spacing = spacing_of(config.volume_shape, (102.0, 102.0, 102.0))
        image, label = mri.atrium(rng, config.volume_shape, spacing)
        margin = x // 32 + 1
        low, high = rng.integers(0, margin, 2), rng.integers(0, margin, 2)
        box = np.s_[low[0] : x - high[0], low[1] : y - high[1]]
        path = folder / "2018LA_Seg_Training Set" / identifier / "mri_norm2.h5"
        arrays = {"image": image, "label": label}
        formats.write_h5(path, {k: np.ascontiguousarray(v[box]) for k, v in arrays.items()})
    training = cases - listed_test(cases)
    order = case_rng(config.seed, name, 1_000_000).permutation(cases)
    chosen = [names[i] for i in order]
    for file, part in (("train.list", chosen[:training]), ("test.list", chosen[training:])):
        formats.write_text(folder / file, "".join(f"{n}\n" for n in sorted(part)))


def nodule_mnist(name: str, folder: Path, config: PhantomConfig) -> None:
    """``nodulemnist3d.npz``: ``{train,val,test}_{images,labels}``, uint8, 28³ voxels of 1 mm."""
    arrays = {}
    for part, split in enumerate(SPLITS):
        labels = _balanced(config, name, part, config.classification_cases[part], 0.45)
        rngs = [case_rng(config.seed, name, part, case) for case in range(len(labels))]
        cubes = [nodule(rng, bool(label)) for rng, label in zip(rngs, labels, strict=True)]
        arrays[f"{split}_images"] = np.stack(cubes)
        arrays[f"{split}_labels"] = np.asarray(labels, dtype=np.uint8)[:, None]
    formats.write_npz(folder / "nodulemnist3d.npz", arrays)


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


def ricord(name: str, folder: Path, config: PhantomConfig) -> None:
    """``MIDRC-RICORD-1A/<PatientID>/<study>/<series>/1-01.dcm`` as TCIA's retriever names it, and
    ``RICORD_{train,val,test}.txt``. 1A holds the COVID-19 positive patients, 1B the others.

    The first patients of each split, a tenth of its series, have two series in that split.
    """
    patient = 0
    for part, split in enumerate(SPLITS):
        lines, series = "", config.classification_cases[part]
        second = series // 10
        for index, label in enumerate(_balanced(config, name, part, series - second, 0.6)):
            for visit in range(2 if index < second else 1):
                path = _write_chest(name, folder, config, patient, visit, label)
                lines += f"{path} {label}\n"
            patient += 1
        formats.write_text(folder / f"RICORD_{split}.txt", lines)


def _write_chest(
    name: str, folder: Path, config: PhantomConfig, patient: int, visit: int, label: int
) -> str:
    """Write one series of a patient; returns its path in the list."""
    person = case_rng(config.seed, name, patient)
    of_visit = case_rng(config.seed, name, patient, 1 + visit)
    site = _SITES[int(person.integers(len(_SITES)))]
    tail = f"{site}-{patient + 1:06d}"
    collection = f"MIDRC-RICORD-1{'A' if label else 'B'}"
    year, month = int(person.integers(1999, 2009)), int(person.integers(1, 13))
    day = int(person.integers(1, 28))
    root = f"1.2.826.0.1.3680043.10.474.{site if site.isdigit() else '207576'}"
    study_uid = make_uid(person, root)
    description = _DESCRIPTIONS[int(of_visit.integers(len(_DESCRIPTIONS)))]
    series = Series(
        f"{collection}-{tail}", study_uid, make_uid(of_visit, root),
        f"{year}{month:02d}{day:02d}", 2 + visit, description,
    )  # fmt: skip
    shape = (*config.volume_shape[:2], int(of_visit.integers(8, 13)))
    image, spacing, _ = chest_image(person, of_visit, shape, bool(label))
    american = f"{month:02d}-{day:02d}-{year}"
    shown = description.replace(" ", "-") or "NA"
    end = f"{series.number}.000000-{shown}-{series.series_uid[-5:]}"
    place = folder / collection / series.patient / f"{american}-NA-CT-{study_uid[-5:]}" / end
    names = [f"1-{number + 1:02d}.dcm" for number in range(shape[2])]
    write_series(place, series, image, spacing, names)
    return f"RICORD_nii/{collection}/ID{tail}_date{american}_{end}.nii.gz"


#: Data set → writer of its folder.
WRITERS: dict[str, Writer] = {
    **dict.fromkeys(TREES, nifti_tree),
    "totalsegmentator": totalsegmentator,
    "amos22": amos22,
    "isles2022": isles2022,
    "rsna2022_csfd": rsna2022_csfd,
    "rsna2020_ped": rsna2020_ped,
    "stoic": stoic,
    "brats23": brats23,
    "deeplesion": deeplesion,
    **dict.fromkeys(MSD_TASKS, msd),
    "la": la,
    "nodule": nodule_mnist,
    "ricord": ricord,
}
