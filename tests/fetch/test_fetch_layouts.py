"""Each published layout, from servers to the adapter that reads it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
import SimpleITK as sitk  # noqa: N813

from tests.helpers import trees
from tests.helpers.packing import HASTY, Bucket, contents, dataset, git_blob, md5, tar, zipped
from tests.helpers.servers import Fault, Server
from voxseq import catalogue
from voxseq.base.errors import DataError, IntegrityError
from voxseq.catalogue import DataSet, RemoteFile, lists
from voxseq.data import layouts as adapters
from voxseq.fetch import Services, fetch, provide, read_record, state, stated_size

LA_FOLDER = "2018LA_Seg_Training Set"


def found(row: DataSet, root: Path) -> list[str]:
    """Paths that the data set's reader finds in what was fetched."""
    scan = adapters.get(row.adapter).scan(root / row.folder, row)
    return sorted(entry.path for entry in scan.entries)


def below(top: str, folder: Path) -> dict[str, bytes]:
    return {f"{top}/{name}": content for name, content in contents(folder).items()}


def test_msd(server: Server, tmp_path: Path) -> None:
    made = trees.msd(tmp_path / "made", ["spleen_2", "spleen_3"])
    packed = below("Task09_Spleen", made) | {"Task09_Spleen/imagesTr/._spleen_2.nii.gz": b"mac"}
    content = tar(packed)
    url = server.put("/Task09_Spleen.tar", content)
    row = catalogue.get("task09_spleen")
    (file,) = row.files
    row = replace(row, files=(replace(file, url=url, checksum=md5(content)),))
    fetch(row, tmp_path / "root", retry=HASTY)
    assert found(row, tmp_path / "root") == ["imagesTr/spleen_2.nii.gz", "imagesTr/spleen_3.nii.gz"]
    assert not list((tmp_path / "root").rglob("._*"))


def test_totalsegmentator(server: Server, tmp_path: Path) -> None:
    for case in ("s0000", "s0001"):
        trees.write_nifti(tmp_path / "made" / case / "ct.nii.gz", trees.image())
    content = zipped(
        {**below("Totalsegmentator_dataset_v201", tmp_path / "made"), "meta.csv": b"i"}
    )
    row = catalogue.get("totalsegmentator")
    url = server.put("/t.zip", content)
    row = replace(row, files=(RemoteFile(url, archive="zip", checksum=md5(content)),))
    fetch(row, tmp_path / "root", retry=HASTY)
    assert [Path(path).name for path in found(row, tmp_path / "root")] == ["ct.nii.gz"] * 2


def test_nodules(server: Server, tmp_path: Path) -> None:
    made = trees.nodule(tmp_path / "made", {"train": 3, "val": 1, "test": 2})
    content = (made / "nodulemnist3d.npz").read_bytes()
    url = server.put("/records/nodulemnist3d.npz?download=1", content)
    (file,) = catalogue.get("nodule").files
    row = dataset([replace(file, url=url, checksum=md5(content))])
    fetch(row, tmp_path / "root", retry=HASTY)
    assert len(found(row, tmp_path / "root")) == 6


def test_la_with_its_lists(server: Server, tmp_path: Path) -> None:
    train, test = (
        lists.files_for("la")[f"{part}.list"].decode().split() for part in ("train", "test")
    )
    made = trees.la(tmp_path / "made", train[:2], test[:1])
    files = []
    for case in (*train[:2], test[0]):
        content = (made / LA_FOLDER / case / "mri_norm2.h5").read_bytes()
        server.put(f"/data/{LA_FOLDER}/{case}/mri_norm2.h5", content)
        url = f"{server.base}/data/{quote(LA_FOLDER)}/{case}/mri_norm2.h5"
        path = f"{LA_FOLDER}/{case}/mri_norm2.h5"
        files.append(RemoteFile(url, path, git_blob(content), len(content)))
    row = dataset(files, "la", lists="la")
    # A server that hands out the beginning of one of them, as raw.githubusercontent.com may.
    server.faults[f"/data/{LA_FOLDER}/{train[0]}/mri_norm2.h5"] = [Fault(drop=1000), Fault()]
    outcome = fetch(row, tmp_path / "root", retry=HASTY)
    assert len(found(row, tmp_path / "root")) == 3
    assert (tmp_path / "root/la/train.list").read_bytes() == lists.files_for("la")["train.list"]
    assert outcome.record is not None
    assert outcome.record.lists == ("train.list", "test.list")
    assert not outcome.weak


