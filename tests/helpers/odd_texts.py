"""Titles, labels and names of cases that mean something in one of the report's formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tests.helpers import fake_study

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


def spoil(context: fake_study.Context) -> None:
    """Give a study such titles, labels and cases: all of them, as far as it has room."""
    texts = [f"{text} {i}" for i, text in enumerate(TEXTS)]
    given = iter([*texts, *texts])
    labels: dict[str, str] = {}
    for task in context.config["tasks"].values():
        task["title"] = next(given)
        labels |= {label: next(given) for label in task["labels"]}
        task["labels"] = [labels[label] for label in task["labels"]]
    for variant in context.config["ablation"].values():
        variant["title"] = next(given)
    for row in context.config.get("beyond", ()):
        row["title"] = next(given)
    for folder in context.inputs.values():
        for name in ("scores.csv", "predictions.csv"):
            if (folder / name).is_file():
                _rename(folder / name, labels, texts)
        if (folder / "worst.npz").is_file():
            with np.load(folder / "worst.npz") as arrays:
                kept = dict(arrays)
            np.savez(folder / "worst.npz", **{**kept, "case": _case(str(kept["case"]), texts)})


def _rename(path: Path, labels: dict[str, str], texts: list[str]) -> None:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame["case"] = [_case(case, texts) for case in frame["case"]]
    if "label" in frame:
        frame["label"] = [labels.get(label, label) for label in frame["label"]]
    frame.to_csv(path, index=False)


def _case(name: str, texts: list[str]) -> str:
    """``case_03`` or ``p003`` → the fourth text."""
    number = int("".join(c for c in name if c.isdigit()) or -1)
    return f"{texts[number % len(texts)]} {name}" if number >= 0 else name
