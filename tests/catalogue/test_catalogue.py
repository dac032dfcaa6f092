"""The catalogue: complete rows, addresses and checksums of the right form, and honest counts."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from ruamel.yaml import YAML

from tests.helpers import ROOT, trees
from voxseq import catalogue
from voxseq.base.errors import ConfigError, DataError, IntegrityError
from voxseq.catalogue import CATALOGUE, DECATHLON, GROUPS, DataSet, RemoteFile, lists, read_rows
from voxseq.catalogue.document import PAGE, size_text, tables, with_tables
from voxseq.cli.data import how_to_obtain
from voxseq.data.index import read_index
from voxseq.data.layouts import ricord

ROWS = sorted(CATALOGUE.values(), key=lambda row: row.name)
DIGITS = {"md5": 32, "sha256": 64, "git": 40}
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
#: The page that tells how to add a data set, and the row that it shows.
ADDING = (ROOT / "docs/adding-a-dataset.md").read_text(encoding="utf-8")
ADDED = YAML(typ="safe").load(ADDING.split("```yaml\n")[1].split("```")[0])


def test_it_has_the_sources_and_tasks_of_the_paper() -> None:
    assert len(GROUPS["spatial"]) == 12
    assert GROUPS["other"] == ["brats23", "deeplesion", "dicom_ct"]
    numbers = ("03_liver", "06_lung", "07_pancreas", "08_hepaticvessel", "09_spleen", "10_colon")
    paper = {*(f"task{number}" for number in numbers), "la", "ricord", "nodule"}
    tasks = {row.name for row in ROWS if row.role in ("task", "both")}
    assert tasks == {*GROUPS["tasks"]} == paper | {"task04_hippocampus"}
    members = {name for name, row in CATALOGUE.items() if row.collection == DECATHLON}
    assert members == {name for name in tasks if CATALOGUE[name].folder.startswith("msd/")}
    assert len(members) == 7


def test_names_titles_and_folders_are_unique() -> None:
    for field in ("name", "title", "folder"):
        count = Counter(getattr(row, field) for row in ROWS)
        assert max(count.values()) == 1, field
    assert all(name == row.name for name, row in CATALOGUE.items())
    folders = [PurePosixPath(row.folder) for row in ROWS]
    assert not any(a in b.parents for a in folders for b in folders)


def test_the_file_has_no_duplicate_keys_and_is_the_same_in_yaml_1_2() -> None:
    """ruamel refuses duplicates; the fast loader, of YAML 1.1, takes the last."""
    content = YAML(typ="safe").load((lists.PACKAGE / "datasets.yaml").read_text(encoding="utf-8"))
    facts = {name: row for group in GROUPS for name, row in content[group].items()}
    assert read_rows(facts, "datasets.yaml") == CATALOGUE
    named = {other for row in facts.values() for other in row.get("overlaps", ())}
    assert named <= CATALOGUE.keys()


@each_row
def test_every_row_can_be_obtained_and_says_so(row: DataSet) -> None:
    assert how_to_obtain(row)
    assert row.paths
    if row.access in ("open", "bucket", "tcia"):
        assert row.files
    else:
        assert row.steps
        assert not row.files
    assert bool(row.client) == (row.access == "account")
    assert all(re.fullmatch(r"kaggle:[\w-]+|synapse:syn\d+", client) for client in row.client)
    assert all(step.strip() == step and step for step in row.steps)
    # No source settles what is not stated.
    text = "; ".join(row.unconfirmed)
    assert row.licence
    assert row.source
    assert row.version
    if row.citation:
        assert ("licence" in text) == row.licence.startswith("unconfirmed")
        assert row.size is not None or "size" in text
        assert row.volumes is not None or "number of" in text
        assert all(file.checksum for file in row.files) or "checksum" in text


@each_row
def test_addresses_and_checksums_have_their_form(row: DataSet) -> None:
    for file in row.files:
        _check_form(row, file)
    assert len({file.url for file in row.files}) == len(row.files)
    plain = [file.path for file in row.files if not file.archive]
    assert len(set(plain)) == len(plain)
    checksums = [file.checksum for file in row.files if file.checksum]
    assert len(set(checksums)) == len(checksums)
    sizes = [file.size for file in row.files]
    known = [size for size in sizes if size is not None]
    if known and len(known) == len(sizes):
        assert row.size == sum(known)
        assert row.download is None
    elif row.size is not None:
        assert sum(known) <= row.size


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


def test_published_lists_are_complete() -> None:
    la = CATALOGUE["la"]
    split = lists.files_for("la")
    cases = [case for text in split.values() for case in text.decode().split()]
    assert [len(split[f"{part}.list"].split()) for part in ("train", "test")] == [80, 20]
    assert sorted(PurePosixPath(file.path).parent.name for file in la.files) == sorted(cases)
    assert la.parts == (80, 0, 20)
    assert la.size == 233_092_988

    series = CATALOGUE["ricord"]
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
    row = CATALOGUE["ricord"]
    ends = Counter(item.key[3] for item in listed)
    assert ends == Counter(file.series_uid[-5:] for file in row.files)
    found = Counter((i.split, i.label) for i in listed)
    classes = {"train": (74, 120), "val": (23, 29), "test": (23, 61)}
    assert found == {(s, label): n for s, both in classes.items() for label, n in enumerate(both)}
    assert row.parts == tuple(map(sum, classes.values()))


def test_lists_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {row.name for row in ROWS if row.lists} == {"la", "ricord"}
    with pytest.raises(ValueError, match="la, ricord"):
        lists.files_for("nodule")
    with pytest.raises(IntegrityError, match=r"published_lists/none\.tsv is missing"):
        lists.table("none.tsv")


def test_overlaps_are_mutual() -> None:
    for row in ROWS:
        assert row.name not in row.overlaps
        assert all(row.name in CATALOGUE[other].overlaps for other in row.overlaps)
    assert "task09_spleen" in CATALOGUE["abdomenct1k"].overlaps
    assert not CATALOGUE["nodule"].overlaps


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ribfrak", "did you mean 'ribfrac'"),
        ("Task06_Lungs", "did you mean 'task06_lung'"),
        ("brats", "did you mean 'brats23'"),
        ("LA", "did you mean 'la'"),
        ("qqqqqqq", "the names are ribfrac, "),
    ],
)
def test_an_unknown_name_suggests_the_near_miss(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=near):
        catalogue.get(name)


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
    assert how_to_obtain(CATALOGUE["la"]) == ["voxseq data download la"]
    lesion = how_to_obtain(CATALOGUE["deeplesion"])
    assert lesion[0] == "voxseq data download deeplesion"
    assert "DL_info.csv" in lesion[1]
    # The form comes before the images.
    abdomen = how_to_obtain(CATALOGUE["abdomenct1k"])
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


def test_the_page_of_data_sets_is_up_to_date() -> None:
    written = (ROOT / PAGE).read_text(encoding="utf-8")
    wanted = with_tables(written)
    both = (written.splitlines(), wanted.splitlines(), str(PAGE), "catalogue")
    diff = "\n".join(difflib.unified_diff(*both, lineterm="", n=1))
    assert not diff, f"{PAGE} is stale; repair it with: voxseq data docs --write\n{diff}"
    assert all(f"`{row.name}`" in written for row in ROWS)
    for name, text in tables().items():
        cells = {len(re.split(r"(?<!\\)\|", line)) for line in text.splitlines()}
        assert len(cells) == 1 or name.endswith("unconfirmed"), name
    with pytest.raises(DataError, match="spatial layouts"):
        with_tables("# Data sets\n")


def test_a_data_set_is_added_by_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of docs/adding-a-dataset.md, and files at the path that it names."""
    (name, facts), *others = ADDED.items()
    assert not others
    monkeypatch.setitem(CATALOGUE, name, read_rows(ADDED, "the page")[name])
    for case in range(2):
        path = f"data/case_0000{case}/imaging.nii.gz"
        trees.write_nifti(tmp_path / "data" / facts["folder"] / path, trees.image(seed=case))
    index = read_index(trees.run_download(tmp_path / "data", tmp_path, name))
    assert list(index["subject"]) == ["case_00000", "case_00001"]
    assert set(index["image"]) == {"imaging"}
    assert set(index["modality"]) == {"CT"}