def mha(folder: Path) -> bytes:
    path = folder / "made.mha"
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(trees.image()), str(path))
    return path.read_bytes()


def stoic(bucket: Bucket, count: int) -> DataSet:
    file = RemoteFile(f"s3://{bucket.name}/data/mha/", path="data/mha", objects=count)
    return dataset([file], "stoic")


def test_stoic_below_a_prefix(bucket: Bucket, services: Services, tmp_path: Path) -> None:
    content = mha(tmp_path)
    names = ["1.mha", "2 with space.mha", "sub/3+ü.mha"]
    for name in [*names, ".DS_Store", "folder/"]:
        bucket.put(f"data/mha/{name}", b"" if name.endswith("/") else content)
    bucket.put("metadata/reference.csv", b"not below the prefix")
    row = stoic(bucket, 3)
    outcome = fetch(row, tmp_path / "root", retry=HASTY, services=services)
    assert outcome.record is not None
    (item,) = outcome.record.fetched
    assert (item.verified_by, item.files, item.bytes) == ("bucket", 3, 3 * len(content))
    got = contents(tmp_path / "root" / "stoic" / "data" / "mha")
    assert got == dict.fromkeys(names, content)
    assert found(row, tmp_path / "root") == ["data/mha/1.mha", "data/mha/2 with space.mha"]


