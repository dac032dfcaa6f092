"""Each published layout, from servers to the reader of it, and what the workflow fetches."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import SimpleITK as sitk  # noqa: N813

from tests.helpers import trees
from tests.helpers.packing import (
    HASTY,
    Bucket,
    contents,
    dataset,
    git_blob,
    listing,
    md5,
    tar,
    zipped,
)
from tests.helpers.servers import Fault, Server
from voxseq import catalogue
from voxseq.base.errors import DataError
from voxseq.catalogue import DataSet, RemoteFile, lists
from voxseq.data import layouts
from voxseq.fetch import FetchResult, Services, fetch, provide, read_record, state, stated_size

LA_FOLDER = "2018LA_Seg_Training Set"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def get(row: DataSet, root: Path, services: Services | None = None, **more: Any) -> FetchResult:
    return fetch(row, root, retry=HASTY, services=services, **more)


def found(row: DataSet, root: Path) -> list[str]:
    """Paths that the data set's reader finds in the fetched folder."""
    scan = layouts.get(row.layout).scan(root / row.folder, row)
    return sorted(entry.path for entry in scan.entries)


def below(top: str, folder: Path) -> dict[str, bytes]:
    return {f"{top}/{name}": content for name, content in contents(folder).items()}


def test_msd(server: Server, tmp_path: Path, root: Path) -> None:
    made = trees.msd(tmp_path / "made", ["spleen_2", "spleen_3"])
    packed = below("Task09_Spleen", made) | {"Task09_Spleen/imagesTr/._spleen_2.nii.gz": b"mac"}
    content = tar(packed)
    url = server.put("/Task09_Spleen.tar", content)
    row = catalogue.get("task09_spleen")
    (file,) = row.files
    row = replace(row, files=(replace(file, url=url, checksum=md5(content)),))
    get(row, root)
    assert found(row, root) == ["imagesTr/spleen_2.nii.gz", "imagesTr/spleen_3.nii.gz"]
    assert not list(root.rglob("._*"))


def test_totalsegmentator(server: Server, tmp_path: Path, root: Path) -> None:
    for case in ("s0000", "s0001"):
        trees.write_nifti(tmp_path / "made" / case / "ct.nii.gz", trees.image())
    packed = below("Totalsegmentator_dataset_v201", tmp_path / "made")
    content = zipped({**packed, "meta.csv": b"i"})
    file = RemoteFile(server.put("/t.zip", content), archive="zip", checksum=md5(content))
    row = replace(catalogue.get("totalsegmentator"), files=(file,))
    get(row, root)
    assert [Path(path).name for path in found(row, root)] == ["ct.nii.gz"] * 2


def test_nodules(server: Server, tmp_path: Path, root: Path) -> None:
    made = trees.nodule(tmp_path / "made", {"train": 3, "val": 1, "test": 2})
    content = (made / "nodulemnist3d.npz").read_bytes()
    url = server.put("/records/nodulemnist3d.npz?download=1", content)
    (file,) = catalogue.get("nodule").files
    row = dataset([replace(file, url=url, checksum=md5(content))])
    get(row, root)
    assert len(found(row, root)) == 6


def test_la_with_its_lists(server: Server, tmp_path: Path, root: Path) -> None:
    parts = [lists.files_for("la")[f"{part}.list"].decode().split() for part in ("train", "test")]
    cases = (parts[0][:2], parts[1][:1])
    made = trees.la(tmp_path / "made", *cases)
    files = []
    for case in (*cases[0], *cases[1]):
        path = f"{LA_FOLDER}/{case}/mri_norm2.h5"
        content = (made / path).read_bytes()
        server.put(f"/data/{path}", content)
        url = f"{server.base}/data/{quote(path)}"
        files.append(RemoteFile(url, path, git_blob(content), len(content)))
    row = dataset(files, "la", lists="la")
    # A server that hands out the beginning of one of them, as raw.githubusercontent.com may.
    server.faults[f"/data/{files[0].path}"] = [Fault(drop=1000), Fault()]
    result = get(row, root)
    assert len(found(row, root)) == 3
    assert (root / "la/train.list").read_bytes() == lists.files_for("la")["train.list"]
    assert result.record is not None
    assert result.record.lists == ("train.list", "test.list")
    assert not result.weak


def test_stoic_below_a_prefix(
    bucket: Bucket, services: Services, tmp_path: Path, root: Path
) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(trees.image()), str(tmp_path / "made.mha"))
    content = (tmp_path / "made.mha").read_bytes()
    names = ["1.mha", "2 with space.mha", "sub/3+ü.mha"]
    for name in [*names, ".DS_Store", "folder/"]:
        bucket.put(f"data/mha/{name}", b"" if name.endswith("/") else content)
    bucket.put("metadata/reference.csv", b"not below the prefix")
    row = dataset([RemoteFile(f"s3://{bucket.name}/data/mha/", "data/mha", objects=3)], "stoic")
    record = get(row, root, services).record
    assert record is not None
    (item,) = record.fetched
    assert (item.verified_by, item.files, item.bytes) == ("bucket", 3, 3 * len(content))
    assert contents(root / "stoic/data/mha") == dict.fromkeys(names, content)
    assert found(row, root) == ["data/mha/1.mha", "data/mha/2 with space.mha"]


def series(tmp_path: Path) -> tuple[RemoteFile, dict[str, bytes]]:
    """One series that RICORD's lists name: its row of the catalogue, and small slices for it."""
    file = catalogue.get("ricord").files[0]
    folder = tmp_path / "made"
    shutil.rmtree(folder, ignore_errors=True)
    trees.dicom_series(
        folder,
        trees.image((6, 5, 3)),
        PatientID="MIDRC-RICORD-1A-660042-000149",
        StudyDate="20041019",
        SeriesNumber=3,
        SeriesInstanceUID=file.series_uid,
    )
    return replace(file, objects=3, size=None, url="s3://b/p/"), contents(folder)


