"""Digests of configurations and of the code's behaviour."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxseq.base.digest import digest
from voxseq.base.errors import IntegrityError, VoxseqError
from voxseq.plan import code_versions as fingerprint
from voxseq.plan.actions import ACTIONS
from voxseq.plan.code_versions import (
    PACKAGE,
    behaviour,
    changed_actions,
    closure,
    digests,
    require_own_code,
    versions,
)

#: As git leaves a file that two sides have changed.
CONFLICT = "{\n<<<<<<< HEAD\n  1\n=======\n  2\n>>>>>>> other\n}\n"
SOURCE = '''"""A module."""

import math

LIMIT = 3  # voxels


class Box:
    """A box."""

    def volume(self, side: float) -> float:
        """Its volume."""
        return side**3


def area(side: float) -> float:
    """Its area."""
    # a remark
    return math.prod((side, side))


async def later() -> None:
    """Nothing."""
'''
SAME = {
    "comment changed": ("# voxels", "# voxels, not mm"),
    "comment removed": ("    # a remark\n", ""),
    "module docstring changed": ('"""A module."""', '"""Another description."""'),
    "docstring removed": ('    """Its area."""\n', ""),
    "comments added": ("    # a remark\n", "    # two\n    # remarks\n"),
    "class docstring changed": ('"""A box."""', '"""A cube."""'),
    "method docstring changed": (
        '"""Its volume."""',
        '"""Its volume.\n\n        mm³.\n        """',
    ),
    "only statement is a docstring": ('    """Nothing."""', "    pass"),
    "lines added": ("\n\nclass Box", "\n\n\n\nclass Box"),
    "layout changed": ("side**3", "(side  **  3)"),
    "quotes changed": ('"""A box."""', "'''A box.'''"),
}
OTHER = {
    "number": ("LIMIT = 3", "LIMIT = 4"),
    "type of a number": ("LIMIT = 3", "LIMIT = 3.0"),
    "operator": ("side**3", "side*3"),
    "name": ("def area", "def surface"),
    "default": ("side: float)", "side: float = 1.0)"),
    "annotation": ("-> float", "-> int"),
    "string that is not a docstring": ("# a remark", '"a remark"'),
    "import": ("import math", "import cmath as math"),
    "order": ("side, side", "side, 1, side"),
    "decorator": ("def area", "@staticmethod\ndef area"),
    "statement": ("    # a remark", "    side = abs(side)"),
}


def digest_of(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(text, encoding="utf-8")
    return behaviour([path])


@pytest.mark.parametrize("edit", SAME)
def test_comments_docstrings_and_layout_are_no_behaviour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    old, new = SAME[edit]
    assert old in SOURCE
    before = digest_of(tmp_path, SOURCE, monkeypatch)
    assert digest_of(tmp_path, SOURCE.replace(old, new), monkeypatch) == before


@pytest.mark.parametrize("edit", OTHER)
def test_real_edits_change_behaviour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    old, new = OTHER[edit]
    assert old in SOURCE
    before = digest_of(tmp_path, SOURCE, monkeypatch)
    assert digest_of(tmp_path, SOURCE.replace(old, new), monkeypatch) != before


def test_moving_a_function_to_another_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path)
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("A = 1\nB = 2\n")
    two.write_text("")
    before = behaviour([one, two])
    one.write_text("A = 1\n")
    two.write_text("B = 2\n")
    assert behaviour([one, two]) != before


def test_the_record_has_a_version_of_the_code_of_every_action() -> None:
    """`voxseq code check` compares the digests; here only that no action was forgotten."""
    assert set(versions()) == set(ACTIONS)
    assert all(version >= 1 for version in versions().values())


def test_a_damaged_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "code.json"
    monkeypatch.setattr(fingerprint, "VERSIONS", path)
    for text in (None, "", "[1]", "{", '{"data": 3}', '{"data": {"digest": "x"}}', CONFLICT):
        if text is not None:
            path.write_text(text)
        with pytest.raises(IntegrityError, match="version control"):
            versions()
        if text is not None:
            with pytest.raises(IntegrityError, match="version control"):
                changed_actions()


def test_the_conflict_of_a_merge_is_called_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "VERSIONS", tmp_path / "code.json")
    (tmp_path / "code.json").write_text(CONFLICT)
    with pytest.raises(IntegrityError, match=f"{tmp_path}/code.json.*conflict"):
        versions()


def make_package(folder: Path) -> Path:
    """A checkout with a package of its own."""
    (folder / "src/voxseq").mkdir(parents=True)
    (folder / "src/voxseq/__init__.py").write_text("")
    return folder


def test_the_code_of_another_checkout_is_refused(tmp_path: Path) -> None:
    other = make_package(tmp_path / "other")
    (other / "docs").mkdir()
    for folder in (other, other / "docs"):
        with pytest.raises(VoxseqError) as caught:
            require_own_code(folder)
        assert str(PACKAGE) in caught.value.what
        assert str(other / "src/voxseq") in caught.value.what
        assert f"PYTHONPATH={other}/src" in caught.value.hint


def test_ones_own_code_and_folders_without_any_are_no_obstacle(tmp_path: Path) -> None:
    require_own_code(tmp_path)
    root = PACKAGE.parents[1]
    require_own_code(root)
    require_own_code(root / "docs")
    (tmp_path / "link").symlink_to(root)
    require_own_code(tmp_path / "link")
    # A folder of that name without a package is none.
    (tmp_path / "empty/src/voxseq").mkdir(parents=True)
    require_own_code(tmp_path / "empty")


def test_changed_removed_and_new_actions_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxseq.base.files import read_json, write_json

    recorded = {name: {"version": 1, "digest": found} for name, found in digests().items()}
    path = tmp_path / "code.json"
    monkeypatch.setattr(fingerprint, "VERSIONS", path)
    assert changed_actions() == list(ACTIONS)
    write_json(path, recorded)
    assert changed_actions() == []
    recorded["download"]["digest"] = "0" * 16
    recorded["gone"] = recorded.pop("tables")
    write_json(path, recorded)
    assert set(changed_actions()) == {"download", "gone", "tables"}
    assert read_json(path) == recorded


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package whose code is asked about."""
    package = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "PACKAGE", package)
    return package