def test_more_objects_than_a_page_of_the_list(
    bucket: Bucket, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        bucket.put(f"data/mha/{number}.mha", bytes([number]))
    from voxseq.fetch.http import Client

    asked = []
    text = Client.text

    def small_pages(self: Client, url: str) -> bytes:
        asked.append(url)
        return text(self, f"{url}&max-keys=3")

    monkeypatch.setattr(Client, "text", small_pages)
    fetch(stoic(bucket, 7), tmp_path, retry=HASTY, services=services)
    assert len(asked) == 3
    got = contents(tmp_path / "stoic" / "data" / "mha")
    assert got == {f"{n}.mha": bytes([n]) for n in range(7)}


def test_an_object_of_a_bucket_with_its_checksum(
    bucket: Bucket, services: Services, tmp_path: Path
) -> None:
    bucket.put("Task09.tar", tar({"dataset.json": b"{}"}))
    file = RemoteFile(
        f"s3://{bucket.name}/Task09.tar",
        checksum=md5(tar({"dataset.json": b"{}"})),
        archive="tar",
    )
    fetch(dataset([file]), tmp_path, retry=HASTY, services=services)
    assert (tmp_path / "nodule" / "dataset.json").exists()
    wrong = replace(file, checksum=md5(b"other"))
    with pytest.raises(IntegrityError, match="the checksum is"):
        fetch(dataset([wrong]), tmp_path / "wrong", retry=HASTY, services=services)


def test_objects_that_are_missing_from_a_bucket(
    bucket: Bucket, services: Services, tmp_path: Path
) -> None:
    bucket.put("data/mha/1.mha", b"1")
    with pytest.raises(DataError, match="1 objects, expected 2"):
        fetch(stoic(bucket, 2), tmp_path, retry=HASTY, services=services)
    bucket.put("data/mha/2.mha", b"2")
    fetch(stoic(bucket, 2), tmp_path, retry=HASTY, services=services)
    assert (tmp_path / "stoic/data/mha/2.mha").read_bytes() == b"2"


def test_a_prefix_without_objects(bucket: Bucket, services: Services, tmp_path: Path) -> None:
    bucket.put("other/1.mha", b"1")
    with pytest.raises(DataError, match="no object is there"):
        fetch(stoic(bucket, 2), tmp_path, retry=HASTY, services=services)


def test_a_bucket_that_does_not_exist(services: Services, tmp_path: Path) -> None:
    row = dataset([RemoteFile("s3://no-such-bucket/x/", path="x")])
    with pytest.raises(DataError, match="404"):
        fetch(row, tmp_path, retry=HASTY, services=services)


LISTING = """<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
{}</ListBucketResult>"""
ITEM = "<Contents><Key>p/{}</Key><Size>{}</Size><ETag>&quot;{}&quot;</ETag></Contents>"


def wicked(server: Server, *items: str) -> DataSet:
    server.put("/b?list-type=2&prefix=p/", LISTING.format("".join(items)).encode())
    return dataset([RemoteFile("s3://b/p/", path="x")])


def test_keys_that_lead_out(server: Server, tmp_path: Path) -> None:
    row = wicked(server, ITEM.format("../../out", 1, "x-2"))
    with pytest.raises(DataError, match="leads out"):
        fetch(row, tmp_path / "root", retry=HASTY, services=Services(server.base))
    assert len(server.requests) == 1


def test_an_object_other_than_its_listing(server: Server, tmp_path: Path) -> None:
    row = wicked(server, ITEM.format("one", 3, md5(b"one")[4:]), ITEM.format("two", 3, "parts-2"))
    server.put("/b/p/one", b"bad")
    server.put("/b/p/two", b"two")
    with pytest.raises(IntegrityError, match="the checksum is"):
        fetch(row, tmp_path, retry=HASTY, services=Services(server.base))
    server.put("/b/p/one", b"one")
    server.requests.clear()
    outcome = fetch(row, tmp_path, retry=HASTY, services=Services(server.base))
    # The object that was right is not asked for again.
    assert [r.path for r in server.requests] == ["/b?list-type=2&prefix=p/", "/b/p/one"]
    assert [item.verified_by for item in outcome.weak] == ["length"]


@pytest.mark.parametrize("answer", [b"<html><p>hello", b"<Error><Code>NoSuchBucket</Code></Error>"])
def test_an_answer_that_is_no_listing(server: Server, tmp_path: Path, answer: bytes) -> None:
    server.put("/b?list-type=2&prefix=p/", answer)
    row = dataset([RemoteFile("s3://b/p/", path="x")])
    with pytest.raises(DataError, match="no list of a bucket"):
        fetch(row, tmp_path, retry=HASTY, services=Services(server.base))


def test_the_addresses_of_amazon() -> None:
    amazon = Services.from_environment()
    assert amazon.address("s3://bucket/a b/c+d") == ("https://bucket.s3.amazonaws.com/a%20b/c%2Bd")
    assert amazon.address("https://x/y") == "https://x/y"
    assert amazon.series("1.2.3") == (
        "https://nbia.cancerimagingarchive.net/nbia-api/services/v4/getImage"
        "?NewFileNames=Yes&SeriesInstanceUID=1.2.3"
    )


def test_services_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXSEQ_S3_ENDPOINT", "http://localhost:9/")
    monkeypatch.setenv("VOXSEQ_NBIA_URL", "http://localhost:8/api/")
    here = Services.from_environment()
    assert here.address("s3://b/k") == "http://localhost:9/b/k"
    assert here.series("1").startswith("http://localhost:8/api/getImage?")


def series(tmp_path: Path) -> tuple[RemoteFile, dict[str, bytes]]:
    """One series that RICORD's lists name: its row of the catalogue, and small slices for it."""
    file = lists.ricord_files()[0]
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
    return replace(file, objects=3, size=None), contents(folder)


def test_ricord_by_series(bucket: Bucket, services: Services, tmp_path: Path) -> None:
    file, slices = series(tmp_path)
    for name, content in slices.items():
        bucket.put(f"981650fa/{name}", content)
    row = dataset([replace(file, url=f"s3://{bucket.name}/981650fa/")], "ricord", lists="ricord")
    fetch(row, tmp_path / "root", retry=HASTY, services=services)
    assert found(row, tmp_path / "root") == [file.path]
    # Four places in the tree: the series, and the three lists.
    assert len(list((tmp_path / "root/ricord").glob("RICORD_*.txt"))) == 3


def nbia(server: Server, file: RemoteFile, slices: dict[str, bytes]) -> None:
    path = f"/nbia/getImage?NewFileNames=Yes&SeriesInstanceUID={file.series_uid}"
    server.put(path, zipped({**slices, "LICENSE": b"CC BY-NC 4.0"}), length=False)


@pytest.mark.parametrize("how", ["missing", "forbidden", "down", "fewer"])
def test_ricord_from_tcia_where_the_bucket_fails(server: Server, tmp_path: Path, how: str) -> None:
    file, slices = series(tmp_path)
    listing = "/b?list-type=2&prefix=p/"
    if how == "fewer":
        server.put(listing, LISTING.format(ITEM.format("one", 3, "x")).encode())
    elif how != "missing":
        server.faults[listing] = [Fault(403 if how == "forbidden" else 503)]
    nbia(server, file, slices)
    row = dataset([replace(file, url="s3://b/p/")], "ricord", lists="ricord")
    services = Services(server.base, f"{server.base}/nbia/")
    outcome = fetch(row, tmp_path / "root", retry=HASTY, services=services)
    assert found(row, tmp_path / "root") == [file.path]
    (item,) = outcome.weak
    assert "getImage" in item.source
    assert fetch(row, tmp_path / "root").state == "complete"


def test_a_bucket_that_is_down_is_asked_once(server: Server, tmp_path: Path) -> None:
    file, slices = series(tmp_path)
    files = [
        replace(file, url=f"s3://b/{n}/", path=f"x/{n}", series_uid=f"1.{n}") for n in range(5)
    ]
    for item in files:
        nbia(server, item, slices)
        server.faults[f"/b?list-type=2&prefix={item.url[7:]}"] = [Fault(503)]
    services = Services(server.base, f"{server.base}/nbia")
    fetch(dataset(files), tmp_path / "root", parallel=1, retry=HASTY, services=services)
    assert sum(request.path.startswith("/b?") for request in server.requests) == 3
    assert len(contents(tmp_path / "root/nodule/x")) == 5 * 4


def test_both_ways_fail(server: Server, tmp_path: Path) -> None:
    file, slices = series(tmp_path)
    row = dataset([replace(file, url="s3://b/p/")], "ricord")
    services = Services(server.base, f"{server.base}/nbia")
    with pytest.raises(DataError, match=r"prefix=p.*404.*; and .*getImage.*404"):
        fetch(row, tmp_path / "root", retry=HASTY, services=services)
    nbia(server, file, dict(list(slices.items())[:2]))
    with pytest.raises(DataError, match="holds 2 slices, expected 3"):
        fetch(row, tmp_path / "root", retry=HASTY, services=services)
    nbia(server, file, slices)
    fetch(row, tmp_path / "root", retry=HASTY, services=services)
    assert state(row, tmp_path / "root/ricord") == "complete"


def small(server: Server, size: int | None) -> DataSet:
    url = server.put("/n.npz", b"x" * 1000)
    return dataset([RemoteFile(url, "nodulemnist3d.npz", size=size)])


def test_provide_fetches_what_is_small_enough(server: Server, tmp_path: Path) -> None:
    row = small(server, 1000)
    assert provide(row, tmp_path / "nodule", 1000)
    assert read_record(tmp_path / "nodule") is not None
    assert not provide(row, tmp_path / "nodule", 0)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("size", "limit", "reason"),
    [
        (1000, 999, "has 1.0 kB, data.fetch_at_most_gb allows 999 B"),
        (1000, 0, "data.fetch_at_most_gb allows nothing"),
    ],
)
def test_provide_asks_first(
    server: Server, tmp_path: Path, size: int | None, limit: int, reason: str
) -> None:
    with pytest.raises(DataError) as error:
        provide(small(server, size), tmp_path / "nodule", limit)
    assert reason in error.value.what
    assert "voxseq data download nodule" in error.value.hint
    assert "voxseq data show nodule" in error.value.hint
    assert not server.requests
    assert not list(tmp_path.iterdir())


