"""The twelve sources of spatial sequences."""

from __future__ import annotations

from voxseq.catalogue.datasets.restricted import (
    FLARE22,
    FLARE23,
    RSNA2020_PED,
    RSNA2022_CSFD,
    TCIA_COVID19,
)
from voxseq.catalogue.model import DataSet, RemoteFile

_VERSE = "https://s3.bonescreen.de/public/VerSe-complete"


def rows() -> tuple[DataSet, ...]:
    """The rows, in the order of the paper's table of sources."""
    return (
        _RIBFRAC,
        TCIA_COVID19,
        _AMOS22,
        _ISLES2022,
        _ABDOMENCT1K,
        _TOTALSEGMENTATOR,
        _VERSE20,
        RSNA2022_CSFD,
        RSNA2020_PED,
        _STOIC,
        FLARE22,
        FLARE23,
    )


def _zenodo(record: int, name: str, checksum: str = "", size: int | None = None) -> RemoteFile:
    url = f"https://zenodo.org/records/{record}/files/{name}"
    return RemoteFile(url=url, checksum=checksum, size=size, archive="zip")


_RIBFRAC = DataSet(
    name="ribfrac",
    title="RibFrac",
    role="source",
    modality="CT",
    adapter="nifti_tree",
    folder="ribfrac",
    citation="Jin et al. 2020",
    licence="CC BY-NC 4.0",
    source="Zenodo records 3893508, 3893498, 3893496 and 3993380",
    version="the four records named",
    access="open",
    layout="…/RibFrac1-image.nii.gz",
    size=77_800_000_000,
    volumes=660,
    files=(
        _zenodo(3893508, "ribfrac-train-images-1.zip"),
        _zenodo(3893498, "ribfrac-train-images-2.zip"),
        _zenodo(
            3893496,
            "ribfrac-val-images.zip",
            "sha256:786cc14bf4ea55e93325d657d0e6490f4a1a7c8d073522404751b961dab95e24",
        ),
        _zenodo(3993380, "ribfrac-test-images.zip"),
    ),
    options={"patterns": [r"(?:.*/)?(?P<subject>RibFrac\d+)-image\.nii\.gz"]},
    unconfirmed=("checksums of the archives, except that of the validation images",),
)

_AMOS22 = DataSet(
    name="amos22",
    title="AMOS22",
    role="source",
    modality="CT and MRI",
    adapter="nifti_tree",
    folder="amos22",
    citation="Ji et al. 2022",
    licence="CC BY 4.0",
    source="Zenodo record 7155725, amos22.zip",
    version="record 7155725",
    access="open",
    layout="…/images{Tr,Va,Ts}/amos_0001.nii.gz",
    size=23_000_000_000,
    volumes=600,
    files=(
        _zenodo(
            7155725,
            "amos22.zip",
            "sha256:d2fbf2c31abba9824d183f05741ce187b17905b8cca64d1078eabf1ba96775c2",
        ),
    ),
    options={
        "patterns": [
            r"(?:.*/)?images(?:Tr|Va|Ts)/(?P<subject>amos_0(?:[0-4]\d\d|500))\.nii\.gz",
            r"(?:.*/)?images(?:Tr|Va|Ts)/(?P<subject>amos_0[56]\d\d)\.nii\.gz",
        ],
        "modalities": ["CT", "MRI"],
    },
    unconfirmed=("whether record 7262581 holds the same archive",),
    note="numbers 501 to 600 are MRI",
)

_ISLES2022 = DataSet(
    name="isles2022",
    title="ISLES2022",
    role="source",
    modality="MRI",
    adapter="nifti_tree",
    folder="isles2022",
    citation="Hernandez Petzsche et al. 2022",
    licence="CC BY-SA 4.0",
    source="Zenodo record 7153326, ISLES-2022.zip",
    version="record 7153326; record 7960856 is newer",
    access="open",
    layout="…/sub-strokecase0001/ses-0001/{dwi,anat}/sub-…_{dwi,adc,FLAIR}.nii.gz",
    size=1_692_717_470,
    volumes=750,
    files=(
        _zenodo(7153326, "ISLES-2022.zip", "md5:302ee280373cdd5c190ab763d72a7a50", 1_692_717_470),
    ),
    options={
        "patterns": [
            r"(?:.*/)?sub-[^/]+/ses-[^/]+/(?:dwi|anat)/"
            r"(?P<image>(?P<subject>sub-[^_/]+)_[^/]*_?(?P<contrast>dwi|adc|FLAIR|flair))"
            r"\.nii\.gz"
        ]
    },
    note="250 cases with three contrasts each; FLAIR is not registered to DWI",
)

