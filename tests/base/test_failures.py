"""Which errors are the machine's, and how they are said; files that are read with care."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.failing import fail_open
from voxseq.base.errors import DataError, ResourceError
from voxseq.base.failures import (
    failures_named,
    machine_code,
    read_named,
    require_readable,
    write_named,
)
from voxseq.base.files import atomic_path, files_below, named, read_json, read_text, sha256, size_of

OF_THE_MACHINE = (
    *("EIO", "ESTALE", "EACCES", "EPERM", "EROFS", "EBUSY", "EMFILE", "ENFILE", "ENOSPC", "EDQUOT"),
    *("ENOMEM", "EINTR", "ECONNRESET", "EREMOTEIO", "ETIMEDOUT", "ENOTCONN", "ENODEV", "EUCLEAN"),
)
OF_THE_FILE = ("ENOENT", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP", "EINVAL", "EEXIST")


def failure(name: str) -> OSError:
    code = getattr(errno, name)
    return OSError(code, os.strerror(code))


def wrapped(error: Exception) -> Exception:
    """As zipfile does: the system's error is only what came before."""
    try:
        try:
            raise error
        except Exception:
            raise zipfile.BadZipFile("File is not a zip file") from None
    except Exception as outer:
        return outer


@pytest.mark.parametrize("name", OF_THE_MACHINE)
def test_an_error_of_the_machine_names_the_file_and_the_next_step(name: str) -> None:
    with pytest.raises(ResourceError) as caught, read_named(Path("marker.json")):
        raise failure(name)
    assert "marker.json" in caught.value.what
    assert "start again" in caught.value.hint
    assert machine_code(wrapped(failure(name))) == getattr(errno, name)


@pytest.mark.parametrize("name", OF_THE_FILE)
def test_an_error_of_the_file_passes(name: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"Errno"), read_named(tmp_path):
        raise failure(name)
    assert machine_code(failure(name)) is None
    assert machine_code(wrapped(failure(name))) is None


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("I/O error: Input/output error (os error 5)", errno.EIO),
        ("Unable to open file (name = 'x', errno = 5, error message = '…')", errno.EIO),
        ("Error reading bytes from file. Detail: [errno 5] Input/output error", errno.EIO),
        ("SimpleITK: file cannot be read. Reason: Input/output error", errno.EIO),
        *(
            (words, None)
            for words in ("(os error 2)", "errno = 2, 'No such file'", "truncated", "")
        ),
    ],
)
def test_errors_that_libraries_put_into_words(said: str, code: int | None) -> None:
    assert machine_code(RuntimeError(said)) == code
    assert code or machine_code(OSError(said)) is None


def test_no_memory_is_said_with_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(ResourceError, match=r"out of memory .*x\.npy"),
        read_named(tmp_path / "x.npy"),
    ):
        raise MemoryError
    torch = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. "
    with pytest.raises(ResourceError, match="out of memory"), failures_named(tmp_path):
        raise RuntimeError(torch + "Error code 12 (Cannot allocate memory)")


def test_our_own_errors_pass(tmp_path: Path) -> None:
    for context in (read_named, write_named, failures_named):
        with pytest.raises(DataError, match="mine"), context(tmp_path):
            raise DataError("mine")


def test_what_is_gone_in_the_middle_of_work_is_no_fault_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught, failures_named(tmp_path):
        (tmp_path / "gone").read_text()
    assert f"{tmp_path / 'gone'}: is gone" in caught.value.what
    assert "another call" in caught.value.hint


def test_a_new_file_is_named_as_it_will_be(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("before")
    expected = pytest.raises(ResourceError, match=r"table\.csv: cannot be written")
    with expected, atomic_path(path) as temporary:
        raise OSError(errno.EIO, "Input/output error", str(temporary))
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_readers_of_files_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    fail_open(monkeypatch, path, errno.EMFILE, times=99)
    for read in (read_text, read_json, sha256, require_readable):
        with pytest.raises(ResourceError, match=r"x\.json: cannot be read \(Too many open files\)"):
            read(path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_listed_is_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/x").write_text("x")
    assert files_below(tmp_path) == [tmp_path / "inner/x"]
    assert named(tmp_path, "in*") == [tmp_path / "inner"]
    assert named(tmp_path / "nothing", "*") == []

    def fail(path: Any = ".") -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "scandir", fail)
    monkeypatch.setattr(os, "listdir", fail)
    for listing in (files_below, lambda folder: named(folder, "*")):
        with pytest.raises(ResourceError, match=os.strerror(code)):
            listing(tmp_path)


def test_what_is_no_file_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    for name in ("", "nothing", "link", "nothing/below", "n" * 300, "zero\0", "\ud800"):
        assert size_of(tmp_path / name) is None


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "\xff", "nan nan", ""])
def test_json_that_is_none_is_a_value_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r".") as caught:
        read_json(path)
    assert not isinstance(caught.value, RecursionError)
