"""Digests of configurations and of the code's behaviour."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxseq.base.digest import digest
from voxseq.base.errors import IntegrityError, VoxseqError
from voxseq.base.files import write_json
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


@pytest.mark.parametrize("edit", [*SAME, *OTHER])
def test_real_edits_change_behaviour_and_comments_docstrings_and_layout_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path)
    path = tmp_path / "module.py"
    old, new = {**SAME, **OTHER}[edit]
    assert old in SOURCE
    found = set()
    for text in (SOURCE, SOURCE.replace(old, new)):
        path.write_text(text, encoding="utf-8")
        found.add(behaviour([path]))
    assert len(found) == (1 if edit in SAME else 2)


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


@pytest.mark.parametrize(
    "text", [None, "", "[1]", "{", '{"data": 3}', '{"data": {"digest": "x"}}', CONFLICT]
)
def test_a_damaged_record_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    monkeypatch.setattr(fingerprint, "VERSIONS", tmp_path / "code.json")
    if text is not None:
        (tmp_path / "code.json").write_text(text)
    # A missing record is no obstacle to making one.
    for ask in (versions, *([] if text is None else [changed_actions])):
        with pytest.raises(IntegrityError, match="version control") as caught:
            ask()
        assert f"{tmp_path}/code.json" in caught.value.what
        assert ("conflict" in caught.value.what) == (text == CONFLICT)


def test_the_code_of_another_checkout_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "src/voxseq").mkdir(parents=True)
    (other / "src/voxseq/__init__.py").touch()
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
    chosen = {name: ACTIONS[name] for name in ("download", "probe", "tables")}
    monkeypatch.setattr(fingerprint, "ACTIONS", chosen)
    monkeypatch.setattr(fingerprint, "VERSIONS", tmp_path / "code.json")
    assert changed_actions() == list(chosen)
    recorded = {name: {"version": 1, "digest": found} for name, found in digests().items()}
    write_json(tmp_path / "code.json", recorded)
    assert changed_actions() == []
    recorded["download"]["digest"] = "0" * 16
    recorded["gone"] = recorded.pop("tables")
    write_json(tmp_path / "code.json", recorded)
    assert set(changed_actions()) == {"download", "gone", "tables"}


TRAINED = {"pretrain", "finetune", "probe", "baseline"}


#: File → actions whose code it is.
USED = {
    "cli/main.py": set(),
    "cli/show.py": set(),
    "engine/workspace.py": set(),
    "estimate/estimate.py": set(),
    "data/verify/report.py": set(),
    "plan/training.py": set(),
    "fetch/transfer.py": {"download"},
    "phantoms/mri.py": {"download"},
    "catalogue/datasets.yaml": {"download", "preprocess", "scores", "tables", "figures"},
    "report/seeds/model.py": {"scores", "tables", "figures"},
    "data/layouts/msd.py": {"download", "preprocess"},
    "data/prepare.py": {"preprocess"},
    "sequences/build.py": {"sequences"},
    "pretrain/methods/dino.py": {"pretrain"},
    "models/attention.py": {"pretrain", "adopt", "finetune", "probe"},
    # A probe writes its scores as a fine-tuning on the same kind of task does.
    "evaluation/dice.py": {"finetune", "baseline", "probe"},
    "training/loop.py": TRAINED,
    "report/templates/index.html": {"tables", "figures"},
    "base/files.py": set(ACTIONS),
}


@pytest.fixture(scope="module")
def closures() -> dict[str, set[Path]]:
    return {action: {*closure(place.split(":")[0])} for action, place in ACTIONS.items()}


@pytest.mark.parametrize("edited", USED)
def test_an_edit_asks_about_the_actions_that_use_the_file(
    closures: dict[str, set[Path]], edited: str
) -> None:
    assert (PACKAGE / edited).is_file()
    assert {name for name, files in closures.items() if PACKAGE / edited in files} == USED[edited]


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


NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
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


def test_fields_that_another_python_adds_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.12 gave functions and classes parameters of types, which are empty in most."""
    path = tmp_path / "code.py"
    path.write_text("def one(a=None):\n    return [a, 'text', 1.5, []]\n")
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path)
    before = behaviour([path])
    monkeypatch.setattr(ast.FunctionDef, "_fields", (*ast.FunctionDef._fields, "novel"))
    assert behaviour([path]) == before
    path.write_text("def one(a=None):\n    return [a, 'text', 1.5]\n")
    assert behaviour([path]) != before
