"""The downstream tasks."""

from __future__ import annotations

from voxseq.catalogue import lists
from voxseq.catalogue.model import DECATHLON, DataSet, RemoteFile, Role

_MSD = "https://msd-for-monai.s3-us-west-2.amazonaws.com"


def rows() -> tuple[DataSet, ...]:
    """The rows, in the order of the paper's tables; hippocampus is not in the paper."""
    return (*_msd_rows(), _LA, _RICORD, _NODULE)


def _msd(
    number: int,
    organ: str,
    classes: tuple[str, ...],
    checksum: str = "",
    modality: str = "CT",
    role: Role = "task",
    size: int | None = None,
    volumes: int | None = None,
    paper_volumes: int | None = None,
    note: str = "",
) -> DataSet:
    task = f"Task{number:02d}_{organ}"
    unknown = [
        word
        for word, value in (("checksum", checksum), ("size", size), ("number of images", volumes))
        if not value
    ]
    return DataSet(
        name=task.lower(),
        title=f"MSD Task{number:02d} {organ}",
        role=role,
        modality=modality,
        adapter="msd",
        folder=f"msd/{task}",
        citation="Antonelli et al. 2022",
        licence="CC BY-SA 4.0",
        source=f"s3://msd-for-monai/{task}.tar, without an account",
        version="Medical Segmentation Decathlon, labelled images",
        access="open",
        layout="dataset.json, imagesTr, labelsTr",
        classes=classes,
        task="segmentation",
        size=size,
        volumes=volumes,
        paper_volumes=paper_volumes,
        files=(
            RemoteFile(
                url=f"{_MSD}/{task}.tar",
                checksum=checksum,
                size=size,
                archive="tar",
                strip=task,
            ),
        ),
        options={"labels": len(classes)},
        collection=DECATHLON,
        unconfirmed=tuple(unknown),
        note=note,
    )


def _msd_rows() -> tuple[DataSet, ...]:
    return (
        _msd(
            3,
            "Liver",
            ("liver", "cancer"),
            "md5:a90ec6c4aa7f6a3d087205e23d4e6397",
            size=28_925_891_584,
            volumes=131,
            paper_volumes=131,
        ),
        _msd(
            6,
            "Lung",
            ("cancer",),
            "md5:8afd997733c7fc0432f71255ba4e52dc",
            volumes=63,
            paper_volumes=64,
        ),
        _msd(
            7,
            "Pancreas",
            ("pancreas", "cancer"),
            "md5:4f7080cfca169fa8066d17ce6eb061e4",
            volumes=281,
            paper_volumes=282,
        ),
        _msd(
            8,
            "HepaticVessel",
            ("vessel", "tumour"),
            "md5:641d79e80ec66453921d997fbf12a29c",
            volumes=303,
            paper_volumes=303,
        ),
        _msd(
            9,
            "Spleen",
            ("spleen",),
            "md5:410d4a301da4e5b2f6f86ec3ddba524e",
            volumes=41,
            paper_volumes=41,
        ),
        _msd(
            10,
            "Colon",
            ("cancer",),
            "md5:bad7a188931dc2f6acf72b08eb6202d0",
            volumes=126,
            paper_volumes=126,
        ),
        _msd(
            4,
            "Hippocampus",
            ("anterior", "posterior"),
            "md5:9d24dba78a72977dbd1d2e110310f31b",
            "MRI",
            "both",
        ),
    )


_LA = DataSet(
    name="la",
    title="LA",
    role="both",
    modality="MRI",
    adapter="ua_mt",
    folder="la",
    citation="Xiong et al. 2021; Yu et al. 2019",
    licence="unconfirmed",
    source="github.com/yulequan/UA-MT, folder data (233 MB, without an account)",
    version="commit 88ed29a of UA-MT",
    access="open",
    layout="2018LA_Seg_Training Set/<case>/mri_norm2.h5, train.list, test.list",
    classes=("left atrium",),
    task="segmentation",
    size=sum(file.size or 0 for file in lists.la_files()),
    volumes=100,
    files=lists.la_files(),
    lists="la",
    options={"labels": 1, "spacing": [0.625, 0.625, 0.625]},
    unconfirmed=("licence",),
    note="z-scored and cropped around the atrium by its publishers; the files state no spacing, "
    "0.625 mm is the challenge's",
)

_RICORD = DataSet(
    name="ricord",
    title="RICORD",
    role="task",
    modality="CT",
    adapter="ricord",
    folder="ricord",
    citation="Tsai et al. 2021; Ye et al. 2024",
    licence="CC BY-NC 4.0",
    source="The Cancer Imaging Archive, collections MIDRC-RICORD-1A and -1B, with the lists "
    "RICORD_{train,val,test}.txt of MedCoSS",
    version="the 330 series of the published lists, from the Imaging Data Commons",
    access="bucket",
    layout="…/<series>/*.dcm, RICORD_{train,val,test}.txt",
    classes=("no COVID-19", "COVID-19"),
    task="classification",
    size=sum(file.size or 0 for file in lists.ricord_files()),
    volumes=330,
    files=lists.ricord_files(),
    lists="ricord",
    options={"labels": 2, "values": "stored"},
    unconfirmed=("checksums; sizes and numbers of slices are known",),
    note="25 of the 61 positives of the test list are coronal or sagittal reformats by their "
    'description: the column contrast says "reformatted"',
)

_NODULE = DataSet(
    name="nodule",
    title="NoduleMNIST3D (LIDC-IDRI)",
    role="task",
    modality="CT",
    adapter="medmnist",
    folder="nodule",
    citation="Armato III et al. 2011; Yang et al. 2023",
    licence="CC BY 4.0",
    source="Zenodo record 10519652, nodulemnist3d.npz (without an account)",
    version="record 10519652, 28 voxels a side",
    access="open",
    layout="nodulemnist3d.npz",
    classes=("benign", "malignant"),
    task="classification",
    volumes=1633,
    files=(
        RemoteFile(
            url="https://zenodo.org/records/10519652/files/nodulemnist3d.npz?download=1",
            path="nodulemnist3d.npz",
            checksum="md5:8755a7e9e05a4d9ce80a24c3e7a256f3",
        ),
    ),
    options={"labels": 2, "file": "nodulemnist3d.npz"},
    unconfirmed=("size: its images are 36 MB before compression",),
)
