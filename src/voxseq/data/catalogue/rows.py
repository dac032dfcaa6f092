"""The data sets: what they are for, how their folders look, and how to obtain them.

Facts about layouts, access and licences are those of the data sets' own pages and of readers that
other projects publish. A field that no source settles says "unconfirmed".
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from voxseq.errors import ConfigError

Role = Literal["source", "task", "both"]

#: Patient-level name of a study in CT COVID-19 (TCIA): `volume-covid19-A-0721_day008.nii.gz`.
_COVID = r"(?:.*/)?(?P<image>(?P<subject>volume-covid19-A-\d+)[^/]*)\.nii\.gz"
_FLARE22 = (
    r"(?:.*/)?FLARE22_UnlabeledCase[^/]*/(?:.*/)?(?P<subject>Case_\d+)_0000\.nii\.gz",
    r"(?:.*/)?(?P<subject>FLARE22_Tr_\d+)_0000\.nii\.gz",
    r"(?:.*/)?(?P<subject>FLARETs_\d+)_0000\.nii\.gz",
)


@dataclass(frozen=True)
class DataSet:
    """One row of the catalogue.

    Attributes:
        name: key in configurations.
        title: name in tables and documents.
        role: what it may serve as: pre-training source, downstream task, or both.
        modality: "CT" or "MRI"; "CT and MRI" where the adapter tells them apart.
        adapter: reader of the layout, a module of :mod:`voxseq.data.adapters`.
        folder: its place below the user's data root.
        options: what the adapter needs to know besides.
        citation: publication.
        licence: licence of the images.
        access: how to obtain it.
        note: traps.
    """

    name: str
    title: str
    role: Role
    modality: str
    adapter: str
    folder: str
    citation: str
    licence: str
    access: str
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def _spatial_sources() -> list[DataSet]:
    return [
        DataSet(
            "ribfrac",
            "RibFrac",
            "source",
            "CT",
            "nifti_tree",
            "ribfrac",
            "Jin et al. 2020",
            "CC BY-NC 4.0",
            "Zenodo records 3893508, 3893498, 3893496 and 3993380",
            {"patterns": [r"(?:.*/)?(?P<subject>RibFrac\d+)-image\.nii\.gz"]},
        ),
        DataSet(
            "tcia_covid19",
            "TCIA Covid19",
            "source",
            "CT",
            "nifti_tree",
            "tcia_covid19",
            "An et al. 2020",
            "unconfirmed",
            "The Cancer Imaging Archive, doi 10.7937/TCIA.2020.GQRY-NC81 (IBM Aspera client)",
            {"patterns": [_COVID]},
        ),
        DataSet(
            "amos22",
            "AMOS22",
            "source",
            "CT and MRI",
            "nifti_tree",
            "amos22",
            "Ji et al. 2022",
            "CC BY 4.0",
            "Zenodo record 7155725, amos22.zip",
            {
                "patterns": [
                    r"(?:.*/)?images(?:Tr|Va|Ts)/(?P<subject>amos_0(?:[0-4]\d\d|500))\.nii\.gz",
                    r"(?:.*/)?images(?:Tr|Va|Ts)/(?P<subject>amos_0[56]\d\d)\.nii\.gz",
                ],
                "modalities": ["CT", "MRI"],
            },
            "numbers 501 to 600 are MRI",
        ),
        DataSet(
            "isles2022",
            "ISLES2022",
            "source",
            "MRI",
            "nifti_tree",
            "isles2022",
            "Hernandez Petzsche et al. 2022",
            "CC BY-SA 4.0",
            "Zenodo record 7153326, ISLES-2022.zip",
            {
                "patterns": [
                    r"(?:.*/)?sub-[^/]+/ses-[^/]+/(?:dwi|anat)/"
                    r"(?P<image>(?P<subject>sub-[^_/]+)_[^/]*_?(?P<contrast>dwi|adc|FLAIR|flair))"
                    r"\.nii\.gz"
                ]
            },
            "FLAIR is not registered to DWI",
        ),
        DataSet(
            "abdomenct1k",
            "AbdomenCT-1K",
            "source",
            "CT",
            "nifti_tree",
            "abdomenct1k",
            "Ma et al. 2021",
            "unconfirmed; the authors ask for a usage form",
            "Zenodo records 5903099, 5903846 and 5903769",
            {"patterns": [r"(?:.*/)?(?P<subject>Case_\d+)_0000\.nii\.gz"]},
            "contains images of MSD Liver, Pancreas and Spleen",
        ),
        DataSet(
            "totalsegmentator",
            "TotalSegmentator",
            "source",
            "CT",
            "nifti_tree",
            "totalsegmentator",
            "Wasserthal et al. 2023",
            "CC BY 4.0",
            "Zenodo record 10047292 (version 2.0.1); 10047263 is a small part of it",
            {"patterns": [r"(?:.*/)?(?P<subject>s\d{4})/(?P<image>ct)\.nii\.gz"]},
        ),
        DataSet(
            "verse20",
            "VerSe 2020",
            "source",
            "CT",
            "nifti_tree",
            "verse20",
            "Sekuboyina et al. 2021",
            "CC BY-SA 4.0",
            "OSF t98fz, or s3.bonescreen.de/public/VerSe-complete",
            {"patterns": [r"(?:.*/)?rawdata/(?P<subject>sub-[^/]+)/(?P<image>[^/]+_ct)\.nii\.gz"]},
            "orientations are mixed",
        ),
        DataSet(
            "rsna2022_csfd",
            "RSNA-2022-CSFD",
            "source",
            "CT",
            "dicom_tree",
            "rsna2022_csfd",
            "Flanders et al. 2022",
            "RSNA, non-commercial, no redistribution",
            "Kaggle rsna-2022-cervical-spine-fracture-detection (token and accepted rules)",
            {"folders": r"(?:.*/)?train_images/(?P<subject>[^/]+)", "one_series": True},
        ),
        DataSet(
            "rsna2020_ped",
            "RSNA-2020-PED",
            "source",
            "CT",
            "dicom_tree",
            "rsna2020_ped",
            "Colak et al. 2021",
            "RSNA, non-commercial, no redistribution",
            "Kaggle rsna-str-pulmonary-embolism-detection (token and accepted rules)",
            {
                "folders": r"(?:.*/)?train/(?P<subject>[^/]+)/(?P<image>[^/]+)",
                "one_series": True,
            },
        ),
        DataSet(
            "stoic",
            "STOIC",
            "source",
            "CT",
            "metaimage",
            "stoic",
            "Revel et al. 2021",
            "CC BY-NC 4.0",
            "s3://stoic2021-training, without an account",
            {"patterns": [r"(?:.*/)?mha/(?P<subject>[^/]+)\.mha"]},
            'the paper prints "STOTIC"',
        ),
        DataSet(
            "flare22",
            "FLARE22",
            "source",
            "CT",
            "nifti_tree",
            "flare22",
            "Ma et al. 2023",
            "unconfirmed",
            "flare22.grand-challenge.org (registration)",
            {"patterns": list(_FLARE22)},
            "draws on MSD, LiTS, KiTS and AbdomenCT-1K",
        ),
        DataSet(
            "flare23",
            "FLARE23",
            "source",
            "CT",
            "nifti_tree",
            "flare23",
            "Ma et al. 2024",
            "unconfirmed",
            "codalab.lisn.upsaclay.fr/competitions/12239 (registration)",
            {
                "patterns": [
                    r"(?:.*/)?(?:images|unlabel)[^/]*/(?:[^/]+/)?"
                    r"(?P<subject>FLARE23_\d+)_0000\.nii\.gz"
                ]
            },
            "draws on MSD, LiTS, KiTS, TotalSegmentator and AbdomenCT-1K",
        ),
    ]


def _other_sources() -> list[DataSet]:
    return [
        DataSet(
            "brats23",
            "BraTS 23",
            "source",
            "MRI",
            "brats23",
            "brats",
            "LaBella et al. 2023",
            "unconfirmed",
            "Synapse project syn51156910 (account and data-access form)",
            {
                "contrasts": ["t1n", "t1c", "t2w", "t2f"],
                "exclude": r"-MET-Challenge-ValidationData/",
            },
            "training and validation parts except MET validation: together the paper's 2,995",
        ),
        DataSet(
            "deeplesion",
            "DeepLesion",
            "source",
            "CT",
            "deeplesion",
            "deeplesion",
            "Yan et al. 2018",
            "unconfirmed",
            "nihcc.app.box.com/v/DeepLesion, without an account",
            {},
            "only lesions with a type (1 to 8) are used",
        ),
        DataSet(
            "dicom_ct",
            "CT series in DICOM",
            "source",
            "CT",
            "dicom_tree",
            "dicom",
            "",
            "that of the files",
            "any folder of CT series",
            {},
        ),
    ]


def _msd(number: int, organ: str, foreground: int, modality: str, role: Role = "task") -> DataSet:
    return DataSet(
        f"task{number:02d}_{organ.lower()}",
        f"MSD Task{number:02d} {organ}",
        role,
        modality,
        "msd",
        f"msd/Task{number:02d}_{organ}",
        "Antonelli et al. 2022",
        "CC BY-SA 4.0",
        f"s3://msd-for-monai/Task{number:02d}_{organ}.tar, without an account",
        {"labels": foreground},
    )


def _tasks() -> list[DataSet]:
    return [
        _msd(3, "Liver", 2, "CT"),
        _msd(6, "Lung", 1, "CT"),
        _msd(7, "Pancreas", 2, "CT"),
        _msd(8, "HepaticVessel", 2, "CT"),
        _msd(9, "Spleen", 1, "CT"),
        _msd(10, "Colon", 1, "CT"),
        _msd(4, "Hippocampus", 2, "MRI", "both"),
        DataSet(
            "la",
            "LA",
            "both",
            "MRI",
            "ua_mt",
            "la",
            "Xiong et al. 2021; Yu et al. 2019",
            "unconfirmed",
            "github.com/yulequan/UA-MT, folder data (233 MB, without an account)",
            {"labels": 1, "spacing": [0.625, 0.625, 0.625]},
            "z-scored and cropped around the atrium by its publishers; the files state no spacing, "
            "0.625 mm is the challenge's",
        ),
        DataSet(
            "ricord",
            "RICORD",
            "task",
            "CT",
            "ricord",
            "ricord",
            "Tsai et al. 2021; Ye et al. 2024",
            "CC BY-NC 4.0",
            "The Cancer Imaging Archive, collections MIDRC-RICORD-1A and -1B, with the lists "
            "RICORD_{train,val,test}.txt of MedCoSS",
            {"labels": 2, "values": "stored"},
            "25 of the 61 positives of the test list are coronal or sagittal reformats by their "
            'description: the column contrast says "reformatted"',
        ),
        DataSet(
            "nodule",
            "NoduleMNIST3D (LIDC-IDRI)",
            "task",
            "CT",
            "medmnist",
            "nodule",
            "Armato III et al. 2011; Yang et al. 2023",
            "CC BY 4.0",
            "Zenodo record 10519652, nodulemnist3d.npz (without an account)",
            {"labels": 2, "file": "nodulemnist3d.npz"},
        ),
    ]


#: Every data set by its name.
CATALOGUE: dict[str, DataSet] = {
    row.name: row for row in (*_spatial_sources(), *_other_sources(), *_tasks())
}


def get(name: str) -> DataSet:
    """The data set called ``name``.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = difflib.get_close_matches(name.lower(), CATALOGUE, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"the names are {', '.join(CATALOGUE)}"
    raise ConfigError(f"unknown data set {name!r}", hint)
