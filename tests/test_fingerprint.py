"""Digests of configurations and of the code's behaviour."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxseq import fingerprint
from voxseq.errors import IntegrityError, VoxseqError
from voxseq.fingerprint import (
    PACKAGE,
    behaviour,
    changed_units,
    digest,
    require_own_code,
    units,
    versions,
)
from voxseq.plan import CODE, CODE_OF_ALL, build_plan
from voxseq.runs import ACTIONS

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


def test_every_file_belongs_to_one_unit() -> None:
    paths = [path for members in units().values() for path in members]
    assert sorted(paths) == sorted(PACKAGE.rglob("*.py"))
    assert {"data", "plan", "cli", "training"} <= set(units())


def test_the_record_has_a_version_of_every_unit() -> None:
    """`voxseq code check` compares the digests; here only that no unit was forgotten."""
    assert set(versions()) == set(units())
    assert all(version >= 1 for version in versions().values())
    used = {unit for names in CODE.values() for unit in names} | set(CODE_OF_ALL)
    assert used <= set(units())
    assert set(CODE) == set(ACTIONS)


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
                changed_units()


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


def test_changed_removed_and_new_units_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxseq.files import read_json, write_json

    recorded = {name: {"version": 1, "digest": behaviour(p)} for name, p in units().items()}
    path = tmp_path / "code.json"
    monkeypatch.setattr(fingerprint, "VERSIONS", path)
    assert set(changed_units()) == set(units())
    write_json(path, recorded)
    assert changed_units() == {}
    recorded["data"]["digest"] = "0" * 16
    recorded["gone"] = recorded.pop("files")
    write_json(path, recorded)
    assert set(changed_units()) == {"data", "gone", "files"}
    assert read_json(path) == recorded


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


#: Units that decide no result: messages, reading and writing, and what ends in the
#: configuration of the run, which is part of its fingerprint anyway.
NEUTRAL = {
    *("__init__", "errors", "progress", "files", "config", "fingerprint", "methods", "faults"),
    "watch",
}


def _imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("voxseq."):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def _units_used(action: str) -> set[str]:
    """Units that the code of an action reaches through imports."""
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for members in units().values()
        for path in members
    }
    todo, seen = [ACTIONS[action].split(":")[0]], set()
    while todo:
        module = todo.pop()
        # The plan and the runs are in every fingerprint; what they import starts the action.
        if module in modules and module not in seen and module.split(".")[1] not in CODE_OF_ALL:
            seen.add(module)
            todo += _imported(modules[module])
    return {module.split(".")[1] for module in seen}


@pytest.mark.parametrize("action", CODE)
def test_the_versions_of_all_code_that_an_action_uses_are_in_its_fingerprint(
    root: Path, action: str
) -> None:
    """Its own ones, or by way of the runs that it depends on."""
    from voxseq.config import load_config

    plan = build_plan(load_config(root / "params.yaml"))
    covered = set(CODE_OF_ALL)
    todo = [next(name for name, run in plan.runs.items() if run.action == action)]
    while todo:
        run = plan.runs[todo.pop()]
        covered |= set(CODE[run.action])
        todo += run.inputs
    assert _units_used(action) - covered - NEUTRAL == set()