_ABDOMENCT1K = DataSet(
    name="abdomenct1k",
    title="AbdomenCT-1K",
    role="source",
    modality="CT",
    adapter="nifti_tree",
    folder="abdomenct1k",
    citation="Ma et al. 2021",
    licence="unconfirmed; the authors ask for a usage form",
    source="Zenodo records 5903099, 5903846 and 5903769",
    version="the three records named",
    access="open",
    layout="…/Case_00001_0000.nii.gz",
    files=(
        _zenodo(
            5903099,
            "AbdomenCT-1K-ImagePart1.zip",
            "sha256:3d0d8edd2a8777f8807c6715f633e2fea104f16a8514572664021ed88f97cd03",
        ),
        _zenodo(
            5903846,
            "AbdomenCT-1K-ImagePart2.zip",
            "sha256:3178bd3021dfed0440c4dc269b7f3125b27b60aec96e81b210d7c4c55d0fe894",
        ),
        _zenodo(
            5903769,
            "AbdomenCT-1K-ImagePart3.zip",
            "sha256:76bf789589a13ca1aef9b9c8b771f05c165e6d2013284bbfdb4c4656d4931c30",
        ),
    ),
    terms="The authors ask users to fill in a form, which the README of their repository names: "
    "do so before the images are fetched.",
    options={"patterns": [r"(?:.*/)?(?P<subject>Case_\d+)_0000\.nii\.gz"]},
    unconfirmed=(
        "licence",
        "size",
        "number of images in the archives: the publication has 1,112, of which 1,000 have public "
        "masks",
    ),
    note="contains images of MSD Liver, Pancreas and Spleen",
)

_TOTALSEGMENTATOR = DataSet(
    name="totalsegmentator",
    title="TotalSegmentator",
    role="source",
    modality="CT",
    adapter="nifti_tree",
    folder="totalsegmentator",
    citation="Wasserthal et al. 2023",
    licence="CC BY 4.0",
    source="Zenodo record 10047292 (version 2.0.1); 10047263 is a small part of it",
    version="2.0.1",
    access="open",
    layout="…/s0000/ct.nii.gz",
    size=23_600_000_000,
    volumes=1228,
    files=(
        _zenodo(
            10047292, "Totalsegmentator_dataset_v201.zip", "md5:fe250e5718e0a3b5df4c4ea9d58a62fe"
        ),
    ),
    steps=(
        "Or, for a small part (about 102 images), unpack "
        "https://zenodo.org/records/10047263/files/Totalsegmentator_dataset_small_v201.zip "
        "(md5 6b5524af4b15e6ba06ef2d700c0c73e0) into the folder.",
    ),
    options={"patterns": [r"(?:.*/)?(?P<subject>s\d{4})/(?P<image>ct)\.nii\.gz"]},
    unconfirmed=(
        "which version the paper used: 1 (Zenodo record 6802614, 1,204 images) or 2",
        "full name of the small archive",
    ),
)

_VERSE20 = DataSet(
    name="verse20",
    title="VerSe 2020",
    role="source",
    modality="CT",
    adapter="nifti_tree",
    folder="verse20",
    citation="Sekuboyina et al. 2021",
    licence="CC BY-SA 4.0",
    source="OSF t98fz, or s3.bonescreen.de/public/VerSe-complete",
    version="VerSe 2020: training, validation and test",
    access="open",
    layout="…/rawdata/sub-verse823/sub-…_ct.nii.gz",
    volumes=319,
    files=tuple(
        RemoteFile(url=f"{_VERSE}/dataset-verse20{part}.zip", archive="zip")
        for part in ("training", "validation", "test")
    ),
    options={"patterns": [r"(?:.*/)?rawdata/(?P<subject>sub-[^/]+)/(?P<image>[^/]+_ct)\.nii\.gz"]},
    unconfirmed=("checksums", "size: 97 GB is that of VerSe 2019 and 2020 together"),
    note="300 patients; orientations are mixed",
)

_STOIC = DataSet(
    name="stoic",
    title="STOIC",
    role="source",
    modality="CT",
    adapter="metaimage",
    folder="stoic",
    citation="Revel et al. 2021",
    licence="CC BY-NC 4.0",
    source="s3://stoic2021-training, without an account",
    version="training images of the challenge of 2021",
    access="bucket",
    layout="…/mha/<patient>.mha",
    volumes=2000,
    files=(RemoteFile(url="s3://stoic2021-training/data/mha/", path="data/mha", objects=2000),),
    options={"patterns": [r"(?:.*/)?mha/(?P<subject>[^/]+)\.mha"]},
    unconfirmed=("size", "checksums"),
    note='the paper prints "STOTIC"; the bucket lies in us-west-2',
)
