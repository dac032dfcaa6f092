"""docs/configuration.md says what the models say."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

from voxseq.config.descriptions import DESCRIPTIONS
from voxseq.config.document import document, keys

REPAIR = "voxseq config docs --write"


def test_reference_is_up_to_date(root: Path) -> None:
    path = root / "docs/configuration.md"
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    diff = "\n".join(
        difflib.unified_diff(
            written.splitlines(), document().splitlines(), str(path), "models", lineterm="", n=1
        )
    )
    assert not diff, f"docs/configuration.md is stale; repair it with: {REPAIR}\n{diff}"


def test_every_key_is_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", document(), flags=re.MULTILINE)
    bare = [key for key, description in rows if not description.strip()]
    assert rows
    assert not bare, f"give these fields a description: {bare}"


def test_descriptions_belong_to_keys() -> None:
    dead = set(DESCRIPTIONS) - set(keys())
    assert not dead, f"descriptions without a key: {sorted(dead)}"


@pytest.mark.parametrize("key", ["scale", "validation_fraction", "merge_labels", "token_order"])
def test_keys_of_all_levels_are_listed(key: str) -> None:
    assert f"| `{key}` |" in document()


def test_links_lead_to_headings() -> None:
    text = document()
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_tables_have_four_columns() -> None:
    rows = [line for line in document().splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


def test_bounds_are_shown() -> None:
    text = document()
    assert "| `depth` | whole number > 0 |" in text
    assert "| `overlap` | number ≥ 0 and < 1 |" in text
