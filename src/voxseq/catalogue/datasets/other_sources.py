"""Sources of contrast and semantic sequences, and the user's own CT series."""

from __future__ import annotations

from voxseq.catalogue import lists
from voxseq.catalogue.model import DataSet


def rows() -> tuple[DataSet, ...]:
    """The rows in the order of the paper; the user's own series come last."""
    return (_BRATS23, _DEEPLESION, _DICOM_CT)


_BRATS23 = DataSet(
    name="brats23",
    title="BraTS 23",
    role="source",
    modality="MRI",
    adapter="brats23",
    folder="brats",
    citation="LaBella et al. 2023",
    licence="unconfirmed",
    source="Synapse project syn51156910 (account and data-access form)",
    version="GLI, MEN, MET, PED and SSA of 2023",
    access="account",
    layout="…/BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f}.nii.gz",
    kinds=("spatial", "contrast"),
    volumes=11_980,
    paper_volumes=11_980,
    client=(
        "synapse:syn51514105",
        "synapse:syn51514106",
        "synapse:syn51514107",
        "synapse:syn51514108",
        "synapse:syn51514109",
    ),
    steps=(
        "Make a Synapse account, open https://www.synapse.org/#!Synapse:syn51156910 and fill in "
        "the data-access form.",
        "Make a personal access token with the right to download.",
        "Fetch the folders syn51514105 (GLI), syn51514106 (MEN), syn51514107 (MET), syn51514108 "
        "(PED) and syn51514109 (SSA): synapse get -r ID.",
        "Unpack the archives into the folder; keep the folder names "
        "ASNR-MICCAI-BraTS2023-…-Challenge-TrainingData and -ValidationData.",
    ),
    options={
        "contrasts": ["t1n", "t1c", "t2w", "t2f"],
        "exclude": r"-MET-Challenge-ValidationData/",
    },
    unconfirmed=(
        "licence",
        "size",
        "which parts the paper used: training and validation without MET validation sum to its "
        "2,995 subjects, by inference",
        "numbers of subjects of MET training and PED validation",
        "name of SSA's folder",
    ),
    note="training and validation parts except MET validation: together the paper's 2,995 "
    "subjects with four contrasts each",
)

_DEEPLESION = DataSet(
    name="deeplesion",
    title="DeepLesion",
    role="source",
    modality="CT",
    adapter="deeplesion",
    folder="deeplesion",
    citation="Yan et al. 2018",
    licence="unconfirmed",
    source="nihcc.app.box.com/v/DeepLesion, without an account",
    version="56 archives of PNG slices",
    access="open",
    layout="DL_info.csv, Images_png/000001_01_01/103.png",
    kinds=("semantic",),
    size=259_000_000_000,
    files=lists.deeplesion_files(),
    steps=(
        "Download DL_info.csv from https://nihcc.app.box.com/v/DeepLesion into the folder: it has "
        "no address of its own that could be fetched.",
    ),
    unconfirmed=(
        "licence",
        "address of DL_info.csv",
        "number of lesions with a type, which are the entries read: about 9,816",
    ),
    note="only lesions with a type (1 to 8) are used; 10,594 studies of 4,427 patients with 32,735 "
    "lesions",
)

_DICOM_CT = DataSet(
    name="dicom_ct",
    title="CT series in DICOM",
    role="source",
    modality="CT",
    adapter="dicom_tree",
    folder="dicom",
    citation="",
    licence="that of the files",
    source="any folder of CT series",
    version="that of the files",
    access="manual",
    layout="…/<series>/*",
    steps=("Put your own CT series into the folder, in any order of folders.",),
    note="the names of the files may have any extension, or none",
)
