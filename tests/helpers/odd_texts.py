"""Titles, labels and names of cases that mean something in one of the report's formats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from voxseq.config.report_run import ReportRun

TEXTS = (
    '=HYPERLINK("http://example.org","x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1:A9)",
    "\t=1+1",
    "＝1+1",
    "![x](http://example.org/x.png)",
    "[x](javascript:alert(1))",
    "https://example.org/ www.example.org",
    "a | b || c",
    "`code` ``` ~~~ ~~a~~",
    "**b** __c__ _d_ * e",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    '"><b>&lt;&amp;&copy;',
    "# head\n- item\n> quote\n\n| a |\n| - |",
    "line\r\nbreak\u2028and\x00control",
    r"\input{/etc/passwd} \\ $\foo$ 50% #1 {a} ~ ^ _ & [5cm]",
    "$x^2$ $\\foo$ _a_b^c \\frac 100 %",
    "[5cm]",
    "*",
    "Nodule 🫀",
)


def spoilt(study: ReportRun) -> ReportRun:
    """The study with such titles and labels: all of them, as far as it has room."""
    texts = iter([f"{text} {i}" for i, text in enumerate(TEXTS)] * 2)
    tasks = {}
    for name, task in study.tasks.items():
        changes = {"title": next(texts), "labels": tuple(next(texts) for _ in task.labels)}
        tasks[name] = task.model_copy(update=changes)
    variants = study.ablation.items()
    rows = study.beyond
    return study.model_copy(
        update={
            "tasks": tasks,
            "ablation": {k: v.model_copy(update={"title": next(texts)}) for k, v in variants},
            "beyond": tuple(replace(row, title=next(texts)) for row in rows),
        }
    )


def spoil_cases(folders: Iterator[Path]) -> None:
    """Rename the cases in the files of runs: ``case_03`` or ``p003`` gets the fourth text."""
    for path in (path for folder in folders for path in folder.iterdir()):
        if path.name in ("scores.csv", "predictions.csv"):
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
            frame["case"] = frame["case"].map(_case)
            frame.to_csv(path, index=False)
        elif path.suffix == ".npz":
            kept = dict(np.load(path))
            np.savez(path, **{**kept, "case": _case(str(kept["case"]))})


def _case(name: str) -> str:
    number = int("".join(filter(str.isdigit, name)) or -1)
    return f"{TEXTS[number % len(TEXTS)]} {number % len(TEXTS)} {name}" if number >= 0 else name
