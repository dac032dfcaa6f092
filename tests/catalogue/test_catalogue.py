"""The catalogue: complete rows, addresses and checksums of the right form, and honest counts."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pytest

from voxseq import catalogue
from voxseq.base.errors import ConfigError, DataError
from voxseq.catalogue import CATALOGUE, DECATHLON, DataSet, RemoteFile, lists
from voxseq.catalogue.datasets import other_sources, spatial
from voxseq.catalogue.document import PAGE, size_text, tables, with_tables
from voxseq.data import layouts as adapters
from voxseq.data.layouts import ricord

ROWS = sorted(CATALOGUE.values(), key=lambda row: row.name)
DIGITS = {"md5": 32, "sha256": 64, "git": 40}
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def test_it_has_the_sources_and_tasks_of_the_paper() -> None:
    assert len(spatial.rows()) == 12
    assert [row.name for row in other_sources.rows()] == ["brats23", "deeplesion", "dicom_ct"]
    paper = {
        "task03_liver",
        "task06_lung",
        "task07_pancreas",
        "task08_hepaticvessel",
        "task09_spleen",
        "task10_colon",
        "la",
        "ricord",
        "nodule",
    }
    tasks = {row.name for row in ROWS if row.role in ("task", "both")}
    assert tasks == paper | {"task04_hippocampus"}


def test_tasks_of_the_decathlon_are_known_as_such() -> None:
    members = {name for name, row in CATALOGUE.items() if row.collection == DECATHLON}
    assert members == {name for name, row in CATALOGUE.items() if row.folder.startswith("msd/")}
    assert len(members) == 7


def test_names_titles_and_folders_are_unique() -> None:
    for field in ("name", "title", "folder"):
        count = Counter(getattr(row, field) for row in ROWS)
        assert max(count.values()) == 1, field
    assert all(name == row.name for name, row in CATALOGUE.items())
    folders = [PurePosixPath(row.folder) for row in ROWS]
    assert not any(a in b.parents for a in folders for b in folders)


@each_row
def test_every_row_can_be_obtained_and_says_so(row: DataSet) -> None:
    assert catalogue.how_to_obtain(row)
    assert row.adapter in adapters.NAMES
    assert row.licence
    assert row.source
    assert row.version
    assert row.layout
    if row.access in ("open", "bucket", "tcia"):
        assert row.files
    else:
        assert row.steps
        assert not row.files
    assert bool(row.client) == (row.access == "account")
    assert all(re.fullmatch(r"kaggle:[\w-]+|synapse:syn\d+", client) for client in row.client)
    assert all(step.strip() == step and step for step in row.steps)


@each_row
def test_what_is_not_stated_is_named_as_unconfirmed(row: DataSet) -> None:
    text = "; ".join(row.unconfirmed)
    if not row.citation:
        return
    assert ("licence" in text) == row.licence.startswith("unconfirmed")
    assert row.size is not None or "size" in text
    assert row.volumes is not None or "number of" in text
    if any(not file.checksum for file in row.files):
        assert "checksum" in text


@each_row
def test_addresses_and_checksums_have_their_form(row: DataSet) -> None:
    for file in row.files:
        _check_form(row, file)


def _check_form(row: DataSet, file: RemoteFile) -> None:
    parts = urlsplit(file.url)
    assert parts.scheme in ("https", "s3")
    assert parts.netloc
    assert parts.path.strip("/")
    path = PurePosixPath(file.path)
    assert not path.is_absolute()
    assert ".." not in path.parts
    if file.checksum:
        kind, digits = file.checksum.split(":")
        assert re.fullmatch(rf"[0-9a-f]{{{DIGITS[kind]}}}", digits)
    if parts.scheme == "s3":
        assert file.url.endswith("/")
        assert row.access == "bucket"
        assert file.path
    elif file.archive:
        assert unquote(parts.path).endswith(f".{file.archive}")
    else:
        assert unquote(parts.path).endswith(f"/{path.name}")
    assert file.size is None or file.size > 0


@each_row
def test_addresses_and_places_are_unique_and_sizes_add_up(row: DataSet) -> None:
    assert len({file.url for file in row.files}) == len(row.files)
    plain = [file.path for file in row.files if not file.archive]
    assert len(set(plain)) == len(plain)
    checksums = [file.checksum for file in row.files if file.checksum]
    assert len(set(checksums)) == len(checksums)
    sizes = [file.size for file in row.files]
    known = [size for size in sizes if size is not None]
    if known and len(known) == len(sizes):
        assert row.size == sum(known)
    elif row.size is not None:
        assert sum(known) <= row.size


@each_row
def test_classes_agree_with_the_options_of_the_reader(row: DataSet) -> None:
    assert len(row.classes) == row.options.get("labels", 0)


def test_published_lists_are_complete() -> None:
    la = CATALOGUE["la"]
    split = lists.files_for("la")
    cases = [case for text in split.values() for case in text.decode().split()]
    assert [len(split[f"{part}.list"].split()) for part in ("train", "test")] == [80, 20]
    assert sorted(PurePosixPath(file.path).parent.name for file in la.files) == sorted(cases)
    assert la.size == 233_092_988

    series = CATALOGUE["ricord"]
    assert series.size is not None
    assert size_text(series.size) == "20.3 GB"
    assert sum(file.objects or 0 for file in series.files) == 52_911
    assert len({file.series_uid for file in series.files}) == series.volumes == 330
    assert len(CATALOGUE["deeplesion"].files) == 56


def test_every_line_of_the_ricord_lists_is_one_of_the_series(tmp_path: Path) -> None:
    for name, content in lists.files_for("ricord").items():
        (tmp_path / name).write_bytes(content)
    listed = [
        item for part in ("train", "val", "test") for item in ricord._read_list(tmp_path, part)
    ]
    ends = Counter(item.key[3] for item in listed)
    assert ends == Counter(file.series_uid[-5:] for file in CATALOGUE["ricord"].files)
    assert Counter((i.split, i.label) for i in listed) == {
        ("train", 1): 120,
        ("train", 0): 74,
        ("val", 1): 29,
        ("val", 0): 23,
        ("test", 1): 61,
        ("test", 0): 23,
    }


def test_lists_of_another_name_do_not_exist() -> None:
    with pytest.raises(ValueError, match="la, ricord"):
        lists.files_for("nodule")
    named = {row.name for row in ROWS if row.lists}
    assert named == {"la", "ricord"}
    assert all(lists.files_for(CATALOGUE[name].lists) for name in named)


def test_overlaps_are_mutual() -> None:
    for row in ROWS:
        assert row.name not in row.overlaps
        assert all(row.name in CATALOGUE[other].overlaps for other in row.overlaps)
    assert "task09_spleen" in CATALOGUE["abdomenct1k"].overlaps
    assert not CATALOGUE["nodule"].overlaps


@pytest.mark.parametrize(
    ("name", "near"),
    [("ribfrak", "ribfrac"), ("Task06_Lungs", "task06_lung"), ("brats", "brats23"), ("LA", "la")],
)
def test_an_unknown_name_suggests_the_near_miss(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
        catalogue.get(name)


def test_a_name_like_no_other_lists_them_all() -> None:
    with pytest.raises(ConfigError, match="the names are ribfrac, "):
        catalogue.get("qqqqqqq")


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("task09_spleen", 41, []),
        ("task09_spleen", 2, ["2 of 41 published images are there"]),
        ("task06_lung", 63, ["the paper states 64 images, the published data set has 63"]),
        ("task06_lung", 64, ["64 images are there, 1 more than are published"]),
        (
            "task07_pancreas",
            280,
            [
                "280 of 281 published images are there",
                "the paper states 282 images, the published data set has 281",
            ],
        ),
        ("abdomenct1k", 5, []),
        ("brats23", 11_980, []),
    ],
)
def test_differences_of_counts_are_told(name: str, found: int, expected: list[str]) -> None:
    assert catalogue.count_notes(CATALOGUE[name], found) == expected


def test_steps_name_the_command_once_and_in_order() -> None:
    assert catalogue.how_to_obtain(CATALOGUE["la"]) == ["voxseq data download la"]
    lesion = catalogue.how_to_obtain(CATALOGUE["deeplesion"])
    assert lesion[0] == "voxseq data download deeplesion"
    assert "DL_info.csv" in lesion[1]
    # The form comes before the images.
    abdomen = catalogue.how_to_obtain(CATALOGUE["abdomenct1k"])
    assert abdomen[-1] == "voxseq data download abdomenct1k"
    assert len(abdomen) == 2


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "unconfirmed"),
        (12, "12 B"),
        (233_092_988, "233 MB"),
        (28_925_891_584, "28.9 GB"),
        (1_500_000_000_000, "1.5 TB"),
    ],
)
def test_sizes_are_in_decimal_units(size: int | None, text: str) -> None:
    assert size_text(size) == text


def test_the_page_of_data_sets_is_up_to_date(root: Path) -> None:
    written = (root / PAGE).read_text(encoding="utf-8")
    wanted = with_tables(written)
    diff = "\n".join(
        difflib.unified_diff(
            written.splitlines(), wanted.splitlines(), str(PAGE), "catalogue", lineterm="", n=1
        )
    )
    assert not diff, f"{PAGE} is stale; repair it with: voxseq data docs --write\n{diff}"
    assert all(f"`{row.name}`" in written for row in ROWS)


def test_a_page_without_its_blocks_is_refused() -> None:
    with pytest.raises(DataError, match="spatial layouts"):
        with_tables("# Data sets\n")


def test_tables_have_a_cell_for_every_column() -> None:
    for name, text in tables().items():
        if name.endswith("unconfirmed"):
            continue
        cells = {len(re.split(r"(?<!\\)\|", line)) for line in text.splitlines()}
        assert len(cells) == 1, name