def test_a_short_row_is_enough_and_every_key_of_the_page_exists() -> None:
    needed = {key: ADDED["kits19"][key] for key in ("modality", "layout", "folder", "options")}
    row = read_rows({"mine": needed}, "mine.yaml")["mine"]
    assert (row.title, row.role, row.access, row.phantoms) == ("mine", "source", "manual", False)
    row = read_rows({"mine": {**needed, "task": "segmentation", "parts": [3, 1, 2]}}, "")["mine"]
    assert (row.role, row.volumes) == ("task", 6)
    keys = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", ADDING.split("## Layouts")[0], re.MULTILINE)
    named = {key for cell in keys for key in re.findall(r"\w+", cell)}
    assert len(named) > 15
    assert named <= {field.name for field in dataclasses.fields(DataSet)}
    layouts = re.findall(r"^\| `(\w+)` \|", ADDING.split("## Layouts")[1], re.MULTILINE)
    assert sorted(layouts) == sorted({row.layout for row in ROWS})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"foldre": "x"}, "foldre: Unexpected keyword argument"),
        ({"folder": 3}, "folder: Input should be a valid string"),
        ({"modality": "PET"}, "modality: Input should be 'CT', 'MRI' or 'CT and MRI'"),
        ({"layout": "nifty"}, "layout: .*unknown layout 'nifty', expected one of bids"),
        ({"volumes": "many"}, "volumes: Input should be a valid integer"),
        ({"volumes": True}, "volumes: Input should be a valid integer"),
        ({"phantoms": "perhaps"}, "phantoms: Input should be a valid boolean"),
        ({"options": {}}, r"options\.patterns: nifti_tree needs it"),
        ({"options": {"pattern": ["x"]}}, r"options\.pattern: Extra inputs"),
        ({"options": {"patterns": ["("]}}, r"options\.patterns\.0: .*not a regular expression"),
        ({"options": {"patterns": ["x"]}}, r"options\.patterns\.0: .*group \(\?P<subject>"),
        ({"assumed": {"shapes": [1]}}, r"assumed\.shapes: Unexpected"),
        ({"files": [{"url": "https://x", "md5": "1"}]}, r"files\.files\.0\.md5: Unexp"),
        ({"files": {"list": "x", "all": {}}}, r"files\.list\.(all|each): "),
        (None, "expected a mapping of facts"),
    ],
)
def test_a_wrong_row_is_refused_by_name_and_key(change: dict[str, Any] | None, words: str) -> None:
    rows = copy.deepcopy(ADDED)
    rows["kits19"] = None if change is None else {**rows["kits19"], **change}
    with pytest.raises(ConfigError, match=f"^mine.yaml: kits19: {words}") as caught:
        read_rows(rows, "mine.yaml")
    assert "adding-a-dataset" in caught.value.hint
