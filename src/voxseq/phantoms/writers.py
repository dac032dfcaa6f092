"""The layouts of the spatial sources and BraTS: one function for each, file names as released."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from voxseq.config.data import PhantomConfig
from voxseq.phantoms import brain, formats
from voxseq.phantoms.dicom import Series, make_uid, write_series
from voxseq.phantoms.formats import write_nifti
from voxseq.phantoms.shapes import case_rng
from voxseq.phantoms.sources import Image, abdominal_mri, source_image, spacing_of, stroke_case

#: Labels of AMOS22 that the torso has.
_AMOS_LABELS = {
    "spleen": 1, "kidney_right": 2, "kidney_left": 3, "gallbladder": 4, "liver": 6,
    "liver_vessel": 6, "stomach": 7, "aorta": 8, "cava": 9, "pancreas": 10, "bladder": 14,
}  # fmt: skip
_VERSE_ORIENTATIONS = ("RAS", "LAS", "PIR", "LPS")
_RSNA_ROOT = "1.2.826.0.1.3680043"


def ribfrac(name: str, folder: Path, config: PhantomConfig) -> None:
    """``Part1/RibFrac1-image.nii.gz``, ``Part2/`` from 421, and the two smaller parts."""
    parts = ("Part1", "Part2", "ribfrac-val-images", "ribfrac-test-images")
    first = {"Part1": 1, "Part2": 421, "ribfrac-val-images": 501, "ribfrac-test-images": 581}
    for case, image in _cts(name, config):
        part = parts[(0, 0, 0, 1, 2, 3)[case % 6]]
        path = folder / part / f"RibFrac{first[part] + case}-image.nii.gz"
        write_nifti(path, image.array.astype(np.int16), image.spacing, "LPS")


def tcia_covid19(name: str, folder: Path, config: PhantomConfig) -> None:
    """``volume-covid19-A-0003.nii.gz``; a follow-up adds ``_1`` or ``_day008``."""
    for case, image in _cts(name, config):
        suffix = {9: "_1", 11: "_day008"}.get(case % 12, "")
        patient = 3 + 7 * (case - bool(suffix))
        path = folder / f"volume-covid19-A-{patient:04d}{suffix}.nii.gz"
        write_nifti(path, image.array.astype(np.int16), image.spacing)


def amos22(name: str, folder: Path, config: PhantomConfig) -> None:
    """``imagesTr|Va|Ts/amos_0001.nii.gz``, every sixth (from 501) an MRI, and ``__MACOSX``."""
    listed: dict[str, list[dict[str, str] | str]] = {"training": [], "validation": [], "test": []}
    parts = (("Tr", "training"), ("Va", "validation"), ("Ts", "test"))
    for case in range(config.source_volumes):
        mri = case % 6 == 5
        image = (abdominal_mri if mri else source_image)(
            name, config.seed, case, config.volume_shape
        )
        part, key = parts[(0, 0, 1, 2)[case % 4]]
        stem = f"amos_{(501 if mri else 1) + case:04d}.nii.gz"
        write_nifti(folder / f"images{part}" / stem, image.array.astype(np.int16), image.spacing)
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
    root = folder / "ISLES-2022"
    for case in range(config.source_volumes):
        subject, session = f"sub-strokecase{case + 1:04d}", "ses-0001"
        stroke = stroke_case(name, config.seed, case, config.volume_shape)
        for contrast, image in stroke.images.items():
            place = "anat" if contrast == "FLAIR" else "dwi"
            path = root / subject / session / place / f"{subject}_{session}_{contrast}.nii.gz"
            write_nifti(path, image.array, image.spacing, "LPS")
        path = root / "derivatives" / subject / session / f"{subject}_{session}_msk.nii.gz"
        spacing = stroke.images["dwi"].spacing
        write_nifti(path, stroke.mask.astype(np.uint8), spacing, "LPS")


def abdomenct1k(name: str, folder: Path, config: PhantomConfig) -> None:
    """``AbdomenCT-1K-ImagePart1/Case_00001_0000.nii.gz`` in three parts."""
    for case, image in _cts(name, config):
        part = 1 + 3 * case // config.source_volumes
        path = folder / f"AbdomenCT-1K-ImagePart{part}" / f"Case_{case + 1:05d}_0000.nii.gz"
        write_nifti(path, image.array.astype(np.int16), image.spacing, "LAS")


def totalsegmentator(name: str, folder: Path, config: PhantomConfig) -> None:
    """``s0000/ct.nii.gz``, ``segmentations/`` beside it, and ``meta.csv`` with semicolons."""
    rows = []
    for case, image in _cts(name, config):
        subject = f"s{case:04d}"
        write_nifti(folder / subject / "ct.nii.gz", image.array.astype(np.int16), image.spacing)
        bones = image.canvas.mask("spine", "rib", "pelvis").astype(np.uint8)
        write_nifti(folder / subject / "segmentations" / "bones.nii.gz", bones, image.spacing)
        rng = case_rng(config.seed, name, case, 9)
        rows.append((subject, int(rng.integers(20, 90)), rng.choice(["f", "m"]), "train"))
    formats.write_table(folder / "meta.csv", ("image_id", "age", "gender", "split"), rows, ";")


def verse20(name: str, folder: Path, config: PhantomConfig) -> None:
    """``dataset-01training/rawdata/sub-verse500/…_ct.nii.gz`` in mixed orientations."""
    parts = ("dataset-01training", "dataset-02validation", "dataset-03test")
    for case, image in _cts(name, config):
        subject = f"sub-verse{500 + case}"
        path = folder / parts[case % 3] / "rawdata" / subject / f"{subject}_ct.nii.gz"
        orientation = _VERSE_ORIENTATIONS[case % 4]
        write_nifti(path, image.array.astype(np.int16), image.spacing, orientation)


def rsna2022_csfd(name: str, folder: Path, config: PhantomConfig) -> None:
    """``train_images/<StudyUID>/<n>.dcm`` and ``train.csv``."""
    rows = []
    for case, image in _cts(name, config):
        rng = case_rng(config.seed, name, case, 9)
        study = make_uid(rng, _RSNA_ROOT, 5)
        series = Series(study.rsplit(".", 1)[1], study, f"{study}.1.1", "20220101", 1, "", 0, True)
        write_series(
            folder / "train_images" / study, series, image.array, image.spacing, "{}.dcm".format
        )
        rows.append((study, int(rng.random() < 0.5)))
    formats.write_table(folder / "train.csv", ("StudyInstanceUID", "patient_overall"), rows)


def rsna2020_ped(name: str, folder: Path, config: PhantomConfig) -> None:
    """``train/<study>/<series>/<instance>.dcm``, names without order, and ``train.csv``."""
    rows: list[tuple[str, str, str]] = []
    for case, image in _cts(name, config):
        rng = case_rng(config.seed, name, case, 9)
        study, series = _hexadecimal(rng), _hexadecimal(rng)
        instances = [_hexadecimal(rng) for _ in range(image.array.shape[2])]
        identity = Series(
            _hexadecimal(rng), make_uid(rng, _RSNA_ROOT), make_uid(rng, _RSNA_ROOT), "20200101", 2
        )
        names = [f"{instance}.dcm" for instance in instances]
        write_series(
            folder / "train" / study / series,
            identity,
            image.array,
            image.spacing,
            lambda number, names=names: names[number - 1],  # type: ignore[misc]
        )
        rows += [(study, series, instance) for instance in instances]
    header = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    formats.write_table(folder / "train.csv", header, rows)


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


def flare22(name: str, folder: Path, config: PhantomConfig) -> None:
    """``Training/FLARE22_LabeledCase50/images/…``, the unlabelled cases, and the validation."""
    training = folder / "Training"
    places = (
        (training / "FLARE22_UnlabeledCase1-1000", "Case_{:05d}_0000.nii.gz", 1),
        (training / "FLARE22_UnlabeledCase1001-2000", "Case_{:05d}_0000.nii.gz", 1001),
        (training / "FLARE22_LabeledCase50" / "images", "FLARE22_Tr_{:04d}_0000.nii.gz", 1),
        (folder / "Validation", "FLARETs_{:04d}_0000.nii.gz", 1),
    )
    for case, image in _cts(name, config):
        place, pattern, first = places[case % 4]
        path = place / pattern.format(first + case // 4)
        write_nifti(path, image.array.astype(np.int16), image.spacing, "LAS")


def flare23(name: str, folder: Path, config: PhantomConfig) -> None:
    """``imagesTr2200/1-500/FLARE23_0001_0000.nii.gz`` … and ``unlabelTr1800/…``."""
    places = (
        ("imagesTr2200/1-500", 1),
        ("imagesTr2200/2001-2200", 2001),
        ("unlabelTr1800/unlabelTr2201-3100", 2201),
        ("unlabelTr1800/unlabel3101-4000", 3101),
    )
    for case, image in _cts(name, config):
        place, first = places[case % 4]
        path = folder / place / f"FLARE23_{first + case // 4:04d}_0000.nii.gz"
        write_nifti(path, image.array.astype(np.int16), image.spacing, "LPS")


def brats23(name: str, folder: Path, config: PhantomConfig) -> None:
    """``ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-00000-000/…-t1n.nii.gz``."""
    cycle = ("GLI", "MEN", "GLI", "MET", "GLI", "PED", "MEN", "SSA")
    shape = config.volume_shape
    size = (shape[0], shape[1], max(4, round(shape[2] * 0.75)))
    spacing = spacing_of(size, (172, 172, 129))
    for case in range(config.contrast_subjects):
        rng = case_rng(config.seed, name, case)
        cohort = cycle[case % len(cycle)]
        part = "ValidationData" if case % 8 in (2, 6) else "TrainingData"
        subject = f"BraTS-{cohort}-{case:05d}-000"
        place = folder / f"ASNR-MICCAI-BraTS2023-{cohort}-Challenge-{part}" / subject
        canvas = brain.brain(rng, size, spacing, brain.BRATS_TISSUES)
        labels = brain.tumours(rng, canvas, brain.COHORTS[cohort])
        for index, contrast in enumerate(("t1n", "t1c", "t2w", "t2f")):
            gain = float(rng.uniform(0.6, 1.8))
            image = brain.acquire(rng, canvas, index, brain.COHORTS[cohort].noise, gain)
            write_nifti(
                place / f"{subject}-{contrast}.nii.gz", image.astype(np.int16), spacing, "LPS"
            )
        if part == "TrainingData":
            write_nifti(place / f"{subject}-seg.nii.gz", labels, spacing, "LPS")


def _cts(name: str, config: PhantomConfig) -> Iterator[tuple[int, Image]]:
    for case in range(config.source_volumes):
        yield case, source_image(name, config.seed, case, config.volume_shape)


def _hexadecimal(rng: np.random.Generator) -> str:
    return "".join("0123456789abcdef"[int(d)] for d in rng.integers(0, 16, 12))


#: Data set → writer of its folder.
SOURCE_WRITERS: dict[str, Callable[[str, Path, PhantomConfig], None]] = {
    writer.__name__: writer
    for writer in (
        ribfrac, tcia_covid19, amos22, isles2022, abdomenct1k, totalsegmentator, verse20,
        rsna2022_csfd, rsna2020_ped, stoic, flare22, flare23, brats23,
    )
}  # fmt: skip
