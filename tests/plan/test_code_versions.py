"""Digests of configurations and of the code's behaviour."""

from __future__ import annotations

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
CONFLICT = "{\n    "models/attention.py": {"pretrain", "adopt", "finetune", "probe"},
    "evaluation/dice.py": {"finetune", "baseline"},
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