def test_ricord_by_series(bucket: Bucket, services: Services, tmp_path: Path, root: Path) -> None:
    file, slices = series(tmp_path)
    for name, content in slices.items():
        bucket.put(f"981650fa/{name}", content)
    row = dataset([replace(file, url=f"s3://{bucket.name}/981650fa/")], "ricord", lists="ricord")
    get(row, root, services)
    assert found(row, root) == [file.path]
    # Four places in the tree: the series, and the three lists.
    assert len(list((root / "ricord").glob("RICORD_*.txt"))) == 3


def nbia(server: Server, file: RemoteFile, slices: dict[str, bytes]) -> None:
    path = f"/nbia/getImage?NewFileNames=Yes&SeriesInstanceUID={file.series_uid}"
    server.put(path, zipped({**slices, "LICENSE": b"CC BY-NC 4.0"}), length=False)


@pytest.mark.parametrize("how", ["missing", "forbidden", "down", "fewer"])
def test_ricord_from_tcia_where_the_bucket_fails(
    server: Server, tmp_path: Path, root: Path, how: str
) -> None:
    file, slices = series(tmp_path)
    if how == "fewer":
        listing(server, ("one", 3, "x"))
    elif how != "missing":
        fault = Fault(403 if how == "forbidden" else 503)
        server.faults["/b?list-type=2&prefix=p/"] = [fault]
    nbia(server, file, slices)
    row = dataset([file], "ricord", lists="ricord")
    result = get(row, root, Services(server.base, f"{server.base}/nbia/"))
    assert found(row, root) == [file.path]
    (item,) = result.weak
    assert "getImage" in item.source
    assert fetch(row, root).state == "complete"


def test_a_bucket_that_is_down_is_asked_once(server: Server, tmp_path: Path, root: Path) -> None:
    file, slices = series(tmp_path)
    files = [
        replace(file, url=f"s3://b/{n}/", path=f"x/{n}", series_uid=f"1.{n}") for n in range(5)
    ]
    for item in files:
        nbia(server, item, slices)
        server.faults[f"/b?list-type=2&prefix={item.url[7:]}"] = [Fault(503)]
    get(dataset(files), root, Services(server.base, f"{server.base}/nbia"), parallel=1)
    assert sum(request.path.startswith("/b?") for request in server.requests) == 3
    assert len(contents(root / "nodule/x")) == 5 * 4


def test_both_ways_fail(server: Server, tmp_path: Path, root: Path) -> None:
    file, slices = series(tmp_path)
    row = dataset([file], "ricord")
    services = Services(server.base, f"{server.base}/nbia")
    with pytest.raises(DataError, match=r"prefix=p.*404.*; and .*getImage.*404"):
        get(row, root, services)
    nbia(server, file, dict(list(slices.items())[:2]))
    with pytest.raises(DataError, match="holds 2 slices, expected 3"):
        get(row, root, services)
    nbia(server, file, slices)
    get(row, root, services)
    assert state(row, root / "ricord") == "complete"


def small(server: Server, size: int | None) -> DataSet:
    url = server.put("/n.npz", b"x" * 1000)
    return dataset([RemoteFile(url, "nodulemnist3d.npz", size=size)])


@pytest.mark.parametrize(
    ("size", "limit", "reason", "requests"),
    [
        (1000, 999, "has 1.0 kB, data.fetch_at_most_gb allows 999 B", 0),
        (1000, 0, "data.fetch_at_most_gb allows nothing", 0),
        # Where the catalogue states no size, the server is asked.
        (None, 999, "has 1.0 kB, data.fetch_at_most_gb allows 999 B", 1),
    ],
)
def test_provide_fetches_what_is_small_enough(
    server: Server, root: Path, size: int | None, limit: int, reason: str, requests: int
) -> None:
    row = small(server, size)
    with pytest.raises(DataError) as error:
        provide(row, root / "nodule", limit)
    assert reason in error.value.what
    assert "voxseq data download nodule" in error.value.hint
    assert "voxseq data show nodule" in error.value.hint
    assert len(server.requests) == requests
    assert not root.exists()
    assert provide(row, root / "nodule", 1000)
    assert read_record(root / "nodule") is not None
    assert not provide(row, root / "nodule", 0)


@pytest.mark.parametrize("name", ["rsna2022_csfd", "brats23", "flare23", "tcia_covid19"])
def test_provide_leaves_accounts_alone(root: Path, name: str) -> None:
    row = catalogue.get(name)
    with pytest.raises(DataError, match="account or work by hand"):
        provide(row, root / row.folder, 10**15)


def test_provide_uses_the_users_own_folder(tmp_path: Path, root: Path) -> None:
    row = catalogue.get("rsna2022_csfd")
    (root / row.folder / "train_images").mkdir(parents=True)
    assert not provide(row, root / row.folder, 0)
    real = tmp_path / "elsewhere"
    real.mkdir()
    (real / "dataset.json").touch()
    (root / "linked").symlink_to(real)
    assert not provide(catalogue.get("task09_spleen"), root / "linked", 0)


def test_stated_sizes() -> None:
    sizes = {name: stated_size(row) for name, row in catalogue.CATALOGUE.items()}
    assert sizes["la"] == sum(file.size or 0 for file in catalogue.get("la").files)
    assert sizes["verse20"] is None
    assert sizes["isles2022"] == 1_692_717_470