def test_provide_asks_the_server_where_the_catalogue_states_no_size(
    server: Server, tmp_path: Path
) -> None:
    row = small(server, None)
    with pytest.raises(DataError, match=r"has 1\.0 kB, data.fetch_at_most_gb allows 999 B"):
        provide(row, tmp_path / "nodule", 999)
    assert not list(tmp_path.iterdir())
    assert provide(row, tmp_path / "nodule", 1000)


@pytest.mark.parametrize("name", ["rsna2022_csfd", "brats23", "flare23", "tcia_covid19"])
def test_provide_leaves_accounts_alone(tmp_path: Path, name: str) -> None:
    row = catalogue.get(name)
    with pytest.raises(DataError, match="account or work by hand"):
        provide(row, tmp_path / row.folder, 10**15)


def test_provide_uses_the_users_own_folder(tmp_path: Path) -> None:
    row = catalogue.get("rsna2022_csfd")
    (tmp_path / row.folder / "train_images").mkdir(parents=True)
    assert not provide(row, tmp_path / row.folder, 0)
    real = tmp_path / "elsewhere"
    real.mkdir()
    (real / "dataset.json").touch()
    (tmp_path / "linked").symlink_to(real)
    assert not provide(catalogue.get("task09_spleen"), tmp_path / "linked", 0)


def test_stated_sizes() -> None:
    sizes = {name: stated_size(row) for name, row in catalogue.CATALOGUE.items()}
    assert sizes["la"] == sum(file.size or 0 for file in lists.la_files())
    assert sizes["verse20"] is None
    assert sizes["isles2022"] == 1_692_717_470
