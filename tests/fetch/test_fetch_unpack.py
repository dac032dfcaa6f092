"""Archives: what is taken, what is refused, and that nothing of a refused one is used."""

from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.packing import HASTY, Site, contents, dataset, md5, tar, tar_entry, zipped
from voxseq.base.errors import DataError, IntegrityError, ResourceError
from voxseq.catalogue import RemoteFile
from voxseq.fetch import RECORD, FetchResult, fetch, read_record
from voxseq.fetch import unpack as module
from voxseq.fetch.paths import safe_path
from voxseq.fetch.staging import measured
from voxseq.fetch.unpack import unpack

FILES = {"a/one.bin": bytes(3000), "a/b/two.bin": bytes(range(256)), "three.txt": b"3"}
ZEROS = {"zeros": bytes(3_000_000)}
both = pytest.mark.parametrize("kind", ["tar", "zip"])


def packed(files: dict[str, bytes], kind: str) -> bytes:
    """An archive: "tar", "tar.gz" or "zip"."""
    return zipped(files) if kind == "zip" else tar(files, "w:gz" if kind == "tar.gz" else "w")


def call(site: Site, content: bytes, kind: str, **file: object) -> FetchResult:
    url = site.server.put(f"/data.{kind}", content)
    remote = RemoteFile(url, archive=kind, **file)  # type: ignore[arg-type]
    return fetch(dataset([remote]), site.root, retry=HASTY)


def refused(site: Site, content: bytes, kind: str, reason: str) -> DataError:
    """The archive is refused for this reason; nothing is left of it, and a good one is taken."""
    before = contents(site.root.parent)
    with pytest.raises(DataError, match=reason) as error:
        call(site, content, kind)
    assert f"/data.{kind}" in error.value.what
    assert error.value.hint
    assert not site.folder.exists()
    left = {name for name in contents(site.root.parent) if name not in before}
    assert all(name.endswith(".lock") for name in left), left
    assert call(site, packed(FILES, kind), kind).state == "fetched"
    assert tree(site) == FILES
    return error.value


def tree(site: Site) -> dict[str, bytes]:
    found = contents(site.folder)
    del found[RECORD]
    return found


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_tars(site: Site, mode: str, form: int) -> None:
    content = tar(FILES, mode, format=form)
    record = call(site, content, "tar").record
    assert tree(site) == FILES
    assert record is not None
    (item,) = record.fetched
    assert (item.files, item.bytes, item.size) == (3, 3257, len(content))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_zips(site: Site, method: int) -> None:
    call(site, zipped({**FILES, "empty/": b""}, method), "zip")
    assert tree(site) == FILES
    assert (site.folder / "empty").is_dir()


def test_what_systems_leave_is_left_out(site: Site) -> None:
    junk = {"__MACOSX/a/._one.bin": b"x", "a/._one.bin": b"x", ".DS_Store": b"x"}
    call(site, tar({**junk, **FILES}), "tar")
    assert tree(site) == FILES


def test_the_top_folder_can_be_stripped(site: Site) -> None:
    files = {f"Task09_Spleen/{name}": content for name, content in FILES.items()}
    call(site, tar(files | {"readme": b"stays"}), "tar", strip="Task09_Spleen", path="inner")
    assert tree(site) == {f"inner/{n}": c for n, c in (FILES | {"readme": b"stays"}).items()}


def remotes(site: Site, *parts: dict[str, bytes]) -> list[RemoteFile]:
    """One zip for each part."""
    return [
        RemoteFile(site.server.put(f"/{n}.zip", zipped(part)), archive="zip")
        for n, part in enumerate(parts)
    ]


def test_several_archives_share_folders(site: Site) -> None:
    parts = ({"Images/1.png": b"1", "LICENCE": b"x"}, {"Images/2.png": b"2", "LICENCE": b"x"})
    result = fetch(dataset(remotes(site, *parts)), site.root, retry=HASTY)
    assert tree(site) == parts[0] | parts[1]
    assert result.record == read_record(site.folder)
    assert result.record is not None
    # The licence counts once.
    assert [(item.files, item.bytes) for item in result.record.fetched] == [(2, 2), (1, 1)]


def test_archives_that_contradict_each_other(site: Site) -> None:
    files = remotes(site, {"same": b"\0"}, {"same": b"\1"})
    with pytest.raises(DataError, match=r"different versions of .*same"):
        fetch(dataset(files), site.root, retry=HASTY)
    assert not site.folder.exists()
    # One of them is corrected, under an address of its own.
    files[1] = RemoteFile(site.server.put("/new.zip", zipped({"other": b"1"})), archive="zip")
    fetch(dataset(files), site.root, retry=HASTY)
    assert tree(site) == {"same": b"\0", "other": b"1"}


BAD_NAMES = ["../out", "a/../../out", "/etc/out", "C:/out", "C:out", "..\\out", "\\\\host\\out"]
LONG_NAMES = {
    "a" * 300: "a part of 300 bytes, file systems allow 255",
    "folder/" + "ü" * 150 + "/file": "a part of 300 bytes",
    "d/" * 1500 + "file": "bytes, at most 2048 are allowed",
}


