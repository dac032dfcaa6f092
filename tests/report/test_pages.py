"""The report page: what it begins with, and how it is built."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers import fake_study
from tests.helpers.own_study import own
from voxseq.config.report_run import ReportRun
from voxseq.plan.outputs import SHEETS
from voxseq.report.findings import findings
from voxseq.report.pages.index import render_index
from voxseq.report.results import DIFFERENCE_COLUMNS, TABLES_RUN
from voxseq.report.sheet import (
    Block,
    Cell,
    Column,
    Mark,
    Row,
    Sheet,
    read_sheets,
)


def study(task: str = "mask") -> ReportRun:
    return own((task,), ("unetr", "vit", "mae3d", "ours"), seeds=(0, 1))


def table(study: ReportRun, metric: str, cells: dict[str, tuple[float | None, Mark]]) -> Sheet:
    """Table 1 or 6 with means and marks of methods."""
    (task,) = study.tasks.values()
    column = Column(task.title, task.name, metric, unit=task.unit)
    rows = tuple(
        Row(study.title_of(method), (Cell(0 if mean is None else 2, 2, mean, mark=mark),))
        for method, (mean, mark) in cells.items()
    )
    number = 1 if metric == "dice" else 6
    return Sheet(f"table{number}", "a", (Block("", (column,), rows),), number=number, papers=False)


def gaps(study: ReportRun, metric: str, ends: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Differences from ours, each with its interval."""
    (task,) = study.tasks
    rows = [
        (1, "finetune", task, 1.0, metric, other, "", (low + high) / 2, low, high)
        for other, (low, high) in ends.items()
    ]
    return pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))


CASES: dict[str, tuple[dict[str, tuple[float | None, Mark]], dict[str, Any], list[str]]] = {
    "nothing clear": (
        {"unetr": (58.0, "unclear"), "mae3d": (61.0, "unclear"), "ours": (60.0, "")},
        {"unetr": (-0.01, 0.05), "mae3d": (-0.04, 0.02)},
        [
            "On One mask, MAE3D has the best mean: Dice 61.",
            "of 3: Dice 60.",
            "no other method is clearly better or worse.",
            "UNETR, the same network from random initialisation: Dice 58.",
            "−2.0",
            "not clear",
        ],
    ),
    "ours is best": (
        {"unetr": (50.0, "below"), "mae3d": (None, ""), "ours": (60.0, "")},
        {"unetr": (0.08, 0.12)},
        [
            "AR (autoregressive) has the best mean: Dice 60.",
            "next is UNETR, Dice 50.",
            "is number 1 of 2",
            "clearly different: UNETR.",
            "clearly worse.",
        ],
    ),
    "one seed": (
        {"unetr": (50.0, ""), "ours": (60.0, "")},
        {"unetr": (np.nan, np.nan)},
        ["with this number of seeds no difference is called clear", "without a test"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_three_sentences_of_findings(case: str) -> None:
    cells, ends, words = CASES[case]
    chosen = study()
    lines = findings(chosen, (table(chosen, "dice", cells),), gaps(chosen, "dice", ends))
    assert len(lines) == 3
    for word in words:
        assert word in " ".join(lines), lines
    # The interval of the other minus ours, its lower end first.
    if case == "ours is best":
        (low, high) = re.findall(r"\[−(\d+)\.\d*, −(\d+)", lines[2])[0]
        assert (low, high) == ("12", "8")


def test_the_best_of_errors_is_the_smallest() -> None:
    chosen = study("age")
    cells: dict[str, tuple[float | None, Mark]] = {"vit": (4.0, "above"), "ours": (5.0, "")}
    lines = findings(
        chosen, (table(chosen, "mae", cells),), gaps(chosen, "mae", {"vit": (0.5, 1.5)})
    )
    assert lines[0].startswith("On Age at scan, ViT has the best mean: MAE 4.00 years; −1.00")
    assert "is number 2 of 2" in lines[1]


@pytest.mark.parametrize("cells", [{}, {"ours": (60.0, "")}, {"ours": (None, "")}])
def test_without_two_methods_there_are_no_findings(cells: dict[str, Any]) -> None:
    chosen = study()
    sheets = (table(chosen, "dice", cells),) if cells else ()
    assert findings(chosen, sheets, gaps(chosen, "dice", {})) == ()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> fake_study.Context:
    context = fake_study.quiet(tmp_path_factory.mktemp("s"), "task07_pancreas", "la", seeds=(0, 1))
    context.make("tables")
    return context


def page_of(context: fake_study.Context) -> str:
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + (900).to_bytes(4, "big")
    return render_index(context.config, context.inputs, {"heatmap": png})


def test_findings_and_claims_come_first_and_runs_last(context: fake_study.Context) -> None:
    sheets = [sheet.name for sheet in read_sheets(context.inputs[TABLES_RUN] / SHEETS)]
    assert sheets[0] == "claims"
    page = page_of(context)
    assert re.findall(r'<section id="(\w+)"', page) == [*sheets, "heatmap", "runs"]
    assert page.index("Findings") < page.index('id="claims"')


def test_every_heading_leads_back_to_the_top(context: fake_study.Context) -> None:
    page = page_of(context)
    assert page.count('id="top"') == 1
    assert page.count("<h2>") == page.count('<a href="#top">') > 4
    anchors = set(re.findall(r'href="#(\w+)"', page))
    assert anchors <= set(re.findall(r'id="(\w+)"', page))


def test_numbers_of_a_cell_are_below_its_mean(context: fake_study.Context) -> None:
    """So that all columns of Table 1 fit beside each other."""
    cells = re.findall(
        r'<td(?: class="best")?>([\d.]+)<br><small>([^<]+)</small>', page_of(context)
    )
    assert len(cells) > 5
    assert all(rest.startswith(("±", "[")) for _, rest in cells)


def test_a_wide_picture_is_no_wider_than_it_was_drawn(context: fake_study.Context) -> None:
    assert 'style="min-width: min(900px, 62rem)"' in page_of(context)


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_texts_have_the_contrast_of_wcag_aa(context: fake_study.Context) -> None:
    schemes = re.findall(r":root \{(.*?)\}", page_of(context), re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#\w+)", scheme))
        for front in ("text", "soft", "link"):
            for behind in ("page", "group", "good", "bad"):
                lights = sorted(luminance(colours[name]) for name in (front, behind))
                assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5, (front, behind)
