"""Draw docs/architecture.svg from the code: floors of pyproject.toml, rooms, and who uses whom.

`python docs/draw_architecture.py` writes the picture; a test fails when it is out of date.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import networkx as nx

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/voxseq"
PICTURE = ROOT / "docs/architecture.svg"
WIDTH, HEIGHT, GAP, MARGIN = 1180, 46, 26, 20


def floors() -> list[list[str]]:
    """Rooms of each floor, the highest first, without single modules such as ``__main__``."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c["layers"] for c in contracts["contracts"] if c["type"] == "layers")
    named = [[room.strip() for room in layer.split("|")] for layer in layers]
    rooms = [[room for room in floor if (PACKAGE / room).is_dir()] for floor in named]
    return [floor for floor in rooms if floor]


def imports(room: str) -> set[str]:
    """Other rooms that the modules of a room import, for types too."""
    found = set()
    for path in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("voxseq"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found |= {name.split(".")[1] for name in names}
            elif isinstance(node, ast.Import):
                found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("voxseq.")}
    return found - {room}


def description(room: str) -> str:
    """First sentence of a room's docstring."""
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").split("\n")[0].rstrip(".")


def picture() -> str:
    """The SVG: one box per room, one arrow per import that no longer path explains."""
    rooms = floors()
    graph = nx.DiGraph()
    known = {room for floor in rooms for room in floor}
    graph.add_nodes_from(sorted(known))
    graph.add_edges_from((r, o) for r in sorted(known) for o in sorted(imports(r) & known))
    boxes = {}
    for level, floor in enumerate(rooms):
        width = (WIDTH - 2 * MARGIN - (len(floor) - 1) * MARGIN) / len(floor)
        width = min(width, 520)
        left = (WIDTH - len(floor) * width - (len(floor) - 1) * MARGIN) / 2
        for place, room in enumerate(floor):
            x = left + place * (width + MARGIN)
            boxes[room] = (x, MARGIN + level * (HEIGHT + GAP), width)
    height = MARGIN * 2 + len(rooms) * (HEIGHT + GAP) - GAP
    parts = [*_arrows(nx.transitive_reduction(graph), boxes), *_boxes(boxes)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif">\n<title>Floors and rooms of voxseq</title>\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#556"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _arrows(graph: nx.DiGraph, boxes: dict[str, tuple[float, float, float]]) -> Iterator[str]:
    for upper, lower in sorted(graph.edges):
        (x1, y1, w1), (x2, y2, w2) = boxes[upper], boxes[lower]
        start, end = (x1 + w1 / 2, y1 + HEIGHT), (x2 + w2 / 2, y2 - 2)
        yield (
            f'<path d="M{start[0]:.0f} {start[1]:.0f}L{end[0]:.0f} {end[1]:.0f}" '
            'stroke="#99a" fill="none" marker-end="url(#tip)"/>'
        )


def _boxes(boxes: dict[str, tuple[float, float, float]]) -> Iterator[str]:
    for room, (x, y, width) in boxes.items():
        middle = x + width / 2
        yield (
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{HEIGHT}" rx="6" '
            'fill="#eef3fb" stroke="#446"/>'
            f'<text x="{middle:.0f}" y="{y + 19:.0f}" text-anchor="middle" font-size="15" '
            f'font-weight="bold">{room}</text>'
            f'<text x="{middle:.0f}" y="{y + 36:.0f}" text-anchor="middle" font-size="10.5">'
            f"{escape(_fitting(description(room), width))}</text>"
        )


def _fitting(text: str, width: float) -> str:
    most = int(width / 6)
    return text if len(text) <= most else text[: most - 1].rsplit(" ", 1)[0] + " …"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
