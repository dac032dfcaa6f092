"""docs/configuration.md says what the models say."""

from __future__ import annotations

import difflib
import re

from tests.helpers import ROOT
from voxseq.config.document import document


def test_reference_is_up_to_date() -> None:
    path = ROOT / "docs/configuration.md"
    written, made = path.read_text(encoding="utf-8").splitlines(), document().splitlines()
    diff = "\n".join(difflib.unified_diff(written, made, str(path), "models", lineterm="", n=1))
    assert not diff, f"repair it with: voxseq config docs --write\n{diff}"


def test_keys_of_all_levels_are_described_in_four_columns() -> None:
    rows = [line for line in document().splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    keys = {row.split("`")[1]: row for row in rows if row.startswith("| `")}
    assert {"scale", "validation_fraction", "merge_labels", "token_order"} < set(keys)
    bare = [row for row in rows if row.endswith("|  |")]
    assert not bare, f"keys without a text below the field: {bare}"
    assert "whole number > 0" in keys["depth"]
    assert "number ≥ 0 and < 1" in keys["overlap"]


def test_links_lead_to_headings() -> None:
    text = document()
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