@pytest.mark.parametrize("name", BAD_NAMES)
@both
def test_names_that_lead_out(site: Site, kind: str, name: str) -> None:
    content = packed({"fine": b"1", name: b"evil"}, kind)
    error = refused(site, content, kind, "leads out of the data set's folder")
    assert repr(name) in error.what


@pytest.mark.parametrize("name", LONG_NAMES)
@both
def test_names_that_are_too_long(site: Site, kind: str, name: str) -> None:
    error = refused(site, packed({"fine": b"1", name: b"1"}, kind), kind, LONG_NAMES[name])
    assert "damaged" not in error.what
    assert "shorter names" in error.hint


@both
def test_names_of_the_greatest_length(site: Site, kind: str) -> None:
    files = {"a" * 255: b"1", f"d/{'ü' * 127}": b"2"}
    call(site, packed(files, kind), kind)
    assert tree(site) == files


def entries(*items: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tar_entry("fine", size=1), io.BytesIO(b"1"))
        for item in items:
            archive.addfile(item, io.BytesIO(b"evil"[: item.size]))
    return buffer.getvalue()


def odd_zip(mode: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("odd")
        info.external_attr = (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
PLACES = [(SYM, "/etc/passwd"), (SYM, "../../out"), (SYM, "fine"), (HARD, "../../out")]
THROUGH = entries(tar_entry("door", SYM, ".."), tar_entry("door/out", size=4))
DEVICES = (tarfile.BLKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        *(("tar", entries(tar_entry("x", *p)), "is a link") for p in [*PLACES, (HARD, "fine")]),
        ("tar", THROUGH, "is a link"),
        *(("tar", entries(tar_entry("x", device)), "is a device") for device in DEVICES),
        ("zip", odd_zip(stat.S_IFLNK), "is a link"),
        *(("zip", odd_zip(mode), "is a device") for mode in (stat.S_IFCHR, stat.S_IFIFO)),
    ],
)
def test_links_and_devices(site: Site, kind: str, content: bytes, reason: str) -> None:
    refused(site, content, kind, reason)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"twice": b"1", "./twice": b"2"}, "'./twice' is in it twice"),
        ({"a": b"1", "a/b": b"1"}, "a file and a folder"),
        ({"a/b": b"1", "a": b"1"}, "in it twice"),
    ],
)
@both
def test_members_in_one_place(site: Site, kind: str, files: dict[str, bytes], reason: str) -> None:
    refused(site, packed(files, kind), kind, reason)


def lying_zip() -> bytes:
    """A bomb whose headers state 10 bytes."""
    content, true = zipped(ZEROS), (3_000_000).to_bytes(4, "little")
    assert content.count(true) == 2
    return content.replace(true, (10).to_bytes(4, "little"))


def sparse_tar() -> bytes:
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
    return buffer.getvalue()


def endless_headers() -> bytes:
    header = tar_entry("pax", tarfile.XGLTYPE, size=1 << 19).tobuf(tarfile.GNU_FORMAT)
    record = b"99 comment=" + b"x" * 87 + b"\n"
    return gzip.compress((header + (record * (1 << 13))[: 1 << 19]) * 100)


HUGE_HEADER = tar_entry("pax", tarfile.XHDTYPE, size=1 << 33).tobuf(tarfile.GNU_FORMAT)
MANY = {f"{n}": b"1" for n in range(11)}
LEFT_OUT = [(n, k) for n in ("._junk", "__MACOSX/junk", ".DS_Store") for k in ("tar.gz", "zip")]
TABLE = dict.fromkeys(map(str, range(1000)), b"")
#: Kind, archive and reason, with a limit that is lowered for the test.
BOMBS: list[tuple[str, bytes, str, dict[str, int]]] = [
    ("zip", zipped(ZEROS), "unpacks to more than", {}),
    ("zip", lying_zip(), "unpacks to more|damaged", {}),
    ("tar", tar(ZEROS, "w:gz"), "unpacks to more than the 30..? kB", {}),
    ("tar", sparse_tar(), "unpacks to more than", {}),
    ("tar", gzip.compress(HUGE_HEADER + bytes(1 << 20)), "a header of 8589934592 bytes", {}),
    ("tar", endless_headers(), "headers without|damaged", {"_HEADERS": 1 << 20}),
    ("zip", zipped(TABLE), "a header of", {"_LONGEST_TABLE": 10_000}),
    ("tar", tar(MANY), "more than 10 members", {"MOST_MEMBERS": 10}),
    # Members that are left out are unpacked on the way to the next one, though not written.
    ("tar", tar({f"._{n}": b"" for n in MANY}), "more than 10 members", {"MOST_MEMBERS": 10}),
    *((k[:3], packed({n: bytes(3_000_000)}, k), "unpacks to more than", {}) for n, k in LEFT_OUT),
]


