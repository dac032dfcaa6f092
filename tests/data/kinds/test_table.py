"""The table of kinds in docs/reliability.md and the tests of this folder name the same kinds."""

from __future__ import annotations

import re

from tests.helpers import ROOT

_MARK = re.compile(r'^@pytest\.mark\.kind\(\s*"([^"]+)"', re.MULTILINE)
_ROW = re.compile(r"^\| ([^|]+?) \| ([^|]+) \|$", re.MULTILINE)


def test_every_kind_of_the_table_has_a_test_and_every_test_a_row() -> None:
    page = (ROOT / "docs/reliability.md").read_text()
    section = page.split("## Kinds of input\n")[1].split("\n## ")[0]
    listed = [name for name, _ in _ROW.findall(section) if name not in ("kind", "---")]
    tests = ROOT.joinpath("tests/data/kinds").glob("test_*.py")
    tested = [name for path in tests for name in _MARK.findall(path.read_text())]
    assert sorted(listed) == sorted(set(tested))
    assert len(listed) == len(set(listed))
