"""Archives: what is taken, what is refused, and that nothing of a refused one is used."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.packing import HASTY, contents, dataset, md5, tar, tar_entry, zipped
from tests.helpers.servers import Server
from voxseq.base.errors import DataError, ResourceError
from voxseq.catalogue import RemoteFile
from voxseq.fetch import FetchResult, fetch, read_record
from voxseq.fetch.paths import safe_path
from voxseq.fetch.staging import measured
from voxseq.fetch.unpack import unpack

FILES = {"a/one.bin": bytes(3000), "a/b/two.bin": bytes(range(256)), "three.txt": b"3"}


def call(server: Server, root: Path, content: bytes, kind: str, **file: object) -> FetchResult:
    url = server.put(f"/data.{kind}", content)
    remote = RemoteFile(url, archive=kind, **file)  # type: ignore[arg-type]
    return fetch(dataset([remote]), root, retry=HASTY)


def refused(
    server: Server, root: Path, content: bytes, kind: str, reason: str, **file: object
) -> DataError:
    """The archive is refused for this reason; nothing is left of it, and a good one is taken."""
    before = contents(root.parent)
    with pytest.raises(DataError, match=reason) as error:
        call(server, root, content, kind, **file)
    assert f"/data.{kind}" in error.value.what
    assert error.value.hint
    assert not (root / "nodule").exists()
    left = {name for name in contents(root.parent) if name not in before}
    assert all(name.endswith(".lock") for name in left), left
    good = tar(FILES) if kind == "tar" else zipped(FILES)
    assert call(server, root, good, kind).state == "fetched"
    assert tree(root) == FILES
    return error.value


def tree(root: Path) -> dict[str, bytes]:
    found = contents(root / "nodule")
    del found[".voxseq-fetch.json"]
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with room around it that must stay empty."""
    folder = tmp_path / "around" / "root"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_tars(server: Server, root: Path, mode: str, form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content in FILES.items():
            archive.addfile(tar_entry(name, size=len(content)), io.BytesIO(content))
    outcome = call(server, root, buffer.getvalue(), "tar")
    assert tree(root) == FILES
    assert outcome.record is not None
    (item,) = outcome.record.fetched
    assert (item.files, item.bytes) == (3, 3257)
    assert item.size == len(buffer.getvalue())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_zips(server: Server, root: Path, method: int) -> None:
    call(server, root, zipped({**FILES, "empty/": b""}, method), "zip")
    assert tree(root) == FILES
    assert (root / "nodule" / "empty").is_dir()


def test_what_systems_leave_is_left_out(server: Server, root: Path) -> None:
    junk = {"__MACOSX/a/._one.bin": b"x", "a/._one.bin": b"x", ".DS_Store": b"x"}
    call(server, root, tar({**junk, **FILES}), "tar")
    assert tree(root) == FILES


def test_the_top_folder_can_be_stripped(server: Server, root: Path) -> None:
    packed = {f"Task09_Spleen/{name}": content for name, content in FILES.items()}
    packed["readme"] = b"stays"
    call(server, root, tar(packed), "tar", strip="Task09_Spleen", path="inner")
    assert tree(root) == {f"inner/{n}": c for n, c in (FILES | {"readme": b"stays"}).items()}


def test_several_archives_share_folders(server: Server, root: Path) -> None:
    parts = [{"Images/1.png": b"1", "LICENCE": b"x"}, {"Images/2.png": b"2", "LICENCE": b"x"}]
    files = [
        RemoteFile(server.put(f"/{n}.zip", zipped(part)), archive="zip")
        for n, part in enumerate(parts)
    ]
    outcome = fetch(dataset(files), root, retry=HASTY)
    assert tree(root) == {"Images/1.png": b"1", "Images/2.png": b"2", "LICENCE": b"x"}
    assert outcome.record == read_record(root / "nodule")
    assert outcome.record is not None
    # The licence counts once.
    assert [(item.files, item.bytes) for item in outcome.record.fetched] == [(2, 2), (1, 1)]


def test_archives_that_contradict_each_other(server: Server, root: Path) -> None:
    files = [
        RemoteFile(server.put(f"/{n}.zip", zipped({"same": bytes([n])})), archive="zip")
        for n in range(2)
    ]
    with pytest.raises(DataError, match=r"different versions of .*same"):
        fetch(dataset(files), root, retry=HASTY)
    assert not (root / "nodule").exists()
    # One of them is corrected, under an address of its own.
    files[1] = RemoteFile(server.put("/new.zip", zipped({"other": b"1"})), archive="zip")
    fetch(dataset(files), root, retry=HASTY)
    assert tree(root) == {"same": b"\0", "other": b"1"}


BAD_NAMES = ["../out", "a/../../out", "/etc/out", "C:/out", "C:out", "..\\out", "\\\\host\\out"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_lead_out(server: Server, root: Path, kind: str, name: str) -> None:
    pack: Callable[[dict[str, bytes]], bytes] = tar if kind == "tar" else zipped
    content = pack({"fine": b"1", name: b"evil"})
    error = refused(server, root, content, kind, "leads out of the data set's folder")
    assert repr(name) in error.what


def entries(*items: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tar_entry("fine", size=1), io.BytesIO(b"1"))
        for item in items:
            archive.addfile(item, io.BytesIO(b"evil"[: item.size]))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (tar_entry("link", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (tar_entry("link", tarfile.SYMTYPE, "../../out"), "is a link"),
        (tar_entry("link", tarfile.SYMTYPE, "fine"), "is a link"),
        (tar_entry("link", tarfile.LNKTYPE, "../../out"), "is a link"),
        (tar_entry("link", tarfile.LNKTYPE, "fine"), "is a link"),
        (tar_entry("disk", tarfile.BLKTYPE), "is a device"),
        (tar_entry("tty", tarfile.CHRTYPE), "is a device"),
        (tar_entry("pipe", tarfile.FIFOTYPE), "is a device"),
    ],
)
def test_links_and_devices_in_tars(
    server: Server, root: Path, item: tarfile.TarInfo, reason: str
) -> None:
    refused(server, root, entries(item), "tar", reason)


def test_writing_through_a_link(server: Server, root: Path) -> None:
    link = tar_entry("door", tarfile.SYMTYPE, str(root.parent))
    refused(server, root, entries(link, tar_entry("door/out", size=4)), "tar", "is a link")


@pytest.mark.parametrize(
    ("mode", "reason"),
    [(stat.S_IFLNK, "is a link"), (stat.S_IFCHR, "is a device"), (stat.S_IFIFO, "is a device")],
)
def test_links_and_devices_in_zips(server: Server, root: Path, mode: int, reason: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("odd")
        info.external_attr = (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(server, root, buffer.getvalue(), "zip", reason)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_that_come_twice(server: Server, root: Path, kind: str) -> None:
    one, two = {"twice": b"1"}, {"./twice": b"2"}
    content = tar({**one, **two}) if kind == "tar" else zipped({**one, **two})
    refused(server, root, content, kind, "'./twice' is in it twice")


@pytest.mark.parametrize("order", [["a", "a/b"], ["a/b", "a"]])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_that_is_a_file_and_a_folder(
    server: Server, root: Path, kind: str, order: list[str]
) -> None:
    files = dict.fromkeys(order, b"1")
    content = tar(files) if kind == "tar" else zipped(files)
    refused(server, root, content, kind, "a file and a folder|in it twice")


def test_a_zip_bomb(server: Server, root: Path) -> None:
    """Headers tell: nothing is written."""
    refused(server, root, zipped({"zeros": bytes(3_000_000)}), "zip", "unpacks to more than")


def test_a_zip_bomb_whose_headers_lie(server: Server, root: Path) -> None:
    """Neither more than it says nor more than it may is written."""
    content = zipped({"zeros": bytes(3_000_000)})
    true, small = (3_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    assert content.count(true) == 2
    refused(server, root, content.replace(true, small), "zip", "unpacks to more|damaged")


def test_a_compressed_tar_bomb(server: Server, root: Path, tmp_path: Path) -> None:
    content = tar({"zeros": bytes(3_000_000)}, "w:gz")
    refused(server, root, content, "tar", "unpacks to more than the 30..? kB")
    archive = tmp_path / "bomb"
    archive.write_bytes(content)
    with pytest.raises(DataError, match="unpacks to more"):
        unpack(archive, "tar", tmp_path / "out", origin="x", limit=100_000)
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written <= 100_000


def test_a_sparse_tar_bomb(server: Server, root: Path) -> None:
    """A member of a terabyte that takes 1 kB of the archive."""
    entry = tar_entry("sparse")
    entry.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": f"0,0,{10**12},0",
        "GNU.sparse.size": str(10**12),
        "GNU.sparse.name": "sparse",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(entry)
    refused(server, root, buffer.getvalue(), "tar", "unpacks to more than")


def test_a_tar_header_that_asks_for_all_memory(server: Server, root: Path) -> None:
    header = tar_entry("pax", tarfile.XHDTYPE, size=1 << 33).tobuf(tarfile.GNU_FORMAT)
    content = gzip.compress(header + bytes(1 << 20))
    refused(server, root, content, "tar", "a header of 8589934592 bytes")


def test_a_declared_size_is_the_limit(server: Server, root: Path) -> None:
    zeros = zipped({"zeros": bytes(3_000_000)})
    with pytest.raises(DataError, match=r"more than the 3\.0 MB it may"):
        call(server, root, zeros, "zip", unpacked_size=2_999_999)
    call(server, root, zeros, "zip", unpacked_size=3_000_000)
    assert tree(root) == {"zeros": bytes(3_000_000)}


def test_the_number_of_members_is_limited(
    server: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxseq.fetch.unpack.MOST_MEMBERS", 10)
    many = {f"{n}": b"1" for n in range(11)}
    refused(server, root, tar(many), "tar", "more than 10 members")


def cut(content: bytes, kind: str, share: float) -> bytes:
    """A beginning of the archive; of a tar without the padding at its end."""
    end = len(content.rstrip(b"\0")) if kind == "tar" else len(content)
    return content[: int(end * share)]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_archives_cut_short(server: Server, root: Path, kind: str, share: float) -> None:
    """The server states no length, so that only the archive itself can tell."""
    files = {f"{n}.bin": os.urandom(2000) for n in range(4)}
    whole = zipped(files) if kind == "zip" else tar(files, "w:gz" if kind == "tar.gz" else "w")
    content, kind = cut(whole, kind, share), kind.partition(".")[0]
    url = server.put(f"/data.{kind}", content, length=False)
    remote = RemoteFile(url, archive=kind)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="damaged or cut short") as error:
        fetch(dataset([remote]), root, retry=HASTY)
    assert "fetched anew" in error.value.hint
    assert not (root / "nodule").exists()
    server.put(f"/data.{kind}", whole, length=False)
    fetch(dataset([remote]), root, retry=HASTY)
    assert tree(root) == files


def test_a_tar_cut_between_two_members(server: Server, root: Path) -> None:
    """tarfile itself takes this for a whole archive."""
    content = tar({"one": bytes(512), "two": b"2"})[:1024]
    refused(server, root, content, "tar", "it has no end")


def test_bytes_of_a_zip_that_changed(server: Server, root: Path) -> None:
    content = bytearray(zipped({"one": os.urandom(2000)}, zipfile.ZIP_STORED))
    content[1000] ^= 1
    refused(server, root, bytes(content), "zip", "Bad CRC-32")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_web_page_instead_of_an_archive(server: Server, root: Path, kind: str) -> None:
    refused(
        server, root, b"<!DOCTYPE html><p>Please sign in", kind, "begins with b'<!DOCTYPE html>"
    )


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_without_a_file(server: Server, root: Path, kind: str) -> None:
    content = tar({}) if kind == "tar" else zipped({"folder/": b""})
    refused(server, root, content, kind, "holds no file")


def test_an_encrypted_zip(server: Server, root: Path) -> None:
    content = bytearray(zipped({"one": b"1"}))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    refused(server, root, bytes(content), "zip", "is encrypted")


def test_a_compression_that_python_does_not_know(server: Server, root: Path) -> None:
    content = bytearray(zipped({"one": b"1" * 100}))
    deflate64 = 9
    content[8] = content[content.index(b"PK\1\2") + 10] = deflate64
    error = refused(server, root, bytes(content), "zip", "compression")
    assert "7-Zip" in error.hint


def test_a_wrong_archive_is_not_unpacked(server: Server, root: Path) -> None:
    """The checksum comes first."""
    content = tar({"../out": b"evil"})
    refused(server, root, content, "tar", "leads out")
    good = tar({"one": b"1"})
    other = root.parent.parent / "second"
    with pytest.raises(Exception, match="the checksum is"):
        call(server, other, content, "tar", checksum=md5(good))


def test_too_little_room_to_unpack_keeps_the_archive(
    server: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zipped({"zeros": bytes(1_000_000)})
    usage = shutil.disk_usage(root)._replace(free=500_000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(ResourceError, match=r"unpacking .* needs 1.0 MB"):
            call(server, root, content, "zip", unpacked_size=2_000_000)
    call(server, root, content, "zip", unpacked_size=2_000_000)
    assert tree(root) == {"zeros": bytes(1_000_000)}
    assert len(server.requests) == 1


@given(st.text("ab./\\:C\0", min_size=1, max_size=12))
def test_a_safe_path_never_leaves_its_folder(name: str) -> None:
    top = Path("/data/set")
    try:
        path = safe_path(name, "x")
    except DataError:
        return
    place = Path(os.path.normpath(top / path))
    assert place == top or top in place.parents


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join),
        st.binary(max_size=700),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["tar", "tar.gz", "zip"]),
)
def test_any_tree_comes_back(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], kind: str
) -> None:
    names = list(files)
    if any(a != b and a.startswith(f"{b}/") for a in names for b in names):
        return
    folder = tmp_path_factory.mktemp("tree")
    packed = zipped(files) if kind == "zip" else tar(files, "w:gz" if kind == "tar.gz" else "w")
    (folder / "archive").write_bytes(packed)
    packing = "zip" if kind == "zip" else "tar"
    unpack(folder / "archive", packing, folder / "out", origin="x", limit=10_000)
    assert contents(folder / "out") == files
    assert measured(folder / "out") == (len(files), sum(map(len, files.values())))