@pytest.mark.parametrize("number", range(len(BOMBS)))
def test_bombs(site: Site, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    kind, content, reason, limits = BOMBS[number]
    for limit, value in limits.items():
        monkeypatch.setattr(module, limit, value)
    refused(site, content, kind, reason)


def test_no_more_than_the_limit_is_written(tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(tar(ZEROS, "w:gz"))
    with pytest.raises(DataError, match="unpacks to more"):
        unpack(tmp_path / "bomb", "tar", tmp_path / "out", origin="x", limit=100_000)
    assert measured(tmp_path / "out")[1] <= 100_000


def test_a_declared_size_is_the_limit(site: Site) -> None:
    with pytest.raises(DataError, match=r"more than the 3\.0 MB it may"):
        call(site, zipped(ZEROS), "zip", unpacked_size=2_999_999)
    call(site, zipped(ZEROS), "zip", unpacked_size=3_000_000)
    assert tree(site) == ZEROS


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_archives_cut_short(site: Site, kind: str, share: float) -> None:
    """The server states no length, so that only the archive itself can tell."""
    files = {f"{n}.bin": os.urandom(2000) for n in range(4)}
    whole = packed(files, kind)
    # Of a tar without the padding at its end.
    end = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole)
    kind = kind.partition(".")[0]
    url = site.server.put(f"/data.{kind}", whole[: int(end * share)], length=False)
    row = dataset([RemoteFile(url, archive=kind)])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="damaged or cut short") as error:
        fetch(row, site.root, retry=HASTY)
    assert "fetched anew" in error.value.hint
    assert not site.folder.exists()
    site.server.put(f"/data.{kind}", whole, length=False)
    fetch(row, site.root, retry=HASTY)
    assert tree(site) == files


def changed(content: bytes, *changes: tuple[int, int]) -> bytes:
    """A zip with other bytes in these places; negative ones count from its table of contents."""
    new, table = bytearray(content), content.index(b"PK\1\2")
    for place, value in changes:
        new[place if place >= 0 else table - place] = value
    return bytes(new)


STORED = zipped({"one": bytes(range(1, 251)) * 8}, zipfile.ZIP_STORED)


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        # tarfile itself takes this for a whole archive.
        ("tar", tar({"one": bytes(512), "two": b"2"})[:1024], "it has no end"),
        ("zip", changed(STORED, (1000, 0)), "Bad CRC-32"),
        ("tar", b"<!DOCTYPE html><p>Please sign in", "begins with b'<!DOCTYPE html>"),
        ("zip", b"<!DOCTYPE html><p>Please sign in", "begins with b'<!DOCTYPE html>"),
        ("tar", tar({}), "holds no file"),
        ("zip", zipped({"folder/": b""}), "holds no file"),
        ("zip", changed(zipped({"one": b"1"}), (6, 1), (-8, 1)), "is encrypted"),
        # Deflate64.
        ("zip", changed(zipped({"one": b"1" * 100}), (8, 9), (-10, 9)), "compression"),
    ],
)
def test_damaged_archives(site: Site, kind: str, content: bytes, reason: str) -> None:
    error = refused(site, content, kind, reason)
    assert ("7-Zip" in error.hint) == (reason == "compression")


def test_a_wrong_archive_is_not_unpacked(site: Site) -> None:
    """The checksum comes first."""
    with pytest.raises(IntegrityError, match="the checksum is"):
        call(site, tar({"../out": b"evil"}), "tar", checksum=md5(tar({"one": b"1"})))


def test_too_little_room_to_unpack_keeps_the_archive(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zipped({"zeros": bytes(1_000_000)})
    usage = shutil.disk_usage("/")._replace(free=500_000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(ResourceError, match=r"unpacking .* needs 1.0 MB"):
            call(site, content, "zip", unpacked_size=2_000_000)
    call(site, content, "zip", unpacked_size=2_000_000)
    assert tree(site) == {"zeros": bytes(1_000_000)}
    assert len(site.server.requests) == 1


@both
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_disk_that_fails_condemns_no_archive(
    site: Site, monkeypatch: pytest.MonkeyPatch, kind: str, number: int
) -> None:
    content = packed(FILES, kind)

    class Broken(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            raise OSError(number, os.strerror(number))

    real = module._Bounded
    with monkeypatch.context() as patch:
        patch.setattr(module, "_Bounded", lambda _, *a: real(Broken(content), *a))
        with pytest.raises(ResourceError, match=r"\.archive: cannot be read"):
            call(site, content, kind)
    call(site, content, kind)
    assert tree(site) == FILES
    assert len(site.server.requests) == 1


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
    if any(a.startswith(f"{b}/") for a in files for b in files):
        return
    folder = tmp_path_factory.mktemp("tree")
    (folder / "archive").write_bytes(packed(files, kind))
    packing = "zip" if kind == "zip" else "tar"
    unpack(folder / "archive", packing, folder / "out", origin="x", limit=10_000)
    assert contents(folder / "out") == files
    assert measured(folder / "out") == (len(files), sum(map(len, files.values())))
