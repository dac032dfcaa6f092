"""Sources of spatial sequences that need an account, a registration or work by hand."""

from __future__ import annotations

from voxseq.catalogue.model import DataSet

#: Patient-level name of a study in CT COVID-19 (TCIA): `volume-covid19-A-0721_day008.nii.gz`.
_COVID = r"(?:.*/)?(?P<image>(?P<subject>volume-covid19-A-\d+)[^/]*)\.nii\.gz"
_FLARE22 = (
    r"(?:.*/)?FLARE22_UnlabeledCase[^/]*/(?:.*/)?(?P<subject>Case_\d+)_0000\.nii\.gz",
    r"(?:.*/)?(?P<subject>FLARE22_Tr_\d+)_0000\.nii\.gz",
    r"(?:.*/)?(?P<subject>FLARETs_\d+)_0000\.nii\.gz",
)
_RSNA = "RSNA, non-commercial, no redistribution"

TCIA_COVID19 = DataSet(
    name="tcia_covid19",
    title="TCIA Covid19",
    role="source",
    modality="CT",
    adapter="nifti_tree",
    folder="tcia_covid19",
    citation="An et al. 2020",
    licence="unconfirmed",
    source="The Cancer Imaging Archive, doi 10.7937/TCIA.2020.GQRY-NC81",
    version="NIfTI files of the collection CT Images in COVID-19",
    access="manual",
    layout="…/volume-covid19-A-0269.nii.gz, …/volume-covid19-A-0721_day008.nii.gz",
    volumes=771,
    steps=(
        "Install IBM Aspera's command-line client, ascli; no account is needed.",
        "Open https://doi.org/10.7937/TCIA.2020.GQRY-NC81 and copy the address of the package of "
        "NIfTI images.",
        "Fetch it into the folder: ascli faspex5 packages receive --url=ADDRESS.",
    ),
    options={"patterns": [_COVID]},
    unconfirmed=(
        "licence",
        "address of the package",
        "size and checksum",
        "number of images: 771 is that of a list which other software publishes; the collection "
        "counts 632 patients and 121 follow-ups",
    ),
    note="the archive's programming interface delivers DICOM only, so it has not these files",
)

RSNA2022_CSFD = DataSet(
    name="rsna2022_csfd",
    title="RSNA-2022-CSFD",
    role="source",
    modality="CT",
    adapter="dicom_tree",
    folder="rsna2022_csfd",
    citation="Flanders et al. 2022",
    licence=_RSNA,
    source="Kaggle rsna-2022-cervical-spine-fracture-detection (token and accepted rules)",
    version="training images of the competition",
    access="account",
    layout="…/train_images/<study>/*.dcm",
    volumes=2019,
    client=("kaggle:rsna-2022-cervical-spine-fracture-detection",),
    steps=(
        "Make a Kaggle account and an API token (kaggle.json).",
        "Accept the rules at "
        "https://www.kaggle.com/competitions/rsna-2022-cervical-spine-fracture-detection/rules.",
        "kaggle competitions download -c rsna-2022-cervical-spine-fracture-detection",
        "Unpack train_images into the folder.",
        "Or ask for access at mira.rsna.org/dataset/4 and copy "
        "s3://cervical-spine-fracture (us-west-2).",
    ),
    options={"folders": r"(?:.*/)?train_images/(?P<subject>[^/]+)", "one_series": True},
    unconfirmed=("size (about 344 GB)", "whether slices are compressed"),
    note="compressed slices need a further decoder for pydicom, such as pylibjpeg or gdcm",
)

RSNA2020_PED = DataSet(
    name="rsna2020_ped",
    title="RSNA-2020-PED",
    role="source",
    modality="CT",
    adapter="dicom_tree",
    folder="rsna2020_ped",
    citation="Colak et al. 2021",
    licence=_RSNA,
    source="Kaggle rsna-str-pulmonary-embolism-detection (token and accepted rules)",
    version="training images of the competition",
    access="account",
    layout="…/train/<study>/<series>/*.dcm",
    volumes=7279,
    client=("kaggle:rsna-str-pulmonary-embolism-detection",),
    steps=(
        "Make a Kaggle account and an API token (kaggle.json).",
        "Accept the rules at "
        "https://www.kaggle.com/competitions/rsna-str-pulmonary-embolism-detection/rules.",
        "kaggle competitions download -c rsna-str-pulmonary-embolism-detection",
        "Unpack train into the folder.",
        "Or ask for access at mira.rsna.org/dataset/2 and copy s3://pulmonary-embolism-detection.",
    ),
    options={
        "folders": r"(?:.*/)?train/(?P<subject>[^/]+)/(?P<image>[^/]+)",
        "one_series": True,
    },
    unconfirmed=(
        "size (about 0.9 to 1 TB)",
        "whether each of the 7,279 studies has one series",
        "whether the paper used the test images as well",
    ),
    note="the 650 and 1,517 studies of the test parts are not read",
)

FLARE22 = DataSet(
    name="flare22",
    title="FLARE22",
    role="source",
    modality="CT",
    adapter="nifti_tree",
    folder="flare22",
    citation="Ma et al. 2023",
    licence="unconfirmed",
    source="flare22.grand-challenge.org (registration)",
    version="50 labelled, 2,000 unlabelled and 50 validation images",
    access="manual",
    layout="…/FLARE22_UnlabeledCase1-1000/Case_00001_0000.nii.gz, "
    "…/FLARE22_Tr_0001_0000.nii.gz, …/FLARETs_0001_0000.nii.gz",
    size=247_000_000_000,
    volumes=2100,
    steps=(
        "Register at https://flare22.grand-challenge.org; its page of data names the downloads.",
        "The 50 labelled images need no registration: "
        "https://zenodo.org/records/7860267/files/FLARE22Train.zip.",
        "Unpack everything into the folder; keep the folders FLARE22_UnlabeledCase1-1000 and "
        "FLARE22_UnlabeledCase1001-2000, by which the unlabelled images are recognised.",
    ),
    options={"patterns": list(_FLARE22)},
    unconfirmed=("licence", "checksums", "whether the 200 test images are to be had"),
    note="draws on MSD, LiTS, KiTS and AbdomenCT-1K",
)

FLARE23 = DataSet(
    name="flare23",
    title="FLARE23",
    role="source",
    modality="CT",
    adapter="nifti_tree",
    folder="flare23",
    citation="Ma et al. 2024",
    licence="unconfirmed",
    source="codalab.lisn.upsaclay.fr/competitions/12239 (registration)",
    version="2,200 training and 1,800 unlabelled images",
    access="manual",
    layout="…/imagesTr2200/1-500/FLARE23_0001_0000.nii.gz, …/unlabelTr1800/…/FLARE23_…_0000.nii.gz",
    volumes=4000,
    steps=(
        "Register at https://codalab.lisn.upsaclay.fr/competitions/12239; its page of data names "
        "the downloads.",
        "Unpack everything into the folder; keep the folders imagesTr2200 and unlabelTr1800.",
    ),
    options={
        "patterns": [
            r"(?:.*/)?(?:images|unlabel)[^/]*/(?:[^/]+/)?(?P<subject>FLARE23_\d+)_0000\.nii\.gz"
        ]
    },
    unconfirmed=("licence", "size", "checksums", "whether a copy on Hugging Face exists"),
    note="draws on MSD, LiTS, KiTS, TotalSegmentator and AbdomenCT-1K",
)
