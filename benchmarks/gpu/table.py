"""The lines of a check as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a check; of a part that was done again the last one."""
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return list({line["part"]: line for line in lines}.values())


def document(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page: a table of the parts, then one of the values and one of the checks of each."""
    first = lines[0]
    versions = ", ".join(f"{name} {value}" for name, value in first["versions"].items())
    found = [
        "# Check on a GPU",
        "",
        "Written by `python -m benchmarks.gpu --table` from the lines of `make bench-gpu`. "
        "[Performance](../docs/performance.md) explains the parts.",
        "",
        f"- device {first['device']}, size {first['size']}",
        f"- {versions}",
        "",
        "| part | passed | s | why not |",
        "|---|---|--:|---|",
    ]
    for line in lines:
        verdict = {True: "yes", False: "**no**", None: "not run"}[line["ok"]]
        failed = [check["name"] for check in line["checks"] if not check["ok"]]
        reasons = [line["error"], *failed, line["skipped"].get("part")]
        why = "; ".join(_cell(reason) for reason in reasons if reason)
        found.append(f"| {line['part']}: {line['title']} | {verdict} | {line['seconds']} | {why} |")
    for line in lines:
        title = str(line["title"])
        found += ["", f"## {title[0].upper()}{title[1:]}", *_tables(line)]
    return "\n".join(found) + "\n"


def _tables(line: Mapping[str, Any]) -> Iterator[str]:
    if line["values"]:
        yield from ("", "| value | median | lowest | highest | n |", "|---|--:|--:|--:|--:|")
    for name, value in line["values"].items():
        cells = (
            [value[key] for key in ("median", "lowest", "highest", "n")]
            if isinstance(value, dict)
            else [value, "", "", ""]
        )
        yield f"| {_cell(name)} | {' | '.join(_cell(cell) for cell in cells)} |"
    if line["checks"]:
        yield from ("", "| must hold | found | wanted | met |", "|---|---|---|---|")
    for check in line["checks"]:
        met = "yes" if check["ok"] else "**no**"
        shown = " | ".join(_cell(check[key]) for key in ("name", "found", "wanted"))
        yield f"| {shown} | {met} |"
    if line["skipped"]:
        yield ""
    for name, why in line["skipped"].items():
        yield f"- Not measured: {name} ({why})."


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "/").split())