TRAINED = {"pretrain", "finetune", "probe", "baseline"}


@pytest.mark.parametrize(
    ("edited", "stale"),
    [
        ("cli/main.py", set()),
        ("cli/show.py", set()),
        ("engine/workspace.py", set()),
        ("estimate/estimate.py", set()),
        ("data/verify/report.py", set()),
        ("plan/training.py", set()),
        ("fetch/transfer.py", {"download"}),
        ("phantoms/mri.py", {"download"}),
        ("catalogue/datasets.yaml", {"download", "preprocess", "tables", "figures"}),
        ("data/layouts/msd.py", {"download", "preprocess"}),
        ("data/prepare.py", {"preprocess"}),
        ("sequences/build.py", {"sequences", "pretrain", "tables", "figures"}),
        ("pretrain/methods/dino.py", {"pretrain"}),
        ("models/attention.py", {"pretrain", "finetune", "probe"}),
        ("evaluation/dice.py", {"finetune", "probe", "baseline"}),
        ("training/loop.py", TRAINED),
        ("report/pages/page.html", {"tables", "figures"}),
        ("base/files.py", set(ACTIONS)),
    ],
)
def test_an_edit_asks_about_the_actions_that_use_the_file(
    copied: Path, edited: str, stale: set[str]
) -> None:
    before = digests()
    path = copied / edited
    with path.open("a") as file:
        file.write("\nEDITED = True\n")
    fingerprint._used_by.cache_clear()
    assert {name for name, found in digests().items() if found != before[name]} == stale


def test_what_is_imported_late_or_by_name_counts_and_what_types_need_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / PACKAGE.name
    (package / "parts").mkdir(parents=True)
    monkeypatch.setattr(fingerprint, "PACKAGE", package)
    sources = {
        "start.py": (
            '"""See voxseq.remark."""\nfrom typing import TYPE_CHECKING\nimport logging\n'
            "if TYPE_CHECKING:\n    from voxseq.typed import T\n"
            "LOG = logging.getLogger('voxseq.logged')\n"
            "def late():\n    from voxseq import imported\n"
            "    load('voxseq.function:name')\n    load(f'voxseq.parts.{late}')\n"
        ),
        **dict.fromkeys(["remark.py", "typed.py", "logged.py", "imported.py", "function.py"], ""),
        **dict.fromkeys(
            ["__init__.py", "parts/__init__.py", "parts/one.py", "parts/facts.csv"], ""
        ),
    }
    for name, source in sources.items():
        (package / name).write_text(source)
    found = {path.relative_to(package).as_posix() for path in closure("voxseq.start")}
    parts = {"parts/__init__.py", "parts/one.py", "parts/facts.csv"}
    assert found == {"start.py", "imported.py", "function.py", *parts}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON, min_size=2))
def test_a_fingerprint_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    word = digest(value)
    assert word == digest(dict(reversed(value.items())))
    assert len(word) == fingerprint.LENGTH
    assert set(word) <= set("0123456789abcdef")


def test_a_fingerprint_tells_values_apart() -> None:
    values = [{}, [], 0, "0", False, None, [1, 2], [2, 1], {"a": 1}, {"a": 1.5}, {"a": {"b": 1}}]
    assert len({digest(value) for value in values}) == len(values)
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))
