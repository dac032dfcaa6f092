"""The notebooks as they are committed: executed, with pictures. `make test-notebook` runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: Enough for some pictures, and few enough for a repository.
MOST_BYTES = 600_000


def outputs(notebook: Path) -> list[dict[str, Any]]:
    """Outputs of all cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", ())]


def test_there_is_one() -> None:
    assert [notebook.name for notebook in NOTEBOOKS] == ["use-an-encoder.ipynb"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_it_was_run_from_the_first_cell_to_the_last(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    kinds = {output["output_type"] for output in outputs(notebook)}
    assert "error" not in kinds
    pictures = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(pictures) >= 3
    assert notebook.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_it_names_no_folder_of_a_machine(notebook: Path) -> None:
    for output in outputs(notebook):
        text = "".join(output.get("text", ())) + "".join(
            output.get("data", {}).get("text/plain", "")
        )
        assert not re.search(r"(?:^|[\s'\"(=])/(?:home|root|tmp|work|Users)/", text), text
        assert output.get("name") != "stderr", text
